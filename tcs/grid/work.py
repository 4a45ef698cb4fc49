"""What every process of a grid does, however it was started: take a group of cells, train it, add its rows, note what became of it.

A cell that fails is tried once more when all others were begun; then its row says that it failed, and why. A cell whose process
was killed was tried, too: where that happens twice within a command it fails, so that no cell can end one process after the other.
"""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tcs.grid.cells import FAILED, RUNNING, CellLedger, CellState
from tcs.grid.claims import claimed_groups
from tcs.grid.ledger import add_row, load_results, row_key
from tcs.grid.picture import Shown, steps_of
from tcs.grid.recipe import Cell
from tcs.grid.streams import Group, without
from tcs.reporting.rows import PREDICTIONS, RESULTS
from tcs.runtime import say
from tcs.training.progress import ShowSteps

TRIES = 2  # of a cell, by one command
LONGEST_NAME = 24  # of a student that is at work

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """How the cells of a grid are trained and scored, in the folder `out`.

    `train_together` trains the students of a group on one stream and returns, by key, what became of those whose training ended
    there: empty where it is done, else what it failed with. `row` takes that (None where there is nothing of the kind, and the
    student is still to be trained) and gives the row of the cell.
    """

    out: pathlib.Path
    train_together: Callable[[Sequence[Cell], ShowSteps], Mapping[tuple[str, ...], str]]
    row: Callable[[Cell, ShowSteps, str | None], Row]


def run_groups(work: Work, groups: Sequence[Group], cells: CellLedger, shown: Shown) -> None:
    """Run the cells of `groups` that no process has done or is at, and add their rows to results.csv."""
    crew = _Crew(work, cells, shown)
    for attempt in range(TRIES):
        left = without(groups, crew.now_over())
        # What failed once is tried alone: memory may have been what there was too little of.
        left = left if attempt == 0 else [(cell,) for group in left for cell in group]
        for group in claimed_groups(work.out, left, crew.is_over, crew.pass_by):
            for part in crew.parts(group):
                crew.run(part)


def done_keys(out: pathlib.Path) -> set[tuple[str, ...]]:
    """The keys of the cells whose rows say that they are done."""
    return {row_key(row) for row in load_results(out / RESULTS) if row["status"] == "ok"}


class _Crew:
    """One process at the cells of a grid."""

    def __init__(self, work: Work, cells: CellLedger, shown: Shown) -> None:
        self._work, self._cells, self._shown = work, cells, shown
        self._read: tuple[tuple[int, int, int], dict[tuple[str, ...], str]] | None = None

    def now_over(self) -> Callable[[Cell], bool]:
        """Whether nothing is left to be done about a cell by this command, by the rows that are there now."""
        statuses = self._statuses()

        def is_over(cell: Cell) -> bool:
            status = statuses.get(cell.key)
            return status == "ok" or (status == "failed" and self._cells.tries(cell) >= TRIES)

        return is_over

    def _statuses(self) -> dict[tuple[str, ...], str]:
        """The status of each row by its cell. Asked at every cell, so results.csv is read only where another file stands there than the
        last time: each row that is added replaces it whole."""
        path = self._work.out / RESULTS
        if not path.exists():
            return {}
        found = path.stat()  # before it is read: what replaces it meanwhile is read the next time
        mark = (found.st_ino, found.st_size, found.st_mtime_ns)
        if self._read is None or self._read[0] != mark:
            self._read = (mark, {row_key(row): row["status"] for row in load_results(path)})
        return self._read[1]

    def is_over(self, cell: Cell) -> bool:
        """The same, by the rows that are there when it is asked."""
        return self.now_over()(cell)

    def pass_by(self, cell: Cell) -> None:
        """Another process has done the cell meanwhile."""
        self._shown.end(cell.digest, "", "passed")

    def parts(self, group: Sequence[Cell]) -> Iterator[list[Cell]]:
        """The cells of a group that are trained together: all but those that failed, or were killed more than once, before."""
        together: list[Cell] = []
        alone: list[Cell] = []
        for cell in group:
            state = self._cells.state(cell)
            if state is not None and state.state == RUNNING:
                say(f"{named([cell])}: the process at it, {state.where}, ended without finishing; trying again.")
            (alone if state is not None and _goes_alone(state) else together).append(cell)
        if together:
            yield together
        yield from ([cell] for cell in alone)

    def run(self, group: list[Cell]) -> None:
        """Train some cells and add their rows."""
        hopeless = [cell for cell in group if self._cells.tries(cell) >= TRIES]
        for cell in hopeless:
            self._give_up(cell)
        group = [cell for cell in group if cell not in hopeless]
        if not group:
            return
        self._cells.begin(group)
        self._shown.begin(len(group), named(group))
        started, show = time.perf_counter(), steps_of(self._shown)
        ended = self._work.train_together(group, show) if len(group) > 1 else {}
        shared = (time.perf_counter() - started) / len(group)
        for cell in group:
            started = time.perf_counter()
            row = self._work.row(cell, show, ended.get(cell.key))
            self._record(cell, row, shared + time.perf_counter() - started)

    def _give_up(self, cell: Cell) -> None:
        """The row of a cell that was begun as often as a command may, and is not done: its processes were killed."""
        state = self._cells.state(cell)
        at = "" if state is None else f" (last {state.where})"
        reason = f"the process that trained it was ended from outside, {TRIES} times{at}; see the system's log."
        self._cells.begin([cell])
        self._shown.begin(1, named([cell]))
        self._record(cell, self._work.row(cell, steps_of(self._shown), reason), 0.0)

    def _record(self, cell: Cell, row: Row, seconds: float) -> None:
        """Add the row, unless the cell is to be tried again, and note the end of the attempt."""
        failed = row["status"] != "ok"
        name, identity = cell.name, cell.digest
        if failed and self._cells.tries(cell) < TRIES:
            self._cells.end(cell, seconds=seconds, error=row["error"])
            self._shown.end(identity, f"{name}: failed, and is tried again at the end: {row['error']}", "again")
            return
        # The row last: it is what says that nothing is left to be done.
        error = row["error"] if failed else ""
        self._cells.end(cell, seconds=seconds, error=error, predictions=self._predictions(identity))
        add_row(self._work.out, row)
        told = f"FAILED: {row['error']}" if failed else f"top1 {row['top1']:.2f}"
        self._shown.end(identity, f"{name}: {told}", "failed" if failed else "done")

    def _predictions(self, identity: str) -> str:
        """Where the predictions of a cell lie, if they were kept."""
        path = f"{PREDICTIONS}/{identity}.npz"
        return path if (self._work.out / path).exists() else ""


def _goes_alone(state: CellState) -> bool:
    """Whether the stream may have been what a cell failed of."""
    return state.state == FAILED or (state.state == RUNNING and state.attempt > 1)


def named(cells: Sequence[Cell]) -> str:
    """The cells of a stream in a few words, which leave room in a line for the rest."""
    first = cells[0]
    model = first.model if len(first.model) <= LONGEST_NAME else f"{first.model[: LONGEST_NAME - 1]}…"
    others = "" if len(cells) == 1 else f" and {len(cells) - 1} more"
    return " ".join((f"{model}{others}", *first.key[-4:]))
