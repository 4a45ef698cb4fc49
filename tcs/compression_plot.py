"""compression.png: accuracy over compression with 95 % intervals, a line a projection, the uncompressed head in grey."""

import pathlib
from collections.abc import Mapping

from tcs.intervals import Interval
from tcs.plot import MARKERS, new_figure, save_figure


def draw_compression(cells: Mapping[tuple[str, int], Interval], reference: str, title: str, path: pathlib.Path) -> None:
    """Write the figure of (projection, K) -> top-1 as PNG; ConfigError naming the extra `plots` where matplotlib is missing.

    `reference` is the projection of the uncompressed head, drawn as a level line.
    """
    figure = new_figure(path, 6.4, 4.4)
    axis = figure.subplots()
    dims, whole = next((size, cell) for (name, size), cell in cells.items() if name == reference)
    axis.axhline(whole.mean, color="0.45", linestyle=(0, (4, 2)), linewidth=1.2, label=f"{reference} ({dims} dims)")
    if whole.half is not None:
        axis.axhspan(whole.mean - whole.half, whole.mean + whole.half, color="0.45", alpha=0.12, linewidth=0)
    projections = list(dict.fromkeys(name for name, _ in cells if name != reference))
    for index, name in enumerate(projections):
        points = sorted((dims / size, cell) for (projection, size), cell in cells.items() if projection == name)
        shift = 2 ** (
            0.04 * (index - (len(projections) - 1) / 2)
        )  # side by side, so that intervals do not hide each other
        axis.errorbar(
            [ratio * shift for ratio, _ in points],
            [cell.mean for _, cell in points],
            yerr=[cell.half or 0.0 for _, cell in points],
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
