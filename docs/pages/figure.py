"""The figure of students: accuracy over shots, a panel a cache, as SVG that is the same at every build."""

import io
from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from tcs.reporting.intervals import t_interval

COLOURS = {
    "labels": "#8c8c8c",
    "kd": "#1f77b4",
    "tcs-pool": "#d62728",
    "teacher-probe": "#2ca02c",
    "teacher-transductive": "#98c379",
}
Curves = Mapping[str, Mapping[int, Sequence[float]]]


def accuracy_figure(panels: Mapping[str, Curves]) -> str:
    """SVG text: panels of (method -> shots -> top-1 of each seed); bars are 95 % t-intervals, clipped at 0 and 100."""
    with mpl.rc_context({"svg.hashsalt": "tcs", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(9, 6.6), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots(2, 2).ravel()
        for axis, (name, curves) in zip(axes, panels.items(), strict=True):
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
            axis.set_ylabel("top-1 %" if axis in (axes[0], axes[2]) else "")
            axis.grid(axis="y", linewidth=0.3)
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
