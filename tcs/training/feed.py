"""One stream of batches for many students: which rows a step sees, and how their images are shown.

A batch is a pure function of the options and its step, so a student sees the same whether it is alone or not, resumed or
not. Images are augmented in batches on the device, with a draw of their own each; normalisation is the students' own.

Legend: B rows of a batch, b those of this process.
"""

import dataclasses
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from tcs.augmentation.apply import apply
from tcs.augmentation.draws import draw
from tcs.augmentation.mixing import Mix, MixPolicy, draw_mix, mix_images
from tcs.augmentation.policy import AugmentPolicy
from tcs.runtime import seed_for
from tcs.training.batches import BatchPlan, batch_positions
from tcs.training.collectives import ALONE, Collectives
from tcs.training.images import Fetched, Images

AHEAD = 4  # batches that are decoded before they are asked for


@dataclasses.dataclass(frozen=True, kw_only=True)
class Showing:
    """How images are shown: side in pixels, augmentation, mixing of labelled rows, and whether pool rows stay as they are."""

    size: int
    policy: AugmentPolicy
    mixing: MixPolicy | None
    clean_pool: bool
    seed: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """What a step sees: positions of all rows (int64, labelled ones first), and the images of this process's rows (uint8)."""

    step: int
    positions_B: Tensor
    labelled: int
    shown_b3HW: Tensor
    mix: Mix | None = None


class Feed:
    """The batches of a run, in the order of their steps; `stages` are (last step + 1, plan) pairs."""

    def __init__(
        self,
        images: Images,
        labelled_m: Tensor,
        stages: Sequence[tuple[int, BatchPlan]],
        showing: Showing,
        together: Collectives = ALONE,
    ) -> None:
        self.images, self.showing = images, showing
        self._labelled_m, self._stages, self._together = labelled_m, tuple(stages), together
        self._coming: dict[int, Fetched] = {}
        self.wait_seconds = 0.0

    @property
    def steps(self) -> int:
        """How many batches there are."""
        return self._stages[-1][0]

    def plan(self, step: int) -> BatchPlan:
        """How the batch of a step is split."""
        return next(plan for stop, plan in self._stages if step < stop)

    def batch(self, step: int) -> Batch:
        """The batch of `step`. Batches that follow are begun, where images are decoded; the time this takes is counted."""
        started = time.perf_counter()
        ahead = 1 if self.images.is_resident else AHEAD
        for coming in range(step, min(step + ahead, self.steps)):
            if coming not in self._coming:
                self._coming[coming] = self.images.begin(self._together.part(self._positions(coming)[0]))
        self._coming = {number: fetched for number, fetched in self._coming.items() if number >= step}
        batch = self._show(step, self._coming.pop(step).result())
        self.wait_seconds += time.perf_counter() - started
        return batch

    def clean(self, positions_b: Tensor) -> Tensor:
        """The images at `positions_b` as students are shown them without augmentation, uint8."""
        images_b3HW = self.images.begin(positions_b).result()
        plain = AugmentPolicy()
        return apply(images_b3HW, draw(plain, len(images_b3HW), torch.Generator()), self.showing.size)

    def _positions(self, step: int) -> tuple[Tensor, int]:
        labelled, pool = batch_positions(self.plan(step), self._labelled_m, step)
        return torch.cat([labelled, pool]), len(labelled)

    def _show(self, step: int, images_b3HW: Tensor) -> Batch:
        """Draws are made for the whole batch, and applied to the rows of this process: no process changes them."""
        positions_B, labelled = self._positions(step)
        showing, rows_b = self.showing, self._together.part(torch.arange(len(positions_B)))
        generator = torch.Generator().manual_seed(seed_for(showing.seed, "augment", step))
        draws = draw(showing.policy, len(positions_B), generator).rows(rows_b)
        shown_b3HW = apply(images_b3HW, draws, showing.size)
        if showing.clean_pool:
            mine = int((rows_b < labelled).sum())
            plain = draw(AugmentPolicy(), len(rows_b) - mine, generator)
            shown_b3HW = torch.cat([shown_b3HW[:mine], apply(images_b3HW[mine:], plain, showing.size)])
        if showing.mixing is None or labelled == 0:
            return Batch(step=step, positions_B=positions_B, labelled=labelled, shown_b3HW=shown_b3HW)
        mix = draw_mix(showing.mixing, labelled, showing.size, generator)
        shown_b3HW = mix_images(shown_b3HW, mix)
        return Batch(step=step, positions_B=positions_B, labelled=labelled, shown_b3HW=shown_b3HW, mix=mix)
