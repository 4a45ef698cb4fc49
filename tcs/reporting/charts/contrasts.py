"""Differences of two methods with their intervals about a line at zero, and average ranks with the critical difference."""

import dataclasses
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from tcs.reporting.charts.palette import Look
from tcs.reporting.charts.svg import Scale, figure, joined, line, marker, shortened, tag, text, ticks
from tcs.reporting.contrast import FEW_SEEDS
from tcs.reporting.intervals import Interval
from tcs.reporting.ranks import Ranking

ROW = 22.0
NAMES = (110.0, 226.0)  # from and to of the room for names, which takes what the longest needs
CHARACTER = 6.6  # px, about
PLOT, VALUES = 222.0, 100.0  # room for the intervals and for the numbers behind them
RANK_WIDTH, RANK_NAMES = 680.0, 172.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class DifferenceRow:
    """A row of the forest: its name, the difference in points, whether it is the summary, and the class of its colour."""

    name: str
    difference: Interval
    is_whole: bool = False
    colour: str = "ink-series"


def forest(rows: Sequence[DifferenceRow], better: str, worse: str, title: str) -> Markup:
    """A row a difference `better` - `worse` (points of top-1); intervals so wide that they would hide the others are cut at the edge."""
    height = 34 + ROW * len(rows) + 34
    names = min(max(NAMES[0], CHARACTER * max(len(row.name) for row in rows)), NAMES[1])
    x = Scale(*_range(rows), names + 14, names + 14 + PLOT)
    parts = []
    for value in ticks(x.low, x.high, 5):
        parts.append(line(x(value), 30, x(value), height - 30, "grid"))
        parts.append(text(x(value), height - 14, f"{value:+g}" if value else "0", "t", "middle"))
    parts.append(line(x(0), 26, x(0), height - 30, "zero"))
    parts.append(text(x(0) - 8, 18, f"← {shortened(worse, 16)}", "t", "end"))
    parts.append(text(x(0) + 8, 18, f"{shortened(better, 16)} →", "t"))
    for index, row in enumerate(rows):
        parts.append(_difference(row, x, names, 34 + ROW * (index + 0.5)))
    described = "; ".join(f"{row.name}: {told(row.difference)}" for row in rows[:12])
    return figure(names + 28 + PLOT + VALUES, height, title, described, parts)


def _range(rows: Sequence[DifferenceRow]) -> tuple[float, float]:
    """All means, and intervals up to three times as wide as the means are apart from each other and from zero."""
    means = [0.0, *(row.difference.mean for row in rows)]
    reach = 3 * max(max(means) - min(means), 1.0)
    ends = [row.difference.mean + sign * min(row.difference.half or 0.0, reach / 2) for row in rows for sign in (-1, 1)]
    low, high = min(*means, *ends), max(*means, *ends)
    margin = 0.06 * (high - low or 1.0)
    return low - margin, high + margin


def told(difference: Interval) -> str:
    """+1.2 ± 0.3 (5)."""
    spread = "" if difference.half is None else f" ± {difference.half:.1f}"
    return f"{difference.mean:+.1f}{spread} ({difference.n})"


def _difference(row: DifferenceRow, x: Scale, names: float, down: float) -> Markup:
    half, mean = row.difference.half, row.difference.mean
    hint = f"{row.name}: {told(row.difference)} points"
    parts = [
        text(names, down + 4, shortened(row.name, 34), "name ink strong" if row.is_whole else "name ink", "end", hint)
    ]
    if half is not None:
        ends = (max(x.low, mean - half), min(x.high, mean + half))
        parts.append(line(x(ends[0]), down, x(ends[1]), down, "s", width=3.5 if row.is_whole else 2.0))
    few = row.difference.n < FEW_SEEDS
    parts.append(
        marker(x(mean), down, "diamond" if row.is_whole else "circle", "s hollow" if few else "s f", hint, 4.5)
    )
    parts.append(text(names + 28 + PLOT, down + 4, told(row.difference), "t ink strong" if row.is_whole else "t ink"))
    return tag("g", {"class": row.colour}, joined(parts))


def ranks_chart(ranking: Ranking, looks: Mapping[str, Look]) -> Markup:
    """The figure of Demsar (2006): an axis of average ranks, the best to the left; a bar joins methods that do not differ."""
    k = len(ranking.methods)
    half = (k + 1) // 2
    bars = len(ranking.alike)
    axis = 58.0
    first = axis + 14 + 9 * bars + 16
    height = first + 20 * half + 10
    x = Scale(1, k, RANK_NAMES, RANK_WIDTH - RANK_NAMES)
    parts = [line(x(1), axis, x(k), axis, "axis")]
    for mark in map(float, range(1, k + 1)) if k <= 12 else ticks(1, k, 8):
        parts.append(line(x(mark), axis - 5, x(mark), axis, "axis"))
        parts.append(text(x(mark), axis - 10, f"{mark:g}", "t", "middle"))
    width = min(x(1 + ranking.critical), x(k)) - x(1)
    parts.append(line(x(1), 20, x(1) + width, 20, "bar", width=2.0))
    beyond = " (wider than the axis)" if ranking.critical > k - 1 else ""
    parts.append(text(x(1), 12, f"critical difference {ranking.critical:.2f}{beyond}", "t"))
    for index, (start, stop) in enumerate(ranking.alike):
        down = axis + 12 + 9 * index
        ends = x(ranking.ranks[start]) - 4, x(ranking.ranks[stop]) + 4
        parts.append(line(ends[0], down, ends[1], down, "bar", width=4.0))
    for index, (method, rank) in enumerate(zip(ranking.methods, ranking.ranks, strict=True)):
        to_left = index < half
        down = first + 20 * (index if to_left else k - 1 - index)
        parts.append(_ranked(method, rank, x(rank), axis, down, looks[method].colour, to_left=to_left))
    described = ", ".join(f"{m} {rank:.2f}" for m, rank in zip(ranking.methods, ranking.ranks, strict=True))
    return figure(RANK_WIDTH, height, f"Average ranks over {ranking.conditions} settings", described, parts)


def _ranked(method: str, rank: float, across: float, axis: float, down: float, colour: str, *, to_left: bool) -> Markup:
    edge, anchor = (RANK_NAMES - 6, "end") if to_left else (RANK_WIDTH - RANK_NAMES + 6, "")
    parts = [
        line(across, axis, across, down, "s", width=1.4),
        line(across, down, edge + (4 if to_left else -4), down, "s", width=1.4),
        text(
            edge,
            down + 4,
            f"{shortened(method, 17)} {rank:.2f}",
            "f name",
            anchor,
            f"{method}: average rank {rank:.2f}",
        ),
    ]
    return tag("g", {"class": f"{colour} series", "data-method": method}, joined(parts))
