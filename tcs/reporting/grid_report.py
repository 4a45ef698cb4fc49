"""The stage `tcs report`: the results of a few-shot grid -> report.md, report.csv and accuracy.png, a pure function of them."""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from cache import atomic_write_bytes
from tcs.checkpoint import load_mapping, require_parts, save_table
from tcs.errors import ArtefactError, ConfigError, did_you_mean
from tcs.reporting.figures import draw_accuracy
from tcs.reporting.intervals import Interval, holm, paired_difference
from tcs.reporting.results import COSTS, LATER_ORIGINS, ORIGINS, Run, Table, group_tables, load_runs
from tcs.reporting.seal import BEFOREHAND, EXPLORATORY, UNKNOWN, Trust, trust_in
from tcs.reporting.tables import markdown

MARK = "<!-- written by tcs report; edits are lost when it runs again -->"
LEDGER: Mapping[str, Any] = {  # what is read of it, where it is there
    "seal": {"primary": list | None, "rows": int, "at": str},
    "environment": {"versions": dict, "processor": str, "cores": int | None},
}
CLAIM_SEEDS = 5  # design rule: fewer seeds are for looking, not for saying that one method beats another
COST_TITLES = ("parameters (M)", "steps", "images seen", "seconds", "images/s", "peak memory (MB)")


def write_report(folder: str | pathlib.Path, out: str | pathlib.Path | None = None) -> pathlib.Path:
    """Read `folder` (the --out of tcs fewshot), write `out` (by default report.md in it), and report.csv and accuracy.png
    beside it; returns `out`.

    ArtefactError: no usable results, or `out` is a file that no report was; ConfigError: a primary comparison of unknown
    methods, or matplotlib missing (the two tables are written before).
    """
    folder = pathlib.Path(folder)
    out = folder / "report.md" if out is None else pathlib.Path(out)
    runs = load_runs(folder)
    tables = group_tables(runs)
    recipe = _load_recipe(folder)
    ledger = _load_ledger(folder)
    if out.exists() and not out.read_bytes().startswith(MARK.encode()):
        raise ArtefactError(f"{out} exists and is no report of tcs; give another --out.")
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(out, render(runs, tables, recipe, ledger).encode())
    save_table(out.with_name("report.csv"), list(_csv_rows(tables)))
    draw_accuracy(tables, out.with_name("accuracy.png"))
    return out


def _load_ledger(folder: pathlib.Path) -> dict[str, Any]:
    """What a grid noted before its first row; empty where it noted nothing, as the first releases."""
    path, remedy = folder / "ledger.json", "move it away for a report that does not say when a comparison was named"
    ledger = load_mapping(path, {}, remedy) if path.exists() else {}
    require_parts(path, ledger, {name: kind for name, kind in LEDGER.items() if ledger.get(name)}, remedy)
    return ledger


def _load_recipe(folder: pathlib.Path) -> dict[str, Any]:
    path = folder / "recipe.yaml"
    if not path.exists():
        return {}
    try:
        recipe = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ArtefactError(
            f"{path} is not YAML ({' '.join(str(error).split())[:120]}); run tcs fewshot again."
        ) from error
    return recipe if isinstance(recipe, dict) else {}


def render(runs: Sequence[Run], tables: Sequence[Table], recipe: Mapping[str, Any], ledger: Mapping[str, Any]) -> str:
    """The whole report as Markdown, from the results, the recipe and the ledger of a grid."""
    primary = primary_methods(recipe, runs)
    parts = [MARK, "# Few-shot results", _preface(runs, recipe), "![accuracy over shots](accuracy.png)"]
    for table in tables:
        parts += [f"## {table.model}, unlabelled pool: {table.unlabelled}", accuracy_table(table)]
        if primary is not None:
            parts.append(comparison(table, *primary, trust_in(primary, ledger)))
        parts += ["Cost of one run, mean over all shots and seeds:", cost_table(table)]
    parts += [_failures(runs), _origins(runs, ledger.get("environment", {}))]
    return "\n\n".join(part for part in parts if part) + "\n"


def primary_methods(recipe: Mapping[str, Any], runs: Sequence[Run]) -> tuple[str, str] | None:
    """The two methods that the recipe's `primary` names; None without one, ConfigError where they are not in the results."""
    primary = recipe.get("primary")
    if primary is None:
        return None
    if not (isinstance(primary, list) and len(primary) == 2 and primary[0] != primary[1]):
        raise ConfigError(f"recipe.yaml has primary: {primary}; it must name two methods, as [tcs+elsh, labels].")
    methods = {run.method for run in runs}
    for name in primary:
        if name not in methods:
            raise ConfigError(
                f"recipe.yaml has primary: {primary}, but no run of '{name}'.{did_you_mean(name, methods)}"
            )
    return primary[0], primary[1]


def _preface(runs: Sequence[Run], recipe: Mapping[str, Any]) -> str:
    seeds = len({run.seed for run in runs})
    lines = [
        f"Top-1 accuracy in percent, last step, on the test store: mean ± half-width of the 95 % t-interval over seeds (n). "
        f"A seed draws the labelled images and the training run alike; {seeds} seeds, {len(runs)} rows in results.csv."
    ]
    if seeds < CLAIM_SEEDS:
        lines.append(f"With {seeds} of the {CLAIM_SEEDS} seeds that a claim needs, this table is for looking.")
    if recipe.get("note"):
        lines.append(f"**Note:** {' '.join(str(recipe['note']).split())}")
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
        lines.append(f"Mean over all shots: {_signed(whole)}{_p(whole.p)}.")
    rows = [
        [f"{shots}", _signed(paired_difference(table.by_seed(first, shots), table.by_seed(second, shots)))]
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
        [f"{first} - {rival}", f"{shots}", _signed(difference), _small(p).removeprefix("= ")]
        for (rival, shots, difference), p in zip(found, adjusted, strict=True)
    ]
    title = f"The rest, p-values Holm-corrected for these {len(found)} tests:"
    return f"{title}\n\n{markdown(['difference', 'shots', 'mean', 'p (Holm)'], rows)}"


def _signed(difference: Interval | None) -> str:
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
    lines = [
        f"- {run.model}, {run.method}, shots {run.shots}, seed {run.seed}, pool {run.unlabelled}: {run.error}"
        for run in runs
        if run.failed
    ]
    return "\n".join([f"## Failed runs: {len(lines)}", "", *lines]) if lines else ""


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


def _csv_rows(tables: Sequence[Table]) -> Iterator[dict[str, Any]]:
    for table in tables:
        for method in table.methods:
            for shots in table.shots:
                names = {"student": table.model, "unlabelled": table.unlabelled, "method": method, "shots": shots}
                yield names | _csv_cell(table, method, shots)


def _csv_cell(table: Table, method: str, shots: int) -> dict[str, Any]:
    interval = table.interval(method, shots)
    failed = sum(run.failed for run in table.cell(method, shots))
    mean, half, std = (None,) * 3 if interval is None else (interval.mean, interval.half, interval.std)
    numbers = {"top1_mean": mean, "top1_half_width": half, "top1_std": std}
    told = {name: "" if value is None else f"{value:.4f}" for name, value in numbers.items()}
    return {"n": 0 if interval is None else interval.n, "failed": failed, **told}
