"""Tables and the figure of heads: what the labels of a few rows reach, spread over the cached features of a pool, without a student."""

import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tcs.plain_files import load_table
from tcs.reporting.intervals import t_interval
from tcs.reporting.tables import markdown

RESULTS = pathlib.Path(__file__).parents[2] / "benchmarks" / "results" / "heads" / "results.csv"
PROBE, SPREAD = "k-shot probe", "labels spread over the pool"
Row = Mapping[str, Any]


def heads_table() -> str:
    """The k-shot probe of the frozen teacher, labels spread over the pool, and the paired gain."""
    rows = _heads(lambda row: row["pool"] == "full" and row["estimator"] == "average")
    lines = []
    for name in _values(rows, "dataset"):
        cells = [name]
        for shots in _values(rows, "shots"):
            here = [row for row in rows if (row["dataset"], row["shots"]) == (name, shots)]
            probe, spread = ([float(row[column]) for row in here] for column in ("ridge_top1", "top1"))
            gain = t_interval([after - before for before, after in zip(probe, spread, strict=True)])
            cells.append(f"{_mean(probe)} → {_mean(spread)} ({_signed(gain.mean)} ± {gain.half:.1f})")
        lines.append(cells)
    return markdown(["", *(shots_words(int(shots)) for shots in _values(rows, "shots"))], lines)


def estimators_table() -> str:
    """The gain of each estimator over the probe, without the check, on the mean of the caches."""
    rows = _heads(lambda row: row["pool"] == "full")
    lines = []
    for name in _values(rows, "estimator"):
        column = "unchecked_top1" if name == "average" else "top1"
        gains = [
            [float(row[column]) - float(row["ridge_top1"]) for row in rows if (row["estimator"], row["shots"]) == (name, shots)]
            for shots in _values(rows, "shots")
        ]  # fmt: skip
        lines.append([f"`{name}`", *(_signed(sum(gain) / len(gain)) for gain in gains)])
    return markdown(["", *(shots_words(int(shots)) for shots in _values(rows, "shots"))], lines)


def pools_table() -> str:
    """What the default gains on pools that are not uniform, in class-mean top-1."""
    rows = _heads(lambda row: row["pool"] not in ("full", "two") and row["estimator"] == "average")
    lines = []
    for name in _values(rows, "dataset"):
        cells = [name]
        for pool in _values(rows, "pool"):
            by_shots = []
            for shots in _values(rows, "shots"):
                here = [row for row in rows if (row["dataset"], row["pool"], row["shots"]) == (name, pool, shots)]
                gains = [float(row["class_mean_top1"]) - float(row["ridge_class_mean_top1"]) for row in here]
                by_shots.append(_signed(sum(gains) / len(gains)))
            cells.append(" / ".join(by_shots))
        lines.append(cells)
    return markdown(["", *_values(rows, "pool")], lines)


def heads_curves() -> dict[str, dict[str, dict[int, list[float]]]]:
    """Cache -> probe and spread labels -> shots -> top-1 of each split."""
    found: dict[str, dict[str, dict[int, list[float]]]] = {}
    for row in _heads(lambda row: row["pool"] == "full" and row["estimator"] == "average"):
        curves = found.setdefault(row["dataset"], {PROBE: {}, SPREAD: {}})
        for name, column in ((PROBE, "ridge_top1"), (SPREAD, "top1")):
            curves[name].setdefault(int(row["shots"]), []).append(float(row[column]))
    return found


def shots_words(count: int) -> str:
    """`1 shot`, `4 shots`."""
    return f"{count} shot{'s' * (count != 1)}"


def _heads(kept: Callable[[Row], bool]) -> list[Row]:
    return [row for row in load_table(RESULTS) if kept(row)]


def _values(rows: Iterable[Row], column: str) -> Iterator[Any]:
    """The values of a column, each once, in the order in which they come."""
    return iter(dict.fromkeys(row[column] for row in rows))


def _mean(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.1f}"


def _signed(value: float) -> str:
    return f"{value:+.1f}"
