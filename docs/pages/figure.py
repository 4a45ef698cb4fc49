"""Figures: accuracy over shots, a panel a cache, as SVG that is the same at every build; one for wide windows and one for telephones."""

import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from tcs.reporting.intervals import t_interval


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """Panels side by side, the size of the figure in inches, and names side by side below it (None: all of them).

    A figure is shown as wide as the text of a page. At 390 pixels that is 358 of them, so letters that are to be read there are of a
    figure about as narrow: 4.2 inches are 302 points, which makes 9 points 10.7 pixels.
    """

    columns: int
    width: float
    panel_height: float
    legend_height: float
    legend_columns: int | None = None


WIDE = Layout(columns=2, width=9, panel_height=3, legend_height=0.6)
ROW = Layout(columns=4, width=9, panel_height=2.2, legend_height=0.35)
NARROW = Layout(columns=1, width=4.2, panel_height=2.5, legend_height=0.9, legend_columns=2)
COLOURS = {
    "labels": "#8c8c8c",
    "kd": "#1f77b4",
    "tcs-pool": "#d62728",
    "teacher-probe": "#2ca02c",
    "teacher-transductive": "#98c379",
    "k-shot probe": "#2ca02c",
    "labels spread over the pool": "#d62728",
}
Curves = Mapping[str, Mapping[int, Sequence[float]]]


def accuracy_figure(panels: Mapping[str, Curves], layout: Layout = WIDE) -> str:
    """SVG text: panels of (method -> shots -> top-1 of each seed); bars are 95 % t-intervals, clipped at 0 and 100."""
    with mpl.rc_context({"svg.hashsalt": "tcs", "svg.fonttype": "none", "font.size": 9}):
        lines = math.ceil(len(panels) / layout.columns)
        height = layout.panel_height * lines + layout.legend_height
        figure = Figure(figsize=(layout.width, height), layout="constrained")
        FigureCanvasSVG(figure)
        places = figure.subplots(lines, layout.columns, squeeze=False).ravel()
        axes = places[: len(panels)]
        for axis in places[len(panels) :]:
            axis.set_axis_off()
        shots = sorted({shots for curves in panels.values() for by in curves.values() for shots in by})
        for panel, (axis, (name, curves)) in enumerate(zip(axes, panels.items(), strict=True)):
            _draw(axis, curves)
            axis.set_xscale("log", base=2)
            axis.set_xticks(shots, [str(count) for count in shots])
            axis.set_title(name, fontsize=10, loc="left")
            axis.set_xlabel("labelled images a class")
            axis.set_ylabel("" if panel % layout.columns else "top-1 %")
            axis.grid(axis="y", linewidth=0.3)
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=layout.legend_columns or len(names))
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _draw(axis: Any, curves: Curves) -> None:
    """The curves of one panel; those of teachers are dashed, and points stand a little apart so that no bar hides another."""
    for place, (method, by_shots) in enumerate(curves.items()):
        intervals = {shots: t_interval(values) for shots, values in by_shots.items() if values}
        across = [shots * 1.03 ** (place - 2) for shots in intervals]
        middles = [found.mean for found in intervals.values()]
        low = [min(found.half or 0, found.mean) for found in intervals.values()]
        high = [min(found.half or 0, 100 - found.mean) for found in intervals.values()]
        style = "--" if method.startswith("teacher") else "-"
        axis.errorbar(across, middles, [low, high], color=COLOURS[method], fmt=f"o{style}", label=method,
                      markersize=4, linewidth=1.4, elinewidth=0.8, capsize=2)  # fmt: skip
