"""The report of a few-shot grid as Markdown: a pure function of its folder, and of what was gathered beside it."""

from collections.abc import Mapping, Sequence
from typing import Any

from tcs.reporting.contrast import CLAIM_SEEDS, FEW_SEEDS
from tcs.reporting.coverage import coverage_sentence, overlap_sentence
from tcs.reporting.folder import GridFolder, notes_of
from tcs.reporting.intervals import Interval, holm, paired_difference
from tcs.reporting.results import COSTS, LATER_ORIGINS, ORIGINS, Run, Table
from tcs.reporting.seal import BEFOREHAND, EXPLORATORY, UNKNOWN, Trust
from tcs.reporting.tables import markdown
from tcs.reporting.verdict import judge, ranking

MARK = "<!-- written by tcs report; edits are lost when it runs again -->"
COST_TITLES = ("parameters (M)", "steps", "images seen", "seconds", "images/s", "peak memory (MB)")


def render(grid: GridFolder) -> str:
    """The whole report as Markdown. Its first lines say what is missing and which test images were seen in training."""
    parts = [MARK, "# Few-shot results", _warnings(grid), _preface(grid.runs, grid.recipe), _verdict(grid)]
    parts.append("![accuracy over shots](accuracy.svg)")
    for table in grid.tables:
        parts += [f"## {table.title}", accuracy_table(table), _bounds(table)]
        if grid.primary is not None and grid.trust is not None:
            parts.append(comparison(table, *grid.primary, grid.trust))
        parts += ["Cost of one run, mean over all shots and seeds:", cost_table(table)]
    parts += [_ranks(grid.tables), _failures(grid.runs), _origins(grid.runs, grid.ledger.get("environment", {}))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _warnings(grid: GridFolder) -> str:
    told = [coverage_sentence(grid.coverage), overlap_sentence(grid.runs)]
    return "\n\n".join(f"**{sentence}**" for sentence in told if sentence)


def _verdict(grid: GridFolder) -> str:
    """In words for readers who know no statistics, where a comparison is named; the tables below have it in numbers."""
    if grid.primary is None:
        return ""
    verdict = judge(grid.tables, grid.primary, grid.trust)
    return f"> {verdict.headline} {verdict.detail} {verdict.sureness}"


def _bounds(table: Table) -> str:
    told = ", ".join(f"{method} {plain(interval)}" for method, interval in table.bounds.items())
    return f"With all labels: {told}." if told else ""


def _ranks(tables: Sequence[Table]) -> str:
    """Average ranks, where there is more than one setting to average over."""
    found = ranking(tables)
    if found is None or found.conditions < 2:
        return ""
    rows = [[method, f"{rank:.2f}"] for method, rank in zip(found.methods, found.ranks, strict=True)]
    friedman = "" if found.p is None else f" Friedman's test of equal ranks: p {_small(found.p)}."
    told = (
        f"Rank 1 is the best of a setting (data set, student, pool, shots); {found.conditions} settings. Ranks less than "
        f"{found.critical:.2f} apart do not differ at 5 % (Nemenyi).{friedman}"
    )
    return f"## Average ranks\n\n{told}\n\n{markdown(['method', 'average rank'], rows)}"


def _preface(runs: Sequence[Run], recipe: Mapping[str, Any]) -> str:
    seeds = len({run.seed for run in runs})
    lines = [
        f"Top-1 accuracy in percent, last step, on the test store: mean ± half-width of the 95 % t-interval over seeds (n). "
        f"A seed draws the labelled images and the training run alike; {seeds} seeds, {len(runs)} rows in results.csv. "
        f"An n below {FEW_SEEDS} is for no conclusion."
    ]
    if seeds < CLAIM_SEEDS:
        lines.append(f"With {seeds} of the {CLAIM_SEEDS} seeds that a claim needs, this table is for looking.")
    lines += [f"**Note:** {note}" for note in notes_of(recipe)]
    return "\n\n".join(lines)


def accuracy_table(table: Table) -> str:
    """Rows methods, columns shots."""
    rows = [
        [_named(table, method), *(_cell(table, method, shots) for shots in table.shots)] for method in table.methods
    ]
    return markdown(["method", *(f"{shots} shot{'s' * (shots > 1)}" for shots in table.shots)], rows)


def _named(table: Table, method: str) -> str:
    if method in table.references:
        return f"*{method}* (frozen teacher)"
    pools = {run.unlabelled for run in table.runs if run.method == method}
    return method if pools == {table.unlabelled} else f"{method} (no pool)"


def _cell(table: Table, method: str, shots: int) -> str:
    interval = table.interval(method, shots)
    failed = sum(run.failed for run in table.cell(method, shots))
    if interval is None:
        return "failed" if failed else "-"
    return plain(interval) + (f", {failed} failed" if failed else "")


def plain(interval: Interval) -> str:
    """`mean ± half (n)`; no interval for a single value."""
    spread = "" if interval.half is None else f" ± {interval.half:.1f}"
    return f"{interval.mean:.1f}{spread} ({interval.n})"


COMPARISONS = {
    BEFOREHAND: "Primary comparison, fixed beforehand",
    EXPLORATORY: "Exploratory comparison, **not** fixed beforehand",
    UNKNOWN: "Primary comparison",
}


def comparison(table: Table, first: str, second: str, trust: Trust) -> str:
    """The primary difference with its interval; `first` against every other student with Holm-corrected p-values."""
    if first not in table.methods or second not in table.methods:
        return f"Primary comparison: {first} or {second} has no run in this table."
    lines = [f"{COMPARISONS[trust.kind]} ({trust.about}): **{first} - {second}**, paired by seed and split."]
    sides = [_across_shots(table, method) for method in (first, second)]
    whole = paired_difference(sides[0], sides[1])
    if whole is not None:
        lines.append(f"Mean over all shots: {signed(whole)}{_p(whole.p)}.")
    rows = [
        [f"{shots}", signed(paired_difference(table.by_seed(first, shots), table.by_seed(second, shots)))]
        for shots in table.shots
    ]
    parts = [" ".join(lines), markdown(["shots", f"{first} - {second}"], rows), _rest(table, first, second)]
    return "\n\n".join(part for part in parts if part)


def _across_shots(table: Table, method: str) -> dict[str, float]:
    """Seed -> mean accuracy over all shot counts, for the seeds that have every one."""
    by_shots = [{seed: top1 for (seed, _), top1 in table.by_seed(method, shots).items()} for shots in table.shots]
    whole = set.intersection(*(set(values) for values in by_shots))
    return {seed: sum(values[seed] for values in by_shots) / len(by_shots) for seed in sorted(whole)}


def _rest(table: Table, first: str, second: str) -> str:
    """Every other student of the table: one family of tests, so that many looks do not make a finding."""
    rivals = [method for method in table.methods if method not in {first, second} | table.references]
    found = [
        (rival, shots, difference)
        for rival in rivals
        for shots in table.shots
        if (difference := paired_difference(table.by_seed(first, shots), table.by_seed(rival, shots))) is not None
        and difference.p is not None
    ]
    if not found:
        return ""
    adjusted = holm([difference.p for _, _, difference in found if difference.p is not None])
    rows = [
        [f"{first} - {rival}", f"{shots}", signed(difference), _small(p).removeprefix("= ")]
        for (rival, shots, difference), p in zip(found, adjusted, strict=True)
    ]
    title = f"The rest, p-values Holm-corrected for these {len(found)} tests:"
    return f"{title}\n\n{markdown(['difference', 'shots', 'mean', 'p (Holm)'], rows)}"


def signed(difference: Interval | None) -> str:
    """`plain` with its sign; a dash where nothing could be paired."""
    return "-" if difference is None else f"{'+' if difference.mean >= 0 else ''}{plain(difference)}"


def _p(p: float | None) -> str:
    return "" if p is None else f", p {_small(p)}"


def _small(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def cost_table(table: Table) -> str:
    """Rows methods, columns means of what a run took."""
    rows = [[_named(table, method), *(_mean_cost(table, method, key) for key in COSTS)] for method in table.methods]
    return markdown(["method", *COST_TITLES], rows)


def _mean_cost(table: Table, method: str, key: str) -> str:
    values = [run.costs[key] for run in table.runs if run.method == method and key in run.costs]
    return f"{sum(values) / len(values):,.5g}" if values else "-"


def _failures(runs: Sequence[Run]) -> str:
    lines = [f"- {failed_run(run)}: {run.error}" for run in runs if run.failed]
    return "\n".join([f"## Failed runs: {len(lines)}", "", *lines]) if lines else ""


def failed_run(run: Run) -> str:
    """Which run it is, in words."""
    names = [name for name in (run.dataset, run.model, run.method) if name]
    return f"{', '.join(names)}, shots {run.shots}, seed {run.seed}, pool {run.unlabelled}"


def _origins(runs: Sequence[Run], environment: Mapping[str, Any]) -> str:
    lines = ["## Where the numbers come from", ""]
    for key in (*ORIGINS, *LATER_ORIGINS):
        values = sorted({run.origins[key] for run in runs} - {""})
        lines += [f"- {key}: {', '.join(values)}"] if values else []
    if environment:
        versions = ", ".join(f"{name} {version}" for name, version in sorted(environment["versions"].items()))
        lines += [
            f"- hardware: {environment['processor']}, {environment.get('cores')} cores",
            f"- versions: {versions}",
        ]
    return "\n".join(lines)
