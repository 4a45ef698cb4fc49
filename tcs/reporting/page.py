"""report.html: one self-contained file, a pure function of a grid's folder and what was gathered beside it.

Templates, style and script lie in `templates/`; figures are drawn by `charts`. Nothing is loaded from elsewhere, and the page says so to
the browser (Content-Security-Policy). Whatever a user named (methods, notes, keys of images) is escaped by the templates and by `svg`.
"""

import base64
import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from tcs.ordinary import read_ordinary
from tcs.reporting.charts.contrasts import ranks_chart
from tcs.reporting.charts.cost import legend
from tcs.reporting.charts.palette import Look, looks_of
from tcs.reporting.contrast import CLAIM_SEEDS, FEW_SEEDS, bootstrapped
from tcs.reporting.coverage import coverage_sentence, overlap_sentence
from tcs.reporting.folder import GridFolder, notes_of
from tcs.reporting.layout import environment
from tcs.reporting.page_figures import (
    accuracy_panels,
    axes_panels,
    class_views,
    cost_panels,
    failures,
    hard_views,
    rival_forest,
    verdict_forest,
)
from tcs.reporting.results import LATER_ORIGINS, ORIGINS, TEACHER
from tcs.reporting.rows import RESULTS
from tcs.reporting.sheets import accuracy_sheet, cost_sheet, rank_sheet, rival_sheet, run_sheet
from tcs.reporting.verdict import LIKELY, OPEN, SURE, Verdict, judge, ranking, rivals

TEMPLATE = "report.html"
MOST_RANKED = 24  # methods of one figure of ranks; the table has all
STRENGTH = {SURE: 3, LIKELY: 2, OPEN: 1}  # of three lit marks; none where nothing can be said


