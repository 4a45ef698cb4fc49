"""Side-by-side measurement for the scripts beside this file: contestants take turns, and the results go three ways.

A slow minute of a shared machine hits all contestants of a round, so what is compared is the ratio inside a round.
"""

import csv
import dataclasses
import io
import pathlib
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from cache import atomic_write_bytes
from tcs.runtime import environment, say

RESULTS = pathlib.Path(__file__).parent / "results"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """Values of every contestant in every round, in `unit`; ratios are against the contestant `base`."""

    title: str
    unit: str
    base: str
    values: Mapping[str, Sequence[float]]

    def ratios(self, name: str) -> list[float]:
        """Value over value of the base, round by round."""
        return [value / base for value, base in zip(self.values[name], self.values[self.base], strict=True)]

    def markdown(self) -> str:
        """One row per contestant: median [least - most] of its values and of its ratios."""
        lines = [
            f"| {self.title} | {self.unit}, median [least - most] | n | x {self.base}, median [least - most] |",
            "|---|---:|---:|---:|",
        ]
        for name, values in self.values.items():
            lines.append(f"| {name} | {spread(values)} | {len(values)} | {spread(self.ratios(name), digits=2)} |")
        return "\n".join(lines)


def spread(values: Sequence[float], digits: int | None = None) -> str:
    """``median [least - most]`` with `digits` after the point, or as many as the median's size asks for."""
    middle = statistics.median(values)
    if digits is None:
        digits = 0 if middle >= 100 else 1 if middle >= 10 else 2
    return f"{middle:,.{digits}f} [{min(values):,.{digits}f} - {max(values):,.{digits}f}]"


def seconds_in_turns(
    contestants: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] | None = None
) -> dict[str, list[float]]:
    """Seconds by `clock` (None: of the wall) of every contestant in every round: A B C, A B C ... Warming up is the caller's affair.

    Each is said as it is known, so that a run that is cut short leaves the rounds that it had.
    """
    clock = time.perf_counter if clock is None else clock
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name, contestant in contestants.items():
            start = clock()
            contestant()
            seconds[name].append(clock() - start)
            say(f"round {number + 1} of {rounds}: {name}, {seconds[name][-1]:.4g} s")
    return seconds


def per_second(seconds: Mapping[str, Sequence[float]], amount: float) -> dict[str, list[float]]:
    """Speeds from seconds, where every contestant handles `amount` in each round."""
    return {name: [amount / value for value in values] for name, values in seconds.items()}


def report(name: str, tables: Sequence[Table], module: str, arguments: Sequence[str] | None, more: str = "") -> None:
    """Print the tables, `more` and what it was measured with; write results/<name>/<name>.md, .csv, .png (with matplotlib)."""
    command = shlex.join(["python", "-m", module, *(sys.argv[1:] if arguments is None else arguments)])
    text = "\n\n".join([*(table.markdown() for table in tables), *([more] if more else []), f"{_facts(command)}\n"])
    print(text)
    folder = RESULTS / name
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(folder / f"{name}.md", text.encode())
    atomic_write_bytes(folder / f"{name}.csv", _csv(tables).encode())
    _draw(tables, folder / f"{name}.png")


def _facts(command: str) -> str:
    facts = environment()
    versions = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
    return (
        f"`{command}`; {facts['processor']}, {facts['cores']} cores; Python {facts['python']}, {versions};"
        f" commit {facts['commit']}."
    )


def _csv(tables: Sequence[Table]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["table", "contestant", "round", "value", "unit", "base", "ratio"])
    for table in tables:
        for name, values in table.values.items():
            for number, (value, ratio) in enumerate(zip(values, table.ratios(name), strict=True)):
                writer.writerow([table.title, name, number, f"{value:.6g}", table.unit, table.base, f"{ratio:.4f}"])
    return buffer.getvalue()


def _draw(tables: Sequence[Table], path: pathlib.Path) -> None:
    """Bars of the median ratios with their least and most, one panel per table."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        print(f"matplotlib is missing, so {path.name} is not drawn.")
        return
    heights = [len(table.values) + 1.6 for table in tables]
    figure = Figure(figsize=(9, 0.34 * sum(heights) + 0.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(tables), 1, squeeze=False, gridspec_kw={"height_ratios": heights}).ravel()
    for axis, table in zip(axes, tables, strict=True):
        ratios = {name: table.ratios(name) for name in table.values}
        middles = [statistics.median(values) for values in ratios.values()]
        low = [middle - min(values) for middle, values in zip(middles, ratios.values(), strict=True)]
        high = [max(values) - middle for middle, values in zip(middles, ratios.values(), strict=True)]
        axis.barh(list(ratios), middles, xerr=[low, high], capsize=2, color="C0", error_kw={"elinewidth": 0.9})
        axis.axvline(1, color="0.4", linewidth=0.8)
        axis.invert_yaxis()
        axis.set_title(table.title, fontsize=9, loc="left")
        axis.set_xlabel(f"x {table.base}", fontsize=8)
        axis.tick_params(labelsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    atomic_write_bytes(path, buffer.getvalue())
