"""What an extraction will cost, told before it begins: bytes from the plan, minutes from a short timed sample."""

import dataclasses
import math
import time
from collections.abc import Mapping

import numpy as np
import torch

import cache
from tcs.errors import number_of
from tcs.extraction.decoding import ImagePositions
from tcs.images.listing import ImageList
from tcs.teacher.model import Teacher

SAMPLE_IMAGES = 16
SAMPLE_BATCH = 8
LARGE_FEATURE_BYTES = 50_000_000_000
LARGE_REMARK = " That is much: --project map=64 and --map-size 7x7 make maps smaller."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """The price of a whole pass; `minutes` is for all images, however many of them are done already."""

    images: int
    shards: int
    feature_bytes: int
    readout_bytes: Mapping[str, int]
    image_bytes: int
    minutes: float

    def among(self, ranks: int) -> "Cost":
        """The cost where as many processes, each with a device of its own, share the work."""
        return dataclasses.replace(self, minutes=self.minutes / ranks)

    def describe(self) -> str:
        """One line for the terminal, with a word on features that take more room than most disks have to spare."""
        parts = ", ".join(f"{name} {readable_bytes(size)}" for name, size in self.readout_bytes.items())
        line = (
            f"{number_of(self.images, 'image')} in {number_of(self.shards, 'shard')}: {readable_bytes(self.feature_bytes)} of features"
            f"{f' ({parts})' if len(self.readout_bytes) > 1 else ''}, {readable_bytes(self.image_bytes)} of images, about"
            f" {readable_minutes(self.minutes)}."
        )
        return line + (LARGE_REMARK if self.feature_bytes > LARGE_FEATURE_BYTES else "")


def estimate_cost(
    images: ImageList, positions: ImagePositions, teacher: Teacher, plan: cache.Plan, workers: int
) -> Cost:
    """Measure a few images and one small batch, and multiply. Decoding is divided among the workers."""
    seconds, kept_bytes = _decode_sample(positions)
    views = 1 if plan.views is None else plan.views.count
    per_image = seconds / max(workers, 1) + views * _forward_seconds(teacher)
    sizes = {item.name: math.prod(plan.row_shape(item)) * np.dtype(item.dtype).itemsize for item in plan.readouts}
    return Cost(
        images=len(plan.keys),
        shards=plan.shard_count,
        feature_bytes=sum(sizes.values()) * len(plan.keys),
        readout_bytes={name: size * len(plan.keys) for name, size in sizes.items()},
        image_bytes=images.size_bytes() if plan.images == "original" else round(kept_bytes * len(plan.keys)),
        minutes=per_image * len(plan.keys) / 60,
    )


def _decode_sample(positions: ImagePositions) -> tuple[float, float]:
    """Mean seconds to decode an image, and mean bytes kept of it, over images spread evenly over the list."""
    chosen = np.unique(np.linspace(0, len(positions) - 1, SAMPLE_IMAGES).astype(int)).tolist()
    start = time.perf_counter()
    decoded = [positions[position] for position in chosen]
    seconds = (time.perf_counter() - start) / len(chosen)
    return seconds, sum(len(item.kept or b"") for item in decoded) / len(chosen)


def _forward_seconds(teacher: Teacher) -> float:
    """Seconds of the teacher per image, in a small batch, after one unmeasured batch."""
    images_B3HW = torch.zeros(SAMPLE_BATCH, *teacher.input_shape)
    teacher.features(images_B3HW)
    start = time.perf_counter()
    teacher.features(images_B3HW)  # the result is copied to the CPU, so the device is done
    return (time.perf_counter() - start) / SAMPLE_BATCH


def readable_bytes(count: int) -> str:
    """Decimal units, as disks are sold: 2.0 GB."""
    for power, unit in ((4, "TB"), (3, "GB"), (2, "MB"), (1, "kB")):
        if count >= 1000**power:
            return f"{count / 1000**power:.1f} {unit}"
    return f"{count} B"


def readable_minutes(minutes: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if minutes < 1:
        return f"{max(1, round(minutes * 60))} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
