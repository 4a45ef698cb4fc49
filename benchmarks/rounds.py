"""Rounds of the contestants of benchmarks/online_teacher.py, and what follows from them: tables, memory, break-even."""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks import lightly_train_loop
from benchmarks.contestants import Contestant, Reading, Setup
from benchmarks.tensor_memory import MIB
from benchmarks.turns import Table
from tcs.runtime import environment, say

LABELS_BASE = "timm, labels only"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """A contestant's turns in their order, and (peak bytes, those of uint8 tensors) of its short run."""

    contestant: Contestant
    readings: Sequence[Reading]
    peak: tuple[int, int] | None

    @property
    def name(self) -> str:
        """The contestant's."""
        return self.contestant.name

    def seconds(self, images: int) -> list[float]:
        """Seconds for so many images, turn by turn."""
        return [images * reading.per_image_seconds for reading in self.readings]

    @property
    def start_seconds(self) -> float:
        """Median of what comes once a run."""
        return statistics.median(reading.start_seconds for reading in self.readings)


def measure(contestants: Sequence[Contestant], rounds: int) -> list[Measured]:
    """Peaks first, which warms everything up, then the turns: A B C, A B C ..."""
    peaks = []
    for contestant in contestants:
        say(f"memory: {contestant.student or 'once'}, {contestant.name}")
        peaks.append(None if contestant.peak is None else contestant.peak())
    readings: list[list[Reading]] = [[] for _ in contestants]
    for number in range(rounds):
        for contestant, taken in zip(contestants, readings, strict=True):
            say(f"round {number + 1} of {rounds}: {contestant.student or 'once'}, {contestant.name}")
            taken.append(contestant.turn())
    return [
        Measured(contestant=contestant, readings=taken, peak=peak)
        for contestant, taken, peak in zip(contestants, readings, peaks, strict=True)
    ]


def break_even_epochs(once_seconds: float, online_seconds: float, cached_seconds: float) -> float:
    """Whole epochs after which `once_seconds` are earned back by cached epochs being shorter than online ones; inf: never."""
    gain = online_seconds - cached_seconds
    return math.ceil(once_seconds / gain) if gain > 0 else math.inf


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """Contestants that are compared with each other: a student on labels, a student and a teacher, or what is done once."""

    student: str | None
    teacher: str | None
    rows: Sequence[Measured]

    @property
    def title(self) -> str:
        """Of its table."""
        return "done once" if self.student is None else f"{self.student}, {self.teacher or 'labels only'}"

    def table(self, images: int) -> Table:
        """Images/s where labels alone are read (against timm's plain loop), else seconds for all images (against the store)."""
        if self.student is not None and self.teacher is None:
            speeds = {row.name: [images / value for value in row.seconds(images)] for row in self.rows}
            return Table(title=self.title, unit="images/s", base=LABELS_BASE, values=speeds)
        unit = "s" if self.student is None else "s/epoch"
        seconds = {row.name: row.seconds(images) for row in self.rows}
        return Table(title=f"{self.title}, {images} images", unit=unit, base=self.rows[0].name, values=seconds)


def group(measured: Sequence[Measured]) -> list[Group]:
    """What is compared with what; the row from the store leads where a teacher takes part."""
    keys = {
        (None if one.contestant.student is None else one.contestant.teacher, one.contestant.student): None
        for one in measured
    }
    found = []
    for teacher, student in keys:
        rows = [
            one
            for one in measured
            if one.contestant.student == student and (student is None or one.contestant.teacher == teacher)
        ]
        found.append(Group(student=student, teacher=teacher, rows=rows))
    return found


def once_seconds(measured: Sequence[Measured], teacher: str, images: int) -> float:
    """Median seconds of a teacher's pass and of fitting its targets, together."""
    parts = [one for one in measured if one.contestant.student is None and one.contestant.teacher == teacher]
    return sum(statistics.median(one.seconds(images)) for one in parts)


def summary(measured: Sequence[Measured], setup: Setup) -> list[dict[str, Any]]:
    """A row a contestant: seconds, speed, ratio, memory, break-even, and what it was measured with."""
    rows = []
    for part in group(measured):
        table = part.table(setup.images)
        for row in part.rows:
            rows.append(_row(row, part, table, setup) | _break_even(row, part, measured, setup) | _facts(setup))
    return rows


def _row(row: Measured, part: Group, table: Table, setup: Setup) -> dict[str, Any]:
    seconds, ratios = row.seconds(setup.images), table.ratios(row.name)
    peak, uint8 = row.peak or (None, None)
    return {
        "student": part.student or "",
        "teacher": row.contestant.teacher or "",
        "contestant": row.name,
        "n": len(seconds),
        "seconds": _digits(statistics.median(seconds)),
        "seconds_least": _digits(min(seconds)),
        "seconds_most": _digits(max(seconds)),
        "images_per_s": _digits(setup.images / statistics.median(seconds)),
        "ratio_unit": table.unit,
        "ratio_base": table.base,
        "ratio": _digits(statistics.median(ratios)),
        "ratio_least": _digits(min(ratios)),
        "ratio_most": _digits(max(ratios)),
        "start_seconds": _digits(row.start_seconds) if row.name.startswith("tcs, ") else "",
        "peak_mib": "" if peak is None else _digits(peak / MIB),
        "peak_uint8_mib": "" if uint8 is None else _digits(uint8 / MIB),
    }


def _break_even(row: Measured, part: Group, measured: Sequence[Measured], setup: Setup) -> dict[str, Any]:
    """Epochs until the teacher's one pass is earned back against this online rival; empty for the others."""
    if not row.contestant.online:
        return {"break_even_epochs": ""}
    assert part.teacher is not None
    cached = next(one for one in part.rows if not one.contestant.online)
    once = once_seconds(measured, part.teacher, setup.images) + cached.start_seconds
    online, ours = (statistics.median(one.seconds(setup.images)) for one in (row, cached))
    return {"break_even_epochs": break_even_epochs(once, online, ours)}


def _facts(setup: Setup) -> dict[str, Any]:
    facts = environment()
    return {
        "images": setup.images,
        "img_size": setup.img_size,
        "batch_size": setup.batch_size,
        "epochs_a_turn": setup.epochs,
        "workers": setup.workers,
        "device": torch.cuda.get_device_name(setup.device) if setup.device.startswith("cuda") else setup.device,
        "processor": facts["processor"],
        "cores": facts["cores"],
        "torch": facts["versions"].get("torch"),
        "timm": facts["versions"].get("timm"),
        "lightly_train": "" if setup.lightly is None else lightly_train_loop.VERSION,
        "commit": facts["commit"],
    }


def _digits(value: float) -> float:
    return float(f"{value:.4g}")
