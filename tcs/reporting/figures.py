"""The figures of reports as PNG, with 95 % intervals: accuracy over shots (hollow where seeds are few), and over compression.

accuracy.png has a panel for each student and pool, and is drawn where it is asked for by that end of its name: accuracy.svg needs no
matplotlib. compression.png has a line for each projection, the uncompressed head in grey.
"""

import io
import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from cache import atomic_write_bytes
from tcs.errors import ConfigError
from tcs.reporting.contrast import FEW_SEEDS
from tcs.reporting.intervals import Interval
from tcs.reporting.results import Table

COLUMNS = 3
TEACHER_STYLES = ((0, (4, 2)), (0, (1, 1.5)), (0, (6, 1.5, 1, 1.5)), (0, (8, 2, 1, 1, 1, 2)))
MARKERS = "osD^vP*X"
KEY_ROW, KEY_ROOM = 0.21, 2  # inches of a row of names below the panels, and rows that there is room for anyway
WRITTEN = "written by tcs report"  # in the PNG, which may be written over


def new_figure(path: pathlib.Path, width: float, height: float) -> Any:
    """A figure of `width` x `height` inches that will be `path`; ConfigError naming the extra `plots` without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # no pyplot: no window, no global state
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            f"matplotlib is missing, so {path.name} is not drawn; pip install 'tcs-distill[plots]'."
        ) from error
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: pathlib.Path) -> None:
    """Write the figure as PNG, whole or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Comment": WRITTEN})
    atomic_write_bytes(path, buffer.getvalue())


