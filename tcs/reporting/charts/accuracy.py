"""Accuracy over shots: one panel a table, a line a method with its 95 % intervals and its name at its end; one shot count makes rows."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from tcs.reporting.charts.palette import Look
from tcs.reporting.charts.svg import Scale, figure, joined, line, marker, path, shortened, spread, tag, text, ticks
from tcs.reporting.contrast import FEW_SEEDS
from tcs.reporting.intervals import Interval
from tcs.reporting.results import Table

WIDTH, HEIGHT = 420.0, 320.0
LEFT, RIGHT, TOP, BOTTOM = 34.0, 132.0, 10.0, 40.0
ROW = 22.0
MOST_NAMED = 12  # lines with a name at their end
NAME = 19  # characters


def clipped(interval: Interval) -> tuple[float, float]:
    """The ends of an interval of percentages: none is below 0 or above 100. Both are the mean where there is no interval."""
    half = interval.half or 0.0
    return max(0.0, interval.mean - half), min(100.0, interval.mean + half)


def accuracy_range(tables: Sequence[Table]) -> tuple[float, float]:
    """From and to of the axis that shows all means and intervals of the tables, in steps of 10 percent; of intervals wider than 40
    points, which few seeds make, the means alone."""
    ends = [50.0] if not tables else []
    for table in tables:
        for method in table.methods:
            for shots in table.shots:
                interval = table.interval(method, shots)
                if interval is not None:
                    ends += clipped(interval) if (interval.half or 0) < 20 else (interval.mean,)
        ends += [interval.mean for interval in table.bounds.values()]
    low, high = 10 * (min(ends) // 10), 10 * -(-max(ends) // 10)
    return max(0.0, low), min(100.0, high if high > low else low + 10)


def hint(method: str, shots: int, interval: Interval) -> str:
    """What is told of a point."""
    seeds = f"{interval.n} seed{'s' * (interval.n != 1)}"
    if interval.half is None:
        return f"{method}, {shots} shots: {interval.mean:.1f} % ({seeds}, no interval)"
    low, high = clipped(interval)
    return f"{method}, {shots} shots: {interval.mean:.1f} % (95 % interval {low:.1f} to {high:.1f}, {seeds})"


def accuracy_chart(table: Table, looks: Mapping[str, Look], limits: tuple[float, float]) -> Markup:
    """The panel of a table; `limits` are those of its axis, which panels of one data set share."""
    if len(table.shots) < 2:
        return accuracy_rows(table, looks)
    x = Scale(table.shots[0], table.shots[-1], LEFT + 12, WIDTH - RIGHT - 8, is_log=True)
    y = Scale(*limits, HEIGHT - BOTTOM, TOP)
    parts = _frame(table, x, y)
    lines = _lines(table)
    order = sorted(lines, key=lambda method: (not looks[method].is_reference, -lines[method][-1][1].mean))
    for index, method in enumerate(order):
        parts.append(_line(method, lines[method], looks[method], x, y, _shift(index, len(order))))
    parts += [_bound(method, interval, looks[method], y) for method, interval in table.bounds.items()]
    parts += _names(table, lines, looks, y)
    described = "; ".join(hint(method, *points[-1]) for method, points in list(lines.items())[:MOST_NAMED])
    return figure(WIDTH, HEIGHT, f"Top-1 accuracy over shots, {table.title}", described, parts)


def _shift(index: int, count: int) -> float:
    """Points of one shot count stand side by side, so that intervals do not hide each other."""
    return (index - (count - 1) / 2) * min(3.0, 16.0 / max(count, 1))


def _lines(table: Table) -> dict[str, list[tuple[int, Interval]]]:
    """Method -> its points; methods without any are left out."""
    lines = {
        method: [(shots, found) for shots in table.shots if (found := table.interval(method, shots)) is not None]
        for method in table.methods
    }
    return {method: points for method, points in lines.items() if points}


def chart_height(table: Table) -> float:
    """Of the panel of a table, which is WIDTH wide."""
    return HEIGHT if len(table.shots) > 1 else TOP + ROW * len(_lines(table)) + 40


def unnamed(table: Table) -> list[str]:
    """The methods that the panel of a table draws without their name, best of all first: those that end before the last shot count, and
    those below the best MOST_NAMED. A pointer that rests on a point is told it; a file that is no page needs a key."""
    if len(table.shots) < 2:
        return []
    lines = _lines(table)
    ends = _ends(table, lines)
    last = {method: points[-1][1].mean for method, points in lines.items() if method not in _named(ends)}
    return [
        *sorted(last, key=lambda method: -last[method]),
        *(name for name in table.bounds if name not in _named(ends)),
    ]


def _frame(table: Table, x: Scale, y: Scale) -> list[Markup]:
    parts = []
    for value in ticks(y.low, y.high):
        parts.append(line(LEFT, y(value), WIDTH - RIGHT, y(value), "grid"))
        parts.append(text(LEFT - 6, y(value) + 4, f"{value:g}", "t", "end"))
    for shots in table.shots:
        parts.append(text(x(shots), HEIGHT - BOTTOM + 17, f"{shots}", "t", "middle"))
    parts.append(line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "axis"))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(text(middle, HEIGHT - 6, "labelled images per class", "t", "middle"))
    return parts


def _line(method: str, points: Sequence[tuple[int, Interval]], look: Look, x: Scale, y: Scale, shift: float) -> Markup:
    places = [(x(shots) + shift, y(min(max(interval.mean, y.low), y.high))) for shots, interval in points]
    parts = [path(places, "s", look.dash, 1.4 if look.is_reference else 2.2)] if len(places) > 1 else []
    for (across, down), (shots, interval) in zip(places, points, strict=True):
        low, high = clipped(interval)
        if interval.half is not None:
            parts.append(line(across, y(max(low, y.low)), across, y(min(high, y.high)), "s ci", width=1.2))
        few = interval.n < FEW_SEEDS
        shape = look.marker or "circle"
        size = 2.5 if look.is_reference else 4.0
        parts.append(marker(across, down, shape, "s hollow" if few else "s f", hint(method, shots, interval), size))
    return tag("g", {"class": f"{look.colour} series", "data-method": method}, joined(parts))


def _bound(method: str, interval: Interval, look: Look, y: Scale) -> Markup:
    down = y(min(max(interval.mean, y.low), y.high))
    parts = [line(LEFT, down, WIDTH - RIGHT, down, "s", look.dash, 1.2)]
    return tag("g", {"class": f"{look.colour} series", "data-method": method}, joined(parts))


def _ends(table: Table, lines: Mapping[str, Sequence[tuple[int, Interval]]]) -> dict[str, float]:
    """Method -> where its line meets the right edge of the panel."""
    ends = {method: points[-1][1].mean for method, points in lines.items() if points[-1][0] == table.shots[-1]}
    return ends | {method: interval.mean for method, interval in table.bounds.items()}


def _named(ends: Mapping[str, float]) -> list[str]:
    return sorted(ends, key=lambda method: -ends[method])[:MOST_NAMED]


def _names(
    table: Table, lines: Mapping[str, Sequence[tuple[int, Interval]]], looks: Mapping[str, Look], y: Scale
) -> list[Markup]:
    """Names at the ends of lines, those of the best first where there are more than fit."""
    ends = _ends(table, lines)
    named = _named(ends)
    wanted = [y(min(max(ends[method], y.low), y.high)) for method in named]
    places = spread(wanted, 15.0, TOP + 6, HEIGHT - BOTTOM - 2)
    parts = []
    for method, down, end in zip(named, places, wanted, strict=True):
        look = looks[method]
        inside = [
            line(WIDTH - RIGHT + 4, end, WIDTH - RIGHT + 14, down, "s", width=0.8),
            text(
                WIDTH - RIGHT + 18, down + 4, shortened(method, NAME), "f name", hint=f"{method}: {ends[method]:.1f} %"
            ),
        ]
        parts.append(tag("g", {"class": f"{look.colour} series", "data-method": method}, joined(inside)))
    return parts


def accuracy_rows(table: Table, looks: Mapping[str, Look]) -> Markup:
    """A table of one shot count: a row a method, the best on top, its mean with the interval on a common scale."""
    shots = table.shots[0] if table.shots else 0
    found = {method: interval for method in table.methods if (interval := table.interval(method, shots)) is not None}
    order = sorted(found, key=lambda method: -found[method].mean)
    height = chart_height(table)
    limits = accuracy_range([table])
    x = Scale(*limits, 156.0, WIDTH - 48)
    parts = []
    for value in ticks(*limits, 5):
        parts.append(line(x(value), TOP, x(value), height - 34, "grid"))
        parts.append(text(x(value), height - 20, f"{value:g}", "t", "middle"))
        parts.append(text(x(value), TOP - 2, f"{value:g}", "t", "middle") if len(order) > 20 else Markup(""))
    parts.append(
        text((156 + WIDTH - 48) / 2, height - 4, f"top-1 accuracy (%), {shots} shot{'s' * (shots != 1)}", "t", "middle")
    )
    for index, method in enumerate(order):
        parts.append(_row(method, found[method], shots, looks[method], x, TOP + ROW * (index + 0.5)))
    described = "; ".join(hint(method, shots, found[method]) for method in order[:MOST_NAMED])
    return figure(WIDTH, height, f"Top-1 accuracy, {table.title}", described, parts)


def _row(method: str, interval: Interval, shots: int, look: Look, x: Scale, down: float) -> Markup:
    low, high = (min(max(end, x.low), x.high) for end in clipped(interval))
    few = interval.n < FEW_SEEDS
    parts = [
        text(148, down + 4, shortened(method, 22), "f name", "end", method),
        line(x(low), down, x(high), down, "s", width=2.0) if interval.half is not None else Markup(""),
        marker(
            x(interval.mean), down, look.marker or "circle", "s hollow" if few else "s f", hint(method, shots, interval)
        ),
        text(WIDTH - 4, down + 4, f"{interval.mean:.1f}", "t ink", "end"),
    ]
    return tag("g", {"class": f"{look.colour} series", "data-method": method}, joined(parts))
