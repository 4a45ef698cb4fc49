"""accuracy.svg: the panels of accuracy over shots as a file that stands alone, as a report in Markdown shows it.

A page has a heading, a pointer's hints and a ground of its own. The file has a caption, a key of the methods whose names no panel
has room for, and a white ground, so that it can be read where a viewer's is dark. Lengths are in CSS pixels.
"""

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from tcs.reporting.charts.accuracy import WIDTH, chart_height, unnamed
from tcs.reporting.charts.palette import Look, looks_of, standalone_style
from tcs.reporting.charts.svg import figure, joined, line, marker, shortened, tag, text
from tcs.reporting.contrast import FEW_SEEDS
from tcs.reporting.figures import WRITTEN
from tcs.reporting.page_figures import Panel, accuracy_panels
from tcs.reporting.results import Table

MARK = f"<!-- {WRITTEN} -->"
COLUMNS = 3
CAPTION_LINE, CAPTION = 16.0, 46.0
PANEL_WIDTH, PANEL_HEAD, GAP = (
    WIDTH + 40,
    40.0,
    10.0,
)  # names at the ends of lines are wider in some fonts than in a page's
KEY_ROW, KEY_SWATCH, CHARACTER = 18.0, 34.0, 7.0
NAME = 40  # characters of a name in the key
STYLE = "svg svg{overflow:visible}"  # of a panel, for such names


def accuracy_svg(tables: Sequence[Table], first: Sequence[str] = ()) -> Markup:
    """The figure of the tables, one or more; methods of `first` have the first colours."""
    looks = looks_of(tables, first)
    columns = min(COLUMNS, len(tables))
    width = PANEL_WIDTH * columns
    parts = [Markup(MARK), tag("style", None, Markup(standalone_style() + STYLE)), _caption(tables)]
    down = CAPTION
    panels = accuracy_panels(tables, looks)
    for start in range(0, len(panels), columns):
        heights = [chart_height(table) for table in tables[start : start + columns]]
        for place, (panel, height) in enumerate(zip(panels[start : start + columns], heights, strict=True)):
            parts.append(_placed(panel, height, PANEL_WIDTH * place, down))
        down += PANEL_HEAD + max(heights) + GAP
    keys = dict.fromkeys(method for table in tables for method in unnamed(table))
    rows = _key(list(keys), looks, width, down)
    height = down + KEY_ROW * len(rows) + GAP
    ground = tag("rect", {"width": width, "height": height, "fill": "#fff"})
    told = "One panel a student and pool of unlabelled images"
    return figure(width, height, "Accuracy over shots", told, [*parts[:2], ground, *parts[2:], *rows], has_size=True)


def _caption(tables: Sequence[Table]) -> Markup:
    intervals = [table.interval(method, shots) for table in tables for method in table.methods for shots in table.shots]
    lines = ["Top-1 accuracy (%): mean and 95 % interval over seeds."]
    if any(interval is not None and interval.n < FEW_SEEDS for interval in intervals):
        lines.append(f"Hollow points: fewer than {FEW_SEEDS} seeds, for no conclusion.")
    return joined([text(GAP, 18 + CAPTION_LINE * index, told, "ink") for index, told in enumerate(lines)])


def _placed(panel: Panel, height: float, across: float, down: float) -> Markup:
    """A panel under its heading."""
    head = [text(0, 14, shortened(panel.title, 60), "ink", hint=panel.title)]
    head.append(text(0, 30, shortened(panel.subtitle, 68), "t", hint=panel.subtitle))
    drawing = tag("svg", {"y": PANEL_HEAD, "width": WIDTH, "height": height}, panel.svg)
    return tag("g", {"transform": f"translate({across + GAP:g} {down:g})"}, *head, drawing)


def _key(methods: Sequence[str], looks: Mapping[str, Look], width: float, down: float) -> list[Markup]:
    """Rows of lines with markers and names, in columns as wide as the longest name."""
    if not methods:
        return []
    cell = KEY_SWATCH + CHARACTER * (2 + max(len(shortened(method, NAME)) for method in methods))
    columns = max(1, math.floor((width - GAP) / cell))
    rows = [methods[start : start + columns] for start in range(0, len(methods), columns)]
    return [
        joined(
            [
                _swatch(method, looks[method], GAP + cell * column, down + KEY_ROW * (row + 0.5))
                for column, method in enumerate(names)
            ]
        )
        for row, names in enumerate(rows)
    ]


def _swatch(method: str, look: Look, across: float, down: float) -> Markup:
    parts = [line(across, down, across + 26, down, "s", look.dash, 1.4 if look.is_reference else 2.2)]
    if look.marker:
        parts.append(marker(across + 13, down, look.marker, "s f"))
    parts.append(text(across + KEY_SWATCH, down + 4, shortened(method, NAME), "f name", hint=method))
    return tag("g", {"class": f"{look.colour} series", "data-method": method}, joined(parts))
