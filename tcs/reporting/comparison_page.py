"""Two grids compared, as a page."""

from tcs.reporting.charts.contrasts import DifferenceRow, forest
from tcs.reporting.comparison import GridComparison, SharedCell
from tcs.reporting.layout import Part, PlainPage
from tcs.reporting.page_figures import Panel
from tcs.reporting.sheets import FEW, Cell, Sheet, interval_cell, short_names

MOST_ROWS = 30  # of one forest: those that differ most


def comparison_page(found: GridComparison) -> PlainPage:
    """The comparison laid out: the differences as a forest, all cells as a table, and what the grids differ in."""
    first, second = found.names
    shown = sorted(found.cells, key=lambda cell: -abs(cell.difference.mean))[:MOST_ROWS]
    rows = [
        DifferenceRow(name=_short(cell, found), difference=cell.difference, colour="m0") for cell in _by_size(shown)
    ]
    title = f"{second} against {first}"
    panel = Panel(
        title=title,
        subtitle="points of top-1, 95 % interval (seeds)"
        + ("; the largest differences" if len(shown) < len(found.cells) else ""),
        svg=forest(rows, f"{second} better", f"{first} better", title),
    )
    notices = (
        []
        if found.test_known
        else [("note", "Not all rows tell their test store: that the images are the same is taken on trust.")]
    )
    notices += [
        ("note", f"{count} cells are in {name} alone.")
        for count, name in zip(found.only, found.names, strict=True)
        if count
    ]
    differ = [(name, f"{ours} in {first}; {theirs} in {second}") for name, (ours, theirs) in found.differences.items()]
    parts = [
        Part(heading="Differences", panels=[panel]),
        Part(
            heading="All cells",
            lede="Paired over the seeds and splits that both have, else Welch's interval.",
            sheets=[_sheet(found)],
        ),
        *([Part(heading="What they differ in", facts=differ)] if differ else []),
    ]
    return PlainPage(
        kind="Two grids", title=title, headline=_headline(found), details=[found.summary], notices=notices, parts=parts
    )


def _headline(found: GridComparison) -> str:
    clear = [cell for cell in found.cells if cell.is_clear]
    up = sum(cell.difference.mean > 0 for cell in clear)
    first, second = found.names
    if not clear:
        return f"No cell of {second} differs clearly from {first}."
    if up in (0, len(clear)):
        return f"{second} is {'better' if up else 'worse'} than {first} in {len(clear)} of {len(found.cells)} shared cells, and clearly so."
    return f"{second} is clearly better than {first} in {up} cells, and clearly worse in {len(clear) - up}."


def _by_size(cells: list[SharedCell]) -> list[SharedCell]:
    return sorted(cells, key=lambda cell: -cell.difference.mean)


def _short(cell: SharedCell, found: GridComparison) -> str:
    """What tells the cell from the others."""
    names = short_names([other.cell[1] for other in found.cells])
    several = [len({other.cell[place] for other in found.cells}) > 1 for place in range(5)]
    dataset, model, method, shots, pool = cell.cell
    told = [dataset, names[model], method, f"{shots} shots", pool]
    return " · ".join(part for part, is_needed in zip(told, several, strict=True) if is_needed and part) or method


def _sheet(found: GridComparison) -> Sheet:
    names = short_names([cell.cell[1] for cell in found.cells])
    rows = []
    for cell in found.cells:
        dataset, model, method, shots, pool = cell.cell
        few = FEW if cell.difference.n < 3 else ""
        half = "" if cell.difference.half is None else f" ± {cell.difference.half:.1f}"
        p = "–" if cell.p_holm is None else ("< 0.001" if cell.p_holm < 0.001 else f"{cell.p_holm:.3f}")
        rows.append(
            [
                *([Cell(dataset)] if any(other.cell[0] for other in found.cells) else []),
                Cell(names[model], hint=model),
                Cell(method),
                Cell(f"{shots}", f"{shots:06}"),
                Cell(pool),
                interval_cell(cell.first),
                interval_cell(cell.second),
                Cell(
                    f"{cell.difference.mean:+.1f}{half}{few}",
                    f"{cell.difference.mean:.6f}",
                    "best" if cell.is_clear else "",
                ),
                Cell("yes" if cell.is_paired else "no"),
                Cell(p, "2" if cell.p_holm is None else f"{cell.p_holm:.8f}"),
            ]
        )
    head = [("data set", False)] if any(cell.cell[0] for cell in found.cells) else []
    places = [("student", False), ("method", False), ("shots", True), ("pool", False)]
    numbers = [
        (found.names[0], True),
        (found.names[1], True),
        ("difference", True),
        ("paired", False),
        ("p (Holm)", True),
    ]
    return Sheet(name="Top-1 accuracy in percent", columns=[*head, *places, *numbers], rows=rows)
