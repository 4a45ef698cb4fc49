"""What a few-shot grid found: results.csv as typed rows, grouped into tables of methods x shots."""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from tcs.errors import ArtefactError
from tcs.reporting.intervals import Interval, t_interval
from tcs.reporting.rows import DATASET, REMEDY, RESULTS, load_rows

TEACHER = "teacher"  # the model of a reference row
NO_POOL = "none"
ALL_LABELS = 0  # the shots of a row that saw every label of the training store
UPPER_BOUNDS = ("all-labels",)  # rows of a student that are no rival of a method, for they see all labels
COSTS = ("params_m", "steps", "images_seen", "wall_s", "images_per_s", "peak_mem_mb")
LATER_COSTS = ("gmacs", "latency_ms", "online_teacher_s")  # which rows of earlier releases lack, as the next two
METRICS = ("top5", "balanced_acc", "nll", "ece")
ORIGINS = ("teacher", "cache_id", "targets_id", "commit")
LATER_ORIGINS = ("test_id", "recipe_id", "semantics")
NEEDED = ("model", "method", "shots", "seed", "split_id", "unlabelled", "status", "error", "top1", *COSTS, *ORIGINS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One row of results.csv; `top1` is in percent, None where the run failed. `metrics` and `costs` hold what the row gives.

    `overlap` counts test images that are copies of training rows of the cell, `near_overlap` near copies, and `top1_clean` is the accuracy
    without both; None where the row does not say.
    """

    dataset: str = ""
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
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    overlap: int | None = None
    near_overlap: int | None = None
    top1_clean: float | None = None

    @property
    def failed(self) -> bool:
        """Whether there is no accuracy to report."""
        return self.top1 is None

    @property
    def key(self) -> tuple[str, str, str, str, str, str]:
        """The cell: data set, model, method, shots, seed and pool, as texts."""
        return (self.dataset, self.model, self.method, str(self.shots), self.seed, self.unlabelled)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """The runs of one data set, student and unlabelled pool, with the rows that need no pool and the teacher's references, those of
    other pools left out."""

    dataset: str = ""
    model: str
    unlabelled: str
    runs: tuple[Run, ...]

    @property
    def title(self) -> str:
        """Data set, student and pool, in words."""
        return f"{self.dataset}{': ' if self.dataset else ''}{self.model}, unlabelled pool: {self.unlabelled}"

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods in order of appearance, the teacher's references last."""
        ordered = sorted((run for run in self.runs if run.shots != ALL_LABELS), key=lambda run: run.model == TEACHER)
        return tuple(dict.fromkeys(run.method for run in ordered))

    @property
    def references(self) -> frozenset[str]:
        """The methods that are no student but the frozen teacher, and those that see all labels."""
        return frozenset(run.method for run in self.runs if run.model == TEACHER or run.method in UPPER_BOUNDS)

    @property
    def shots(self) -> tuple[int, ...]:
        """Shot counts, ascending, without that of `bounds`."""
        return tuple(sorted({run.shots for run in self.runs} - {ALL_LABELS}))

    @property
    def bounds(self) -> dict[str, Interval]:
        """Method -> top-1 of the rows that saw all labels."""
        methods = dict.fromkeys(run.method for run in self.runs if run.shots == ALL_LABELS)
        found = {method: self.interval(method, ALL_LABELS) for method in methods}
        return {method: interval for method, interval in found.items() if interval is not None}

    def cell(self, method: str, shots: int) -> list[Run]:
        """The runs of one method at one shot count, a seed each."""
        return self._cells.get((method, shots), [])

    @functools.cached_property
    def _cells(self) -> dict[tuple[str, int], list[Run]]:
        """Gathered once: a report asks for every cell many times."""
        found: dict[tuple[str, int], list[Run]] = {}
        for run in self.runs:
            found.setdefault((run.method, run.shots), []).append(run)
        return found

    def interval(self, method: str, shots: int) -> Interval | None:
        """Top-1 over seeds; None where no run succeeded."""
        values = [run.top1 for run in self.cell(method, shots) if run.top1 is not None]
        return t_interval(values) if values else None

    def best(self, shots: int) -> str:
        """The student method with the highest mean top-1; empty where no run of one succeeded."""
        means = {
            method: interval.mean
            for method in self.methods
            if method not in self.references and (interval := self.interval(method, shots)) is not None
        }
        return max(means, key=means.__getitem__) if means else ""

    def by_seed(self, method: str, shots: int) -> dict[tuple[str, str], float]:
        """(seed, split) -> top-1: what a paired difference pairs by."""
        return {(run.seed, run.split_id): run.top1 for run in self.cell(method, shots) if run.top1 is not None}


def load_runs(folder: pathlib.Path) -> list[Run]:
    """The rows of `folder`/results.csv. ArtefactError: missing, without the columns, a bad number, or no finished run."""
    path = folder / RESULTS
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
            dataset=row.get(DATASET) or "",
            **{key: row[key] for key in ("model", "method", "seed", "split_id", "unlabelled")},
            shots=int(row["shots"]),
            error="" if ok else row["error"] or row["status"],
            top1=float(row["top1"]) if ok else None,
            costs=_numbers(row, (*COSTS, *LATER_COSTS)) if ok else {},
            metrics=_numbers(row, METRICS) if ok else {},
            overlap=_count(row, "overlap") if ok else None,
            near_overlap=_count(row, "near_overlap") if ok else None,
            top1_clean=_numbers(row, ("top1_clean",)).get("top1_clean") if ok else None,
            origins={key: row.get(key) or "" for key in (*ORIGINS, *LATER_ORIGINS)},
        )
    except ValueError as error:
        raise ArtefactError(f"{path} line {line} cannot be read ({error}); {REMEDY}") from error


def _numbers(row: Mapping[str, str], columns: Iterable[str]) -> dict[str, float]:
    """The columns that hold a finite number; a NaN of an early release is no measurement."""
    found = {key: float(row[key]) for key in columns if row.get(key)}
    return {key: value for key, value in found.items() if math.isfinite(value)}


def _count(row: Mapping[str, str], column: str) -> int | None:
    """A whole number from 0 up. ValueError for another, as one that a float has no room for."""
    if not row.get(column):
        return None
    value = float(row[column])
    if not (value.is_integer() and value >= 0):
        raise ValueError(f"{column} is '{row[column]}', which is no whole number from 0 up")
    return int(value)


def group_tables(runs: Sequence[Run]) -> list[Table]:
    """One table per data set, student and pool; only the pool `none` where a student never saw another."""
    tables = []
    for dataset in dict.fromkeys(run.dataset for run in runs):
        tables += _tables_of(dataset, [run for run in runs if run.dataset == dataset])
    return tables


def _tables_of(dataset: str, runs: Sequence[Run]) -> list[Table]:
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
            tables.append(Table(dataset=dataset, model=model, unlabelled=pool, runs=tuple(kept)))
    return tables


def _pools(runs: Iterable[Run]) -> list[str]:
    """The pools to show. `none` gets a table of its own only where one method ran both with and without a pool."""
    runs = list(runs)
    pools = list(dict.fromkeys(run.unlabelled for run in runs if run.unlabelled != NO_POOL))
    with_pool = {run.method for run in runs if run.unlabelled != NO_POOL}
    bare = any(run.unlabelled == NO_POOL and run.method in with_pool for run in runs)
    return [NO_POOL, *pools] if bare or not pools else pools
