"""Cost against accuracy: a point a student and method, and the line of those that nothing cheaper beats (the Pareto front)."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from tcs.reporting.charts.palette import Look
from tcs.reporting.charts.svg import (
    Scale,
    figure,
    joined,
    line,
    log_ticks,
    marker,
    path,
    shortened,
    tag,
    text,
    ticks,
)
from tcs.reporting.results import TEACHER, Table

WIDTH, HEIGHT = 420.0, 320.0
LEFT, RIGHT, TOP, BOTTOM = 34.0, 20.0, 12.0, 40.0
MOST_NAMED = 10
CHARACTER = 7.0  # px, about, of a bold one
NAMES = {
    "wall_s": "seconds of training",
    "params_m": "parameters (millions)",
    "gmacs": "multiply-adds (billions)",
    "latency_ms": "latency of one image (ms)",
    "peak_mem_mb": "peak memory (MB)",
}
Box = tuple[float, float, float, float]  # left, top, right, bottom
SHAPES = ("circle", "square", "diamond", "triangle")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CostPoint:
    """The mean cost and mean top-1 of a student with a method, over all shot counts and seeds of one data set."""

    model: str
    method: str
    cost: float
    top1: float
    shape: str


def cost_points(tables: Sequence[Table], column: str) -> list[CostPoint]:
    """A point for each student, pool and method of the tables that have the cost; those without are left out, as references are."""
    models = list(dict.fromkeys(table.model for table in tables if table.model != TEACHER))
    points = []
    for table in tables:
        for method in table.methods:
            runs = [
                run for run in table.runs if run.method == method and run.top1 is not None and run.costs.get(column)
            ]
            if table.model == TEACHER or method in table.references or not runs:
                continue
            points.append(
                CostPoint(
                    model=table.model,
                    method=method,
                    cost=statistics.fmean(run.costs[column] for run in runs),
                    top1=statistics.fmean(run.top1 for run in runs if run.top1 is not None),
                    shape=SHAPES[models.index(table.model) % len(SHAPES)],
                )
            )
    return points


def pareto_front(points: Sequence[CostPoint]) -> list[CostPoint]:
    """The points that are better than all that cost no more, cheapest first."""
    front: list[CostPoint] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.top1)):
        if not front or point.top1 > front[-1].top1:
            front.append(point)
    return front


def cost_chart(points: Sequence[CostPoint], column: str, looks: Mapping[str, Look], title: str) -> Markup:
    """The figure of `points`, of one or more, by the cost `column`."""
    costs, scores = [point.cost for point in points], [point.top1 for point in points]
    x = Scale(min(costs) / 1.15, max(costs) * 1.15, LEFT + 4, WIDTH - RIGHT, is_log=True)
    low, high = 5 * (min(scores) // 5), 5 * -(-max(scores) // 5)
    y = Scale(max(0.0, low), min(100.0, high if high > low else low + 5), HEIGHT - BOTTOM, TOP + 6)
    front = pareto_front(points)
    parts = [*_frame(x, y, NAMES.get(column, column)), _steps(front, x, y)]
    for point in points:
        told = f"{point.method}, {point.model}: {point.top1:.1f} % for {point.cost:,.3g} {NAMES.get(column, column)}"
        mark = marker(
            x(point.cost), y(point.top1), point.shape, "s f" if point in front else "s f quiet-fill", told, 5.0
        )
        parts.append(tag("g", {"class": f"{looks[point.method].colour} series", "data-method": point.method}, mark))
    parts += _names(front, points, looks, x, y)
    described = "Nothing cheaper is better than " + ", ".join(
        f"{p.method} ({p.top1:.1f} %, {p.cost:,.3g})" for p in front
    )
    return figure(WIDTH, HEIGHT, title, described, parts)


def _frame(x: Scale, y: Scale, what: str) -> list[Markup]:
    parts = []
    for value in ticks(y.low, y.high, 5):
        parts.append(line(LEFT, y(value), WIDTH - RIGHT, y(value), "grid"))
        parts.append(text(LEFT - 6, y(value) + 4, f"{value:g}", "t", "end"))
    for value in log_ticks(x.low, x.high):
        parts.append(text(x(value), HEIGHT - BOTTOM + 17, f"{value:,g}", "t", "middle"))
    parts.append(line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "axis"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, f"{what}, mean of a run", "t", "middle"))
    return parts


def _steps(front: Sequence[CostPoint], x: Scale, y: Scale) -> Markup:
    corners: list[tuple[float, float]] = []
    for point in front:
        if corners:
            corners.append((x(point.cost), corners[-1][1]))
        corners.append((x(point.cost), y(point.top1)))
    corners.append((x.end, corners[-1][1]))
    return path(corners, "front", "3 3", 1.2)


def _names(
    front: Sequence[CostPoint], points: Sequence[CostPoint], looks: Mapping[str, Look], x: Scale, y: Scale
) -> list[Markup]:
    """Names beside points, those of the front first. One that finds no free place is left out: a pointer that rests on the point is told
    it."""
    marks = [(x(point.cost), y(point.top1)) for point in points]
    taken: list[Box] = []
    parts: list[Markup] = []
    for point in [*front, *sorted((p for p in points if p not in front), key=lambda p: -p.top1)]:
        name = shortened(point.method, 20)
        places = _places(
            x(point.cost), y(point.top1), CHARACTER * len(name), prefers_left=x(point.cost) > (x.start + x.end) / 2
        )
        place = next(
            (
                found
                for found in places
                if x.start - 4 <= found[3][0] and found[3][2] <= WIDTH and _is_free(found[3], taken, marks)
            ),
            None,
        )
        if place is None or len(parts) == MOST_NAMED:
            continue
        across, down, anchor, box = place
        taken.append(box)
        drawn = text(across, down, name, "f name", anchor)
        parts.append(tag("g", {"class": f"{looks[point.method].colour} series", "data-method": point.method}, drawn))
    return parts


def _places(across: float, down: float, width: float, *, prefers_left: bool) -> list[tuple[float, float, str, Box]]:
    """Where a name may stand, best first: (x, y, anchor, box). To the right it stands above the line of the front."""
    left = (across - 9, down + 4, "end", (across - 9 - width, down - 7, across - 9, down + 6))
    right = (across + 9, down - 3, "", (across + 9, down - 14, across + 9 + width, down - 1))
    above, below = (
        (across, down + shift, "middle", (across - width / 2, down + shift - 11, across + width / 2, down + shift + 2))
        for shift in (-10, 18)
    )
    return [left, above, below, right] if prefers_left else [right, above, below, left]


def _is_free(
    box: Box,
    taken: Sequence[Box],
    marks: Sequence[tuple[float, float]],
) -> bool:
    left, top, right, bottom = box
    meets = any(left < other[2] and other[0] < right and top < other[3] and other[1] < bottom for other in taken)
    return not meets and not any(
        left - 4 < across < right + 4 and top - 4 < down < bottom + 4 for across, down in marks
    )


def cost_columns(tables: Sequence[Table]) -> list[str]:
    """The costs that tell the students or methods of the tables apart: seconds where they are there, then those of the students where
    there are several."""
    values = {
        column: {run.costs[column] for table in tables for run in table.runs if column in run.costs} for column in NAMES
    }
    students = {table.model for table in tables}
    found = ["wall_s"] if values["wall_s"] else []
    found += [column for column in ("params_m", "gmacs", "latency_ms") if len(students) > 1 and len(values[column]) > 1]
    return found


def legend(tables: Sequence[Table]) -> Markup:
    """Which marker is which student; empty for one student."""
    models = list(dict.fromkeys(table.model for table in tables if table.model != TEACHER))
    parts = [
        tag(
            "span",
            {"class": "student"},
            tag("svg", {"viewBox": "0 0 14 14", "class": "chip ref", "aria-hidden": "true"}, _mark(index)),
            model,
        )
        for index, model in enumerate(models)
    ]
    return joined(parts) if len(models) > 1 else Markup("")


def _mark(index: int) -> Markup:
    return marker(7, 7, SHAPES[index % len(SHAPES)], "f")
