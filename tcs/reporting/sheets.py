"""The tables of a page: typed cells that know what they sort by, so that a click on a column puts numbers in the order of numbers."""

import dataclasses
from collections.abc import Sequence

from tcs.reporting.charts.accuracy import clipped
from tcs.reporting.charts.palette import Look
from tcs.reporting.contrast import FEW_SEEDS, Contrast
from tcs.reporting.intervals import Interval
from tcs.reporting.ranks import Ranking
from tcs.reporting.results import COSTS, LATER_COSTS, METRICS, Run, Table

FEW = "†"  # behind every mean of fewer than FEW_SEEDS seeds
COST_TITLES = {
    "params_m": "parameters (M)",
    "steps": "steps",
    "images_seen": "images seen",
    "wall_s": "seconds",
    "images_per_s": "images/s",
    "peak_mem_mb": "peak memory (MB)",
    "gmacs": "multiply-adds (G)",
    "latency_ms": "latency (ms)",
    "online_teacher_s": "online teacher (s)",
}
METRIC_TITLES = {
    "top5": "top-5 (%)",
    "balanced_acc": "balanced (%)",
    "nll": "NLL (nats)",
    "ece": "calibration error (%)",
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """`text` as it is shown, `order` what it sorts by (the text where that is empty), `kind` its style, `hint` for the pointer."""

    text: str
    order: str = ""
    kind: str = ""
    hint: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sheet:
    """A table: `name` for screen readers, columns (title, whether it holds numbers) and rows of cells."""

    name: str
    columns: Sequence[tuple[str, bool]]
    rows: Sequence[Sequence[Cell]]


def short_names(models: Sequence[str]) -> dict[str, str]:
    """Model -> the part before its options where that tells it from the others, else the whole name."""
    bases = [model.partition(",")[0] for model in dict.fromkeys(models)]
    return {m: m.partition(",")[0] if bases.count(m.partition(",")[0]) == 1 else m for m in dict.fromkeys(models)}


def method_cell(method: str, look: Look) -> Cell:
    """A method's name, with the mark of its colour."""
    return Cell(
        method, kind=f"method {look.colour}", hint="reference, not a student's method" if look.is_reference else ""
    )


def interval_cell(interval: Interval | None, failed: int = 0, *, best: bool = False) -> Cell:
    """Mean with the half-width of its interval; marked where it is of few seeds, and where runs failed."""
    lost = f"{failed} failed" if failed else ""
    if interval is None:
        return Cell(lost or "–", "-1", "failed" if failed else "none")
    spread = "" if interval.half is None else f" ± {interval.half:.1f}"
    low, high = clipped(interval)
    few = FEW if interval.n < FEW_SEEDS else ""
    about = f"{interval.n} seed{'s' * (interval.n != 1)}" + (
        "" if interval.half is None else f", {low:.1f} to {high:.1f}"
    )
    kind = " ".join(["best"] * best + ["few"] * bool(few))
    return Cell(f"{interval.mean:.1f}{spread}{few}{', ' * bool(lost)}{lost}", f"{interval.mean:.6f}", kind, about)


def accuracy_sheet(tables: Sequence[Table], looks: dict[str, Look]) -> Sheet:
    """A row for each data set, student, pool and method; a column for each shot count, and their mean."""
    shots = sorted({count for table in tables for count in table.shots})
    rows = []
    for table in tables:
        best = {count: table.best(count) for count in shots}
        for method in table.methods:
            cells = [
                interval_cell(
                    table.interval(method, count),
                    sum(run.failed for run in table.cell(method, count)),
                    best=method == best[count],
                )
                for count in shots
            ]
            rows.append([*_places(table, tables), method_cell(method, looks[method]), *cells])
        for method, interval in table.bounds.items():
            bound = [Cell("–", "-1", "none")] * len(shots)
            label = Cell(f"{method}, all labels: {interval.mean:.1f}", kind=f"method {looks[method].colour}")
            rows.append([*_places(table, tables), label, *bound])
    titles = [(f"{count} shot{'s' * (count != 1)}", True) for count in shots]
    return Sheet(
        name="Top-1 accuracy in percent", columns=[*_place_titles(tables), ("method", False), *titles], rows=rows
    )


def _place_titles(tables: Sequence[Table]) -> list[tuple[str, bool]]:
    """Columns that tell the tables apart; none for what all have in common."""
    told = {
        "data set": {table.dataset for table in tables},
        "student": {table.model for table in tables},
        "pool": {table.unlabelled for table in tables},
    }
    return [(name, False) for name, values in told.items() if len(values) > 1]


def _places(table: Table, tables: Sequence[Table]) -> list[Cell]:
    names = short_names([other.model for other in tables])
    told = {
        "data set": Cell(table.dataset),
        "student": Cell(names[table.model], hint=table.model),
        "pool": Cell(table.unlabelled),
    }
    return [told[name] for name, _ in _place_titles(tables)]


def cost_sheet(tables: Sequence[Table], looks: dict[str, Look]) -> Sheet:
    """What a run took, and its other scores, as means over shots and seeds; columns that no row has are left out."""
    every = [run for table in tables for run in table.runs]
    columns = [
        name for name in (*METRICS, *COSTS, *LATER_COSTS) if any(name in run.costs | run.metrics for run in every)
    ]
    rows = [
        [
            *_places(table, tables),
            method_cell(method, looks[method]),
            *(_mean_cell([run for run in table.runs if run.method == method], name) for name in columns),
        ]
        for table in tables
        for method in table.methods
    ]
    titles = [((COST_TITLES | METRIC_TITLES)[name], True) for name in columns]
    return Sheet(name="Costs and other scores", columns=[*_place_titles(tables), ("method", False), *titles], rows=rows)


def _mean_cell(runs: Sequence[Run], name: str) -> Cell:
    values = [(run.costs | run.metrics)[name] for run in runs if name in run.costs | run.metrics]
    if not values:
        return Cell("–", "-1", "none")
    mean = sum(values) / len(values)
    return Cell(f"{mean:,.4g}" if mean < 10000 else f"{mean:,.0f}", f"{mean:.6f}")


def rank_sheet(ranking: Ranking, looks: dict[str, Look]) -> Sheet:
    """Methods by average rank."""
    rows = [
        [Cell(f"{place}", f"{place:04}"), method_cell(method, looks[method]), Cell(f"{rank:.2f}", f"{rank:.6f}")]
        for place, (method, rank) in enumerate(zip(ranking.methods, ranking.ranks, strict=True), 1)
    ]
    return Sheet(name="Average ranks", columns=[("place", True), ("method", False), ("average rank", True)], rows=rows)


def rival_sheet(rivals: Sequence[Contrast], looks: dict[str, Look]) -> Sheet:
    """The leading method against each other one."""
    rows = []
    for rival in rivals:
        whole = rival.whole
        spread = "" if whole.half is None else f" ± {whole.half:.1f}"
        few = FEW if whole.n < FEW_SEEDS else ""
        p = "–" if rival.p_holm is None else ("< 0.001" if rival.p_holm < 0.001 else f"{rival.p_holm:.3f}")
        rows.append(
            [
                method_cell(rival.second, looks[rival.second]),
                Cell(f"{whole.mean:+.1f}{spread}{few}", f"{whole.mean:.6f}", "few" if few else ""),
                Cell(f"{whole.n}", f"{whole.n:04}"),
                Cell(f"{rival.ahead} of {len(rival.conditions)}", f"{rival.ahead:04}"),
                Cell(p, "2" if rival.p_holm is None else f"{rival.p_holm:.8f}"),
            ]
        )
    titles = [
        ("against", False),
        ("difference (points)", True),
        ("seeds", True),
        ("ahead in", True),
        ("p (Holm)", True),
    ]
    return Sheet(name="Paired differences", columns=titles, rows=rows)


def run_sheet(runs: Sequence[Run]) -> Sheet:
    """Every row of results.csv, by its key and its main numbers."""
    with_dataset = any(run.dataset for run in runs)
    rows = []
    for run in runs:
        first = [Cell(run.dataset)] if with_dataset else []
        score = (
            Cell("failed", "-1", "failed", run.error)
            if run.top1 is None
            else Cell(f"{run.top1:.2f}", f"{run.top1:.6f}")
        )
        seconds = run.costs.get("wall_s")
        texts = [
            Cell(run.model),
            Cell(run.method),
            Cell(f"{run.shots}", f"{run.shots:06}"),
            Cell(run.seed, run.seed.zfill(6)),
        ]
        wall = Cell("–", "-1", "none") if seconds is None else Cell(f"{seconds:,.1f}", f"{seconds:.6f}")
        rows.append([*first, *texts, Cell(run.unlabelled), score, wall])
    head = [("data set", False)] if with_dataset else []
    titles = [*head, ("student", False), ("method", False), ("shots", True), ("seed", True), ("pool", False)]
    return Sheet(name="All rows", columns=[*titles, ("top-1 (%)", True), ("seconds", True)], rows=rows)
