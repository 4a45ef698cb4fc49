"""Curves of the teacher's coordinates and of a training: lines over a number, each with its name at the end.

Legend: D axes.
"""

import dataclasses
from collections.abc import Sequence

from markupsafe import Markup

from tcs.reporting.charts.svg import Scale, figure, joined, line, log_ticks, path, shortened, spread, tag, text, ticks

WIDTH, HEIGHT = 420.0, 290.0
LEFT, RIGHT, TOP, BOTTOM = 42.0, 118.0, 12.0, 40.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """A named line of (x, y) points; `colour` is the class of its colour."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str
    dash: str = ""


def curve_chart(curves: Sequence[Curve], across: str, title: str, *, is_log: bool = False) -> Markup:
    """The figure of curves of which at least one has a point. With `is_log` the axis of x is logarithmic."""
    xs = [x for curve in curves for x, _ in curve.points if x > 0 or not is_log]
    ys = [y for curve in curves for _, y in curve.points]
    steps = ticks(min(ys), max(ys), 5)
    low, high = (steps[0], steps[-1]) if len(steps) > 1 else (min(ys) - 0.5, max(ys) + 0.5)
    gap = steps[1] - steps[0] if len(steps) > 1 else 1.0
    y = Scale(low - gap if min(ys) < low else low, high + gap if max(ys) > high else high, HEIGHT - BOTTOM, TOP)
    x = Scale(min(xs), max(xs), LEFT + 6, WIDTH - RIGHT - 4, is_log=is_log)
    parts = _frame(x, y, across)
    ends = []
    for curve in curves:
        places = [(x(at), y(value)) for at, value in curve.points if at > 0 or not is_log]
        parts.append(tag("g", {"class": curve.colour}, path(places, "s", curve.dash, 2.0)))
        ends.append(places[-1][1])
    for curve, down in zip(curves, spread(ends, 15.0, TOP + 6, HEIGHT - BOTTOM), strict=True):
        name = text(WIDTH - RIGHT + 6, down + 4, shortened(curve.name, 17), "f name", hint=curve.name)
        parts.append(tag("g", {"class": curve.colour}, joined([name])))
    described = "; ".join(f"{curve.name} ends at {curve.points[-1][1]:.4g}" for curve in curves)
    return figure(WIDTH, HEIGHT, title, described, parts)


def _frame(x: Scale, y: Scale, across: str) -> list[Markup]:
    parts = []
    for value in ticks(y.low, y.high, 5):
        parts.append(line(LEFT, y(value), WIDTH - RIGHT, y(value), "grid"))
        parts.append(text(LEFT - 6, y(value) + 4, f"{value:.4g}", "t", "end"))
    for value in log_ticks(x.low, x.high) if x.is_log else ticks(x.low, x.high, 5):
        parts.append(text(x(value), HEIGHT - BOTTOM + 17, f"{value:,.6g}", "t", "middle"))
    parts.append(line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "axis"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, across, "t", "middle"))
    return parts
