r"""The tables of a grid for a paper: LaTeX with booktabs, one table a data set, student and pool."""

from tcs.reporting.contrast import FEW_SEEDS
from tcs.reporting.coverage import coverage_sentence, overlap_sentence
from tcs.reporting.folder import GridFolder
from tcs.reporting.intervals import Interval
from tcs.reporting.results import Table

MARK = "% written by tcs report; edits are lost when it runs again"
DAGGER = r"$^{\dagger}$"
ESCAPES = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


def escaped(text: str) -> str:
    """Text of a user, so that LaTeX sets it as it is."""
    return "".join(ESCAPES.get(sign, sign) for sign in " ".join(text.split()))


def render_latex(grid: GridFolder) -> str:
    r"""The tables, ready to \input; the preamble needs \usepackage{booktabs}."""
    warnings = [line for line in (coverage_sentence(grid.coverage), overlap_sentence(grid.runs)) if line]
    head = [MARK, *(f"% {' '.join(line.split())}" for line in warnings), r"% needs \usepackage{booktabs}"]
    return "\n".join([*head, *(latex_table(table) for table in grid.tables)]) + "\n"


def latex_table(table: Table) -> str:
    """Rows methods, columns shots; the best student method of a column in bold, means of few seeds with a dagger."""
    best = [table.best(shots) for shots in table.shots]
    rows: list[str] = []
    for method in table.methods:
        if method in table.references and rows and r"\midrule" not in rows:
            rows.append(r"\midrule")
        cells = [_cell(table.interval(method, s), bold=method == b) for s, b in zip(table.shots, best, strict=True)]
        rows.append(f"{escaped(method)} & {' & '.join(cells)} \\\\")
    few = any(i.n < FEW_SEEDS for m in table.methods for s in table.shots if (i := table.interval(m, s)) is not None)
    dagger = rf" $\dagger$: fewer than {FEW_SEEDS} seeds." if few else ""
    caption = f"Top-1 accuracy (\\%) of {escaped(table.title)}: mean $\\pm$ half-width of the 95\\,\\% t-interval over seeds.{dagger}"
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{l{'r' * len(table.shots)}}}",
            r"\toprule",
            "method & " + " & ".join(f"{shots} shot{'s' * (shots != 1)}" for shots in table.shots) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _cell(interval: Interval | None, *, bold: bool) -> str:
    if interval is None:
        return "--"
    mean = rf"\textbf{{{interval.mean:.1f}}}" if bold else f"{interval.mean:.1f}"
    spread = "" if interval.half is None else rf" $\pm$ {interval.half:.1f}"
    return mean + spread + (DAGGER if interval.n < FEW_SEEDS else "")
