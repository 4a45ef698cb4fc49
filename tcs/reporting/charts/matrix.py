"""What is taken for what: a matrix of classes in shades, and the accuracy of each class under two methods.

Legend: C classes.
"""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from tcs.reporting.charts.svg import Scale, figure, joined, line, marker, shortened, tag, text, ticks

CELL, LABELS = 30.0, 92.0
MOST_CLASSES = 30  # with more a matrix is no picture
MOST_NUMBERED = 12
MOST_ROWS = 40  # of the classes one by one, the worst of them
ROW, WIDTH = 21.0, 420.0


def confusion_chart(counts_CC: NDArray[np.int64], classes: Sequence[str], title: str) -> Markup:
    """Rows are true classes, columns answers, in percent of the row; the darker a cell the more often. For MOST_CLASSES at most."""
    shares_CC = 100 * counts_CC / np.maximum(counts_CC.sum(axis=1, keepdims=True), 1)
    cell = CELL if len(classes) <= MOST_NUMBERED else 16.0
    side = cell * len(classes)
    parts = []
    for row, name in enumerate(classes):
        middle = LABELS + cell * (row + 0.5)
        parts.append(text(LABELS - 6, middle + 4, shortened(name, 13), "t ink", "end", name))
        parts.append(_turned(middle + 4, LABELS - 6, shortened(name, 13)))
        for column in range(len(classes)):
            share = float(shares_CC[row, column])
            parts.append(_cell(row, column, share, cell, f"{name} taken for {classes[column]}: {share:.1f} %"))
    parts.append(
        text(LABELS + side / 2, LABELS + side + 18, "columns: answer, rows: true class, in % of the row", "t", "middle")
    )
    return figure(LABELS + side + 8, LABELS + side + 26, title, _worst_told(shares_CC, classes), parts)


def _turned(x: float, y: float, name: str) -> Markup:
    return tag("text", {"transform": f"translate({x:.1f} {y:.1f}) rotate(-50)", "class": "t ink"}, name)


def _cell(row: int, column: int, share: float, cell: float, hint: str) -> Markup:
    x, y = LABELS + cell * column, LABELS + cell * row
    strength = round(min(1.0, share / 100) ** 0.6, 3)
    box = {"x": x + 0.5, "y": y + 0.5, "width": cell - 1, "height": cell - 1, "rx": 2}
    kind = "right" if row == column else "wrong"
    ground = tag("rect", {**box, "class": "empty"})
    shade = tag("rect", {**box, "class": kind, "fill-opacity": strength}, tag("title", None, hint))
    told = f"{share:.0f}" if cell >= CELL and share >= 0.5 else ""
    number = (
        text(x + cell / 2, y + cell / 2 + 4, told, "t on" if strength > 0.62 else "t ink", "middle") if told else ""
    )
    return joined([ground, shade, number or Markup("")])


def confused_pairs(
    counts_CC: NDArray[np.int64], classes: Sequence[str], most: int = 10
) -> list[tuple[str, str, float]]:
    """(true class, answer, percent of the class) of the `most` frequent mistakes."""
    shares_CC = 100 * counts_CC / np.maximum(counts_CC.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(shares_CC, 0)
    order = np.argsort(-shares_CC, axis=None, kind="stable")[:most]
    rows, columns = np.unravel_index(order, shares_CC.shape)
    return [
        (classes[row], classes[column], float(shares_CC[row, column]))
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        if shares_CC[row, column] > 0
    ]


def _worst_told(shares_CC: NDArray[np.float64], classes: Sequence[str]) -> str:
    pairs = confused_pairs(np.rint(100 * shares_CC).astype(np.int64), classes, 5)
    return "Most frequent mistakes: " + "; ".join(f"{a} taken for {b}, {share:.0f} %" for a, b, share in pairs)


def class_chart(
    recalls: Sequence[tuple[str, float, float]], names: tuple[str, str], colours: tuple[str, str], title: str
) -> Markup:
    """A row a class (name, accuracy under the first method, under the second, in percent), joined by a line; the worst on top."""
    height = 34 + ROW * min(len(recalls), MOST_ROWS) + 34
    least = min((min(first, second) for _, first, second in recalls), default=0.0)
    x = Scale(10 * min(9.0, least // 10), 100, 116.0, WIDTH - 20)
    parts = []
    for value in ticks(x.low, 100, 5):
        parts.append(line(x(value), 30, x(value), height - 30, "grid"))
        parts.append(text(x(value), height - 14, f"{value:g}", "t", "middle"))
    for place, name, colour, anchor in zip((116, WIDTH - 20), names, colours, ("", "end"), strict=True):
        key = [text(place, 16, f"● {shortened(name, 24)}", "f name", anchor)]
        parts.append(tag("g", {"class": colour}, joined(key)))
    for index, (name, first, second) in enumerate(sorted(recalls, key=lambda row: row[1])[:MOST_ROWS]):
        down = 34 + ROW * (index + 0.5)
        parts.append(text(108, down + 4, shortened(name, 16), "t ink", "end", name))
        parts.append(line(x(first), down, x(second), down, "link", width=2.0))
        for value, colour, method in ((second, colours[1], names[1]), (first, colours[0], names[0])):
            hint = f"{name}, {method}: {value:.1f} %"
            parts.append(tag("g", {"class": colour}, marker(x(value), down, "circle", "s f", hint, 4.5)))
    described = "; ".join(f"{name} {first:.0f} and {second:.0f} %" for name, first, second in recalls[:20])
    return figure(WIDTH, height, title, f"{names[0]} and {names[1]}: {described}", parts)
