"""The plot of growth of benchmarks/imagenet_size.py: what each stage costs in seconds and memory, over rows."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from tcs.reporting.figures import new_figure, save_figure

COLOURS = (*(f"C{number}" for number in range(10)), "black")  # one for each stage, and one for writing the store
MARKERS = "osD^vP*X"


def draw(rows: Sequence[Mapping[str, Any]], stages: Sequence[str], path: pathlib.Path) -> None:
    """Seconds and memory of `stages` over rows, of the most classes, both axes logarithmic: a slope of one is linear.

    Points of memory are joined where one commit measured them, as the imports and the count were not the same in all.
    """
    most = max(int(row["classes"]) for row in rows)
    figure = new_figure(path, 9, 4.6)
    for place, (column, unit) in enumerate({"seconds": "processor seconds", "peak_mib": "peak memory, MiB"}.items()):
        axes = figure.add_subplot(1, 2, place + 1)
        for stage in stages:
            look = {"color": COLOURS[stages.index(stage)], "marker": MARKERS[stages.index(stage) % len(MARKERS)]}
            mine = [row for row in rows if row["stage"] == stage and int(row["classes"]) == most]
            for points in lines_of(mine, column, apart=column == "peak_mib"):
                axes.plot(*zip(*points, strict=True), label=stage, markersize=5, **look)
        axes.set(xscale="log", yscale="log", xlabel="rows", ylabel=unit)
        axes.tick_params(axis="x", which="minor", labelbottom=False)
    named = {name: line for axes in figure.axes for line, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    order = [stage for stage in stages if stage in named]
    if order:  # of tiny stores all seconds may be 0.0
        figure.legend([named[name] for name in order], order, loc="outside lower center", ncols=6, fontsize=8)
    save_figure(figure, path)


def lines_of(rows: Sequence[Mapping[str, Any]], column: str, *, apart: bool) -> list[list[tuple[int, float]]]:
    """Points (rows, value) that a line joins, in the order of rows: all, or `apart` those of each commit; no point is 0 or unknown."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for row in sorted(rows, key=lambda row: int(row["rows"])):
        if row[column] not in ("", "0.0"):
            lines.setdefault(row["commit"] if apart else "", []).append((int(row["rows"]), float(row[column])))
    return list(lines.values())
