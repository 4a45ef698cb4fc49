"""What a pretraining takes, from a few timed steps of a network that is thrown away; the pretraining itself starts as it would without.

Legend: B images in a batch, V = 2 views, S image side.
"""

import dataclasses
import time

import torch

from tcs.config.pretrain import SimclrConfig
from tcs.errors import DataError
from tcs.images.listing import ImageList
from tcs.pretraining.loop import Pretraining
from tcs.pretraining.simclr import VIEWS, BatchOrder, ViewPairs, collate
from tcs.runtime import readable_seconds

TIMED_STEPS = 2  # after one that warms up
TIMED_IMAGES = 32  # are decoded, at most


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """Images, steps in all and in an epoch, and seconds that a step takes: the network's, and the decoding of its views by one process."""

    images: int
    epochs: int
    steps: int
    step_seconds: float
    decode_seconds: float
    workers: int
    device: str

    @property
    def seconds(self) -> float:
        """All steps: one after the other with their decoding, or beside it where there are processes for that."""
        if self.workers == 0:
            return self.steps * (self.step_seconds + self.decode_seconds)
        return self.steps * max(self.step_seconds, self.decode_seconds / self.workers)

    def describe(self) -> str:
        """One line."""
        return (
            f"pretrain: {self.images:,} images, {self.epochs:,} epochs, {self.steps:,} steps; a step takes {self.step_seconds:.3f} s on "
            f"{self.device}, the views of one {self.decode_seconds:.3f} s in each of {max(1, self.workers)} processes: about "
            f"{readable_seconds(self.seconds)} in all. Cut short at any point, the same command goes on."
        )


def estimate_cost(images: ImageList, config: SimclrConfig, device: torch.device, workers: int = 0) -> Cost:
    """Time a few steps. Errors as of `train_encoder`; nothing is written, and no random generator is moved."""
    size = min(config.batch_size, len(images.keys))
    order = BatchOrder(len(images.keys), size, config.epochs, config.seed)
    pairs = ViewPairs(images, VIEWS[config.views](config.img_size))
    sampled = next(iter(order))[:TIMED_IMAGES]
    started = time.perf_counter()
    views = collate([pairs[item] for item in sampled])
    decode_seconds = (time.perf_counter() - started) * size / len(sampled)
    if isinstance(views, str):
        raise DataError(f"image {views}; remove it from {images.root} and start again.")
    run = Pretraining(config, {}, device)
    run.network.train()
    filled_BVCHW = views[torch.arange(size) % len(views)]
    seconds = []
    for _ in range(1 + TIMED_STEPS):
        started = time.perf_counter()
        run.train_step(filled_BVCHW, order.steps_per_epoch)
        seconds.append(time.perf_counter() - started)
    return Cost(
        images=len(images.keys),
        epochs=config.epochs,
        steps=len(order),
        step_seconds=sum(seconds[1:]) / TIMED_STEPS,
        decode_seconds=decode_seconds,
        workers=workers,
        device=str(device),
    )
