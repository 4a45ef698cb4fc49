"""Figures: accuracy over shots, a panel a cache, as SVG that is the same at every build."""

import io
import math
from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from tcs.reporting.intervals import t_interval

COLUMNS = 2
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


def accuracy_figure(panels: Mapping[str, Curves]) -> str:
    """SVG text: panels of (method -> shots -> top-1 of each seed); bars are 95 % t-intervals, clipped at 0 and 100."""
    with mpl.rc_context({"svg.hashsalt": "tcs", "svg.fonttype": "none", "font.size": 9}):
        lines = math.ceil(len(panels) / COLUMNS)
        figure = Figure(figsize=(9, 3 * lines + 0.6), layout="constrained")
        FigureCanvasSVG(figure)
        places = figure.subplots(lines, COLUMNS).ravel()
        axes = places[: len(panels)]
        for axis in places[len(panels) :]:
            axis.set_axis_off()
        for panel, (axis, (name, curves)) in enumerate(zip(axes, panels.items(), strict=True)):
            for place, (method, by_shots) in enumerate(curves.items()):
                intervals = {shots: t_interval(values) for shots, values in by_shots.items() if values}
                across = [shots * 1.03 ** (place - 2) for shots in intervals]
                middles = [found.mean for found in intervals.values()]
                low = [min(found.half or 0, found.mean) for found in intervals.values()]
                high = [min(found.half or 0, 100 - found.mean) for found in intervals.values()]
                style = "--" if method.startswith("teacher") else "-"
                axis.errorbar(across, middles, [low, high], color=COLOURS[method], fmt=f"o{style}", label=method,
                              markersize=4, linewidth=1.4, elinewidth=0.8, capsize=2)  # fmt: skip
            axis.set_xscale("log", base=2)
            shots = sorted({shots for curves in panels.values() for by in curves.values() for shots in by})
            axis.set_xticks(shots, [str(count) for count in shots])
            axis.set_title(name, fontsize=10, loc="left")
            axis.set_xlabel("labelled images a class")
            axis.set_ylabel("" if panel % COLUMNS else "top-1 %")
            axis.grid(axis="y", linewidth=0.3)
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
