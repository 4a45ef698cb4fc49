"""What a few-shot grid found: results.csv as typed rows, grouped into tables of methods x shots."""

import dataclasses
import pathlib
from collections.abc import Iterable, Sequence

from tcs.errors import ArtefactError
from tcs.reporting.intervals import Interval, t_interval
from tcs.reporting.rows import REMEDY, load_rows

TEACHER = "teacher"  # the model of a reference row
NO_POOL = "none"
COSTS = ("params_m", "steps", "images_seen", "wall_s", "images_per_s", "peak_mem_mb")
ORIGINS = ("teacher", "cache_id", "targets_id", "commit")
LATER_ORIGINS = ("test_id", "recipe_id", "semantics")  # which rows of earlier releases lack
NEEDED = ("model", "method", "shots", "seed", "split_id", "unlabelled", "status", "error", "top1", *COSTS, *ORIGINS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One row of results.csv; `top1` is in percent, None where the run failed."""

    model: str
    method: str
    shots: int
    seed: str
    split_id: str
    unlabelled: str
    error: str
    top1: float | None
    costs: dict[str, float]
    origins: dict[str, str]

    @property
    def failed(self) -> bool:
        """Whether there is no accuracy to report."""
        return self.top1 is None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """The runs of one student and one unlabelled pool, with the rows that need no pool and the teacher's references, those of
    other pools left out."""

    model: str
    unlabelled: str
    runs: tuple[Run, ...]

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods in order of appearance, the teacher's references last."""
        ordered = sorted(self.runs, key=lambda run: run.model == TEACHER)
        return tuple(dict.fromkeys(run.method for run in ordered))

    @property
    def references(self) -> frozenset[str]:
        """The methods that are no student but the frozen teacher."""
        return frozenset(run.method for run in self.runs if run.model == TEACHER)

    @property
    def shots(self) -> tuple[int, ...]:
        """Shot counts, ascending."""
        return tuple(sorted({run.shots for run in self.runs}))

    def cell(self, method: str, shots: int) -> list[Run]:
        """The runs of one method at one shot count, a seed each."""
        return [run for run in self.runs if (run.method, run.shots) == (method, shots)]

    def interval(self, method: str, shots: int) -> Interval | None:
        """Top-1 over seeds; None where no run succeeded."""
        values = [run.top1 for run in self.cell(method, shots) if run.top1 is not None]
        return t_interval(values) if values else None

    def by_seed(self, method: str, shots: int) -> dict[tuple[str, str], float]:
        """(seed, split) -> top-1: what a paired difference pairs by."""
        return {(run.seed, run.split_id): run.top1 for run in self.cell(method, shots) if run.top1 is not None}


def load_runs(folder: pathlib.Path) -> list[Run]:
    """The rows of `folder`/results.csv. ArtefactError: missing, without the columns, a bad number, or no finished run."""
    path = folder / "results.csv"
    try:
        _, rows = load_rows(path, NEEDED)
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read ({error.strerror}); DIR is the --out of tcs fewshot.") from error
    runs = [_run(path, line, row) for line, row in rows]
    if all(run.failed for run in runs):
        raise ArtefactError(f"{path} holds no finished run ({len(runs)} failed); run tcs fewshot again.")
    return runs


def _run(path: pathlib.Path, line: int, row: dict[str, str]) -> Run:
    ok = row["status"] == "ok"
    try:
        return Run(
            **{key: row[key] for key in ("model", "method", "seed", "split_id", "unlabelled")},
            shots=int(row["shots"]),
            error="" if ok else row["error"] or row["status"],
            top1=float(row["top1"]) if ok else None,
            costs={key: float(row[key]) for key in COSTS if ok and row[key]},
            origins={key: row.get(key) or "" for key in (*ORIGINS, *LATER_ORIGINS)},
        )
    except ValueError as error:
        raise ArtefactError(f"{path} line {line} cannot be read ({error}); {REMEDY}") from error


def group_tables(runs: Sequence[Run]) -> list[Table]:
    """One table per student and pool; only the pool `none` where a student never saw another."""
    students = dict.fromkeys(run.model for run in runs if run.model != TEACHER)
    references = [run for run in runs if run.model == TEACHER]
    tables = []
    for model in students or [TEACHER]:
        own = [run for run in runs if run.model == model]
        for pool in _pools(own):
            shown = [run for run in own if run.unlabelled == pool]
            with_pool = {run.method for run in shown}
            poolless = [run for run in own if run.unlabelled == NO_POOL and run.method not in with_pool]
            beside = [run for run in references if run.unlabelled in (NO_POOL, pool)] if model != TEACHER else []
            kept = [*poolless, *shown, *beside]
            tables.append(Table(model=model, unlabelled=pool, runs=tuple(kept)))
    return tables


def _pools(runs: Iterable[Run]) -> list[str]:
    """The pools to show. `none` gets a table of its own only where one method ran both with and without a pool."""
    runs = list(runs)
    pools = list(dict.fromkeys(run.unlabelled for run in runs if run.unlabelled != NO_POOL))
    with_pool = {run.method for run in runs if run.unlabelled != NO_POOL}
    bare = any(run.unlabelled == NO_POOL and run.method in with_pool for run in runs)
    return [NO_POOL, *pools] if bare or not pools else pools
