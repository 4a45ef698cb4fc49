"""How long cells take and what their files take: from the rows of a grid where it has some, else from a few timed steps.

Legend: N test rows.
"""

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cache
from tcs.grid.recipe import NO_PIXELS, STUDENT_REFERENCES, TEACHER, Cell

# Seconds of one core for 10 classes x 16 shots x 512 dims, in proportion to all three (tcs.grid.references).
IBM2_SECONDS, IBM2_SIZE = 40.0, 10 * 16 * 512
REFERENCE_SECONDS = 2.0  # of the others, for 10,000 rows of the pool
REFERENCE_ROWS = 10_000

FLOAT_BYTES, PREDICTION_BYTES = 4, 4  # a class and a negative log-likelihood of two bytes each


Timed = tuple[str, str, bool]


def timed_as(cell: Cell) -> Timed:
    """What cells that take about as long have in common: data set, student, and whether it learns from a pool, whose batches are
    larger than those of a few labelled rows."""
    return (cell.dataset, cell.model, cell.method.uses_pool and cell.unlabelled not in NO_PIXELS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """What the cells that are left take: seconds by cell, of which `unknown` cells have none."""

    seconds: Mapping[tuple[str, ...], float]
    unknown: int

    @property
    def total(self) -> float:
        """Seconds of all cells that are known, one after the other."""
        return sum(self.seconds.values())

    def of(self, cells: Sequence[Cell]) -> float:
        """Seconds of some of them."""
        return sum(self.seconds.get(cell.key, 0.0) for cell in cells)


def estimate(
    cells: Sequence[Cell],
    rows: Sequence[Mapping[str, Any]],
    store_of: Callable[[Cell], cache.Store],
    timed: Mapping[Timed, float] | None = None,
) -> Estimate:
    """Seconds of each cell: the median wall time of its rows with other seeds, shots and pools (of its student's other methods on
    the data set, where it has none), or what `timed` says; of the teacher's references what they are known to take."""
    spent = _spent(rows)
    found: dict[tuple[str, ...], float] = {}
    for cell in cells:
        own = (cell.dataset, cell.model)
        known = spent.get((*own, cell.method.label)) or spent.get((*own, None))
        if cell.model == TEACHER:
            found[cell.key] = (
                statistics.median(known) if known and cell.method.label != "ibm2" else _reference(cell, store_of(cell))
            )
        elif known:
            found[cell.key] = statistics.median(known)
        elif timed is not None and timed_as(cell) in timed:
            found[cell.key] = timed[timed_as(cell)]
    return Estimate(seconds=found, unknown=len(cells) - len(found))


def _spent(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, str | None], list[float]]:
    """Wall seconds of finished rows by (data set, model, method), and by (data set, model, None) for students that methods share."""
    spent: dict[tuple[str, str, str | None], list[float]] = {}
    for row in rows:
        if row["status"] != "ok" or not row["wall_s"]:
            continue
        own = (row["dataset"], row["model"])
        keys = [(*own, row["method"])] + ([] if row["model"] == TEACHER else [(*own, None)])
        for key in keys:
            spent.setdefault(key, []).append(float(row["wall_s"]))
    return spent


def _reference(cell: Cell, store: cache.Store) -> float:
    """Seconds of a reference row of the teacher."""
    dims = max((readout.dims for readout in store.readouts.values()), default=512)
    if cell.method.label == "ibm2":
        return IBM2_SECONDS * len(store.classes) * cell.shots * dims / IBM2_SIZE
    return max(0.1, REFERENCE_SECONDS * len(store) / REFERENCE_ROWS)


def bytes_of(cells: Sequence[Cell], parameters: Mapping[str, float], rows_of: Callable[[Cell], int]) -> tuple[int, int]:
    """(bytes of runs, bytes of predictions) of some cells: two files of weights a student, and N predictions a cell."""
    students = [cell for cell in cells if cell.model != TEACHER]
    runs = sum(2 * FLOAT_BYTES * parameters.get(cell.model, 0.0) for cell in students)
    return round(runs), PREDICTION_BYTES * sum(map(rows_of, cells))


def is_timed(cell: Cell) -> bool:
    """Whether a few steps of the trainer say how long a cell takes."""
    return cell.model != TEACHER and cell.method.label not in STUDENT_REFERENCES