def draw_accuracy(tables: Sequence[Table], path: pathlib.Path) -> None:
    """Write the figure as PNG; ConfigError naming the extra `plots` where matplotlib is missing."""
    columns = min(COLUMNS, len(tables))
    rows = -(-len(tables) // columns)
    styles = _styles(tables)
    key_columns = min(len(styles), 2 * columns + 1)
    key_rows = -(-len(styles) // key_columns)
    figure = new_figure(path, max(4.8 * columns, 6.4), 3.8 * rows + 0.9 + KEY_ROW * max(0, key_rows - KEY_ROOM))
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axis, table in zip(axes, tables, strict=False):
        _draw_panel(axis, table, styles)
    for axis in axes[len(tables) :]:
        axis.set_axis_off()
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=key_columns,
        frameon=False,
    )
    save_figure(figure, path)


def _styles(tables: Sequence[Table]) -> dict[str, dict[str, Any]]:
    """One look per method, the same in all panels; the teacher's references in grey, without markers."""
    references = frozenset().union(*(table.references for table in tables))
    methods = dict.fromkeys(method for table in tables for method in table.methods)
    students = [method for method in methods if method not in references]
    looks: dict[str, dict[str, Any]] = {
        method: {"color": f"C{index % 10}", "marker": MARKERS[index % len(MARKERS)], "linewidth": 1.6}
        for index, method in enumerate(students)
    }
    for index, method in enumerate(sorted(references)):
        looks[method] = {"color": "0.45", "linestyle": TEACHER_STYLES[index % len(TEACHER_STYLES)], "linewidth": 1.2}
    return looks


def _draw_panel(axis: Any, table: Table, styles: dict[str, dict[str, Any]]) -> None:
    middle = (len(table.methods) - 1) / 2
    for index, method in enumerate(table.methods):
        points = [(shots, interval) for shots in table.shots if (interval := table.interval(method, shots)) is not None]
        shift = 2 ** (0.05 * (index - middle))  # side by side, so that intervals do not hide each other
        axis.errorbar(
            [shots * shift for shots, _ in points],
            [interval.mean for _, interval in points],
            yerr=_within_percent([interval for _, interval in points]),
            label=method,
            capsize=2,
            markersize=4,
            elinewidth=0.9,
            **styles[method],
        )
        few = [(shots * shift, interval.mean) for shots, interval in points if interval.n < FEW_SEEDS]
        look = {"color": styles[method]["color"], "marker": styles[method].get("marker", "o"), "markersize": 4}
        if few:  # above the line, which errorbar draws a tenth above 2
            axis.plot(*zip(*few, strict=True), linestyle="none", markerfacecolor="white", zorder=2.2, **look)
    axis.set_xscale("log", base=2)
    axis.set_xticks(table.shots, [str(shots) for shots in table.shots])
    axis.minorticks_off()
    name = f"{table.dataset}{': ' if table.dataset else ''}{table.model}"
    axis.set_title(f"{textwrap.fill(name, 50)}\nunlabelled pool: {table.unlabelled}", fontsize=9)
    axis.set_xlabel("labelled images per class (shots)")
    axis.set_ylabel("top-1 accuracy (%), 95 % interval")
    axis.tick_params(labelleft=True)
    axis.grid(alpha=0.25)


def _within_percent(intervals: Sequence[Interval]) -> list[list[float]]:
    """Lengths of the bars below and above the means, which end at 0 and 100 %."""
    below = [min(interval.half or 0.0, interval.mean) for interval in intervals]
    return [below, [min(interval.half or 0.0, 100 - interval.mean) for interval in intervals]]


def draw_compression(cells: Mapping[tuple[str, int], Interval], reference: str, title: str, path: pathlib.Path) -> None:
    """Write the figure of (projection, K) -> top-1 as PNG; ConfigError naming the extra `plots` where matplotlib is missing.

    `reference` is the projection of the uncompressed head, drawn as a level line.
    """
    figure = new_figure(path, 6.4, 4.4)
    axis = figure.subplots()
    dims, whole = next((size, cell) for (name, size), cell in cells.items() if name == reference)
    axis.axhline(whole.mean, color="0.45", linestyle=(0, (4, 2)), linewidth=1.2, label=f"{reference} ({dims} dims)")
    if whole.half is not None:
        axis.axhspan(
            max(0.0, whole.mean - whole.half),
            min(100.0, whole.mean + whole.half),
            color="0.45",
            alpha=0.12,
            linewidth=0,
        )
    projections = list(dict.fromkeys(name for name, _ in cells if name != reference))
    for index, name in enumerate(projections):
        points = sorted((dims / size, cell) for (projection, size), cell in cells.items() if projection == name)
        shift = 2 ** (
            0.04 * (index - (len(projections) - 1) / 2)
        )  # side by side, so that intervals do not hide each other
        axis.errorbar(
            [ratio * shift for ratio, _ in points],
            [cell.mean for _, cell in points],
            yerr=_within_percent([cell for _, cell in points]),
            label=name,
            color=f"C{index % 10}",
            marker=MARKERS[index % len(MARKERS)],
            capsize=2,
            markersize=4,
            linewidth=1.6,
            elinewidth=0.9,
        )
    sizes = sorted({size for name, size in cells if name != reference}, reverse=True)
    axis.set_xscale("log", base=2)
    axis.set_xticks([dims / size for size in sizes], [f"{dims / size:.3g}x\nK={size}" for size in sizes])
    axis.minorticks_off()
    axis.set_title(title, fontsize=9)
    axis.set_xlabel("compression")
    axis.set_ylabel("top-1 accuracy (%), 95 % interval")
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, fontsize=8)
    save_figure(figure, path)


def draw_teachers(cells: Mapping[str, Sequence[Interval]], titles: Sequence[str], path: pathlib.Path) -> None:
    """Write the figure of teacher -> top-1 by measure as PNG; ConfigError naming the extra `plots` where matplotlib is missing."""
    figure = new_figure(path, max(6.4, 1.5 * len(titles)), 4.4)
    axis = figure.subplots()
    for index, (name, intervals) in enumerate(cells.items()):
        shift = 0.6 * ((index + 0.5) / len(cells) - 0.5)  # side by side, so that intervals do not hide each other
        axis.errorbar(
            [place + shift for place in range(len(titles))],
            [interval.mean for interval in intervals],
            yerr=_within_percent(list(intervals)),
            label=textwrap.shorten(name, 60),
            color=f"C{index % 10}",
            marker=MARKERS[index % len(MARKERS)],
            linestyle="none",
            capsize=3,
            markersize=5,
            elinewidth=1,
        )
    axis.set_xticks(range(len(titles)), titles)
    axis.set_xlabel("probe, labelled images per class (all without a number)")
    axis.set_ylabel("top-1 accuracy (%), 95 % interval")
    axis.grid(alpha=0.25, axis="y")
    figure.legend(loc="outside lower center", ncols=min(len(cells), 3), frameon=False, fontsize=8)
    save_figure(figure, path)