def render_page(grid: GridFolder) -> str:
    """The page of a grid as text."""
    verdict = judge(grid.tables, grid.primary, grid.trust)
    pair = () if verdict.result is None else (verdict.result.first, verdict.result.second)
    looks = looks_of(grid.tables, pair)
    parts = {
        "title": grid.folder.resolve().name,
        "notices": _notices(grid),
        "verdict": verdict,
        "caution": re.sub(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\d\+00:00", r"\1 \2 UTC", verdict.caution),
        "headline": _coloured(verdict.headline, looks, pair),
        "strength": STRENGTH.get(verdict.certainty, 0),
        "sureness": verdict.sureness,
        "resampled": _resampled(grid, verdict),
        "forest": None if verdict.result is None else verdict_forest(verdict.result),
        "facts": _facts(grid),
        "looks": looks,
        **_sections(grid, verdict, looks),
        **_origins(grid),
    }
    return environment().get_template(TEMPLATE).render(parts)


def _notices(grid: GridFolder) -> list[tuple[str, str]]:
    """(kind, sentence), what a reader must know before any number first."""
    seeds = len({run.seed for run in grid.runs})
    told = [("partial", coverage_sentence(grid.coverage)), ("overlap", overlap_sentence(grid.runs))]
    if seeds < CLAIM_SEEDS:
        told.append(("few", f"With {seeds} of the {CLAIM_SEEDS} seeds that a claim needs, this report is for looking."))
    told += [("note", note) for note in notes_of(grid.recipe)]
    return [(kind, sentence) for kind, sentence in told if sentence]


def _coloured(sentence: str, looks: Mapping[str, Look], names: Sequence[str]) -> Markup:
    """The sentence with the names of methods in their colours."""
    if not names:
        return escape(sentence)
    known = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    parts = re.split(rf"(?<![\w-])({known})(?![\w-])", sentence)
    span = Markup('<span class="f {}">{}</span>')
    return Markup("").join(span.format(looks[p].colour, p) if p in names else escape(p) for p in parts)


def _resampled(grid: GridFolder, verdict: Verdict) -> list[str]:
    """What the bootstrap over splits and test images says of the verdict's difference, a sentence a data set."""
    if verdict.result is None:
        return []
    return [
        f"{dataset + ': ' if dataset else ''}{found.mean:+.1f} ({found.low:+.1f} to {found.high:+.1f}) when {found.splits} splits and "
        f"{found.images:,} test images are drawn anew."
        for dataset, found in bootstrapped(verdict.result, grid.predicted).items()
        if found.splits >= FEW_SEEDS  # of two splits one is drawn: that knows nothing of their spread
    ]


def _facts(grid: GridFolder) -> list[tuple[str, str]]:
    """Counts of the grid, for its first screen."""
    students = {table.model for table in grid.tables} - {TEACHER}
    methods = {m for table in grid.tables for m in table.methods if m not in table.references}
    shots = sorted({count for table in grid.tables for count in table.shots})
    told = [
        (len({run.dataset for run in grid.runs}), "data set"),
        (len(students), "student"),
        (len(methods), "method"),
        (len({run.seed for run in grid.runs}), "seed"),
        (len(grid.runs), "run"),
    ]
    counts = [(f"{count:,}", f"{name}{'s' * (count != 1)}") for count, name in told]
    return [*counts, (", ".join(map(str, shots)), "labelled images per class")]


def _sections(grid: GridFolder, verdict: Verdict, looks: dict[str, Look]) -> dict[str, Any]:
    ranked, others = ranking(grid.tables), rivals(grid.tables, verdict)
    ranked = None if ranked is not None and ranked.conditions < 2 else ranked  # of one setting its table says it all
    return {
        "accuracy": accuracy_panels(grid.tables, looks),
        "ranking": ranked,
        "ranks_svg": ranks_chart(ranked, looks) if ranked is not None and len(ranked.methods) <= MOST_RANKED else None,
        "ranks_sheet": None if ranked is None else rank_sheet(ranked, looks),
        "rivals_svg": rival_forest(others, looks) if others else None,
        "rivals_sheet": rival_sheet(others, looks) if others else None,
        "costs": cost_panels(grid, looks),
        "students": legend(grid.tables),
        "class_views": class_views(grid, verdict.result, looks),
        "hard": hard_views(grid),
        "axes": axes_panels(grid.beside.axes),
        "sheets": [accuracy_sheet(grid.tables, looks), cost_sheet(grid.tables, looks)],
        "rows_sheet": run_sheet(grid.runs),
        "failures": failures(grid.runs),
    }


def _origins(grid: GridFolder) -> dict[str, Any]:
    """Recipe, identities, versions and hardware, and the raw rows as a link and as JSON."""
    raw = read_ordinary(grid.folder / RESULTS)
    values = {key: sorted({run.origins[key] for run in grid.runs} - {""}) for key in (*ORIGINS, *LATER_ORIGINS)}
    environment_told = grid.ledger.get("environment", {})
    return {
        "recipe": grid.recipe_text,
        "origins": {key: found for key, found in values.items() if found},
        "versions": sorted(environment_told.get("versions", {}).items()),
        "hardware": f"{environment_told['processor']}, {environment_told.get('cores')} cores"
        if environment_told
        else "",
        "csv_uri": Markup("data:text/csv;base64,") + base64.b64encode(raw).decode(),
        "rows_json": json_island([_plain(run) for run in grid.runs]),
    }


def _plain(run: Any) -> dict[str, Any]:
    """A run as JSON types, without what is empty."""
    return {name: value for name, value in dataclasses.asdict(run).items() if value not in ("", None, {})}


def json_island(value: Any) -> Markup:
    """JSON that can stand inside a script element: no text of it can close one."""
    told = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for sign, code in (
        ("<", "\\u003c"),
        (">", "\\u003e"),
        ("&", "\\u0026"),
        ("\u2028", "\\u2028"),
        ("\u2029", "\\u2029"),
    ):
        told = told.replace(sign, code)
    return Markup(told)
