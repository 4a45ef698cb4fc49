"""One stream of batches for many students: which rows a step sees, and how their images are shown.

A batch is a pure function of the options and its step, so a student sees the same whether it is alone or not, resumed or
not. Images are augmented in batches on the device, with a draw of their own each; normalisation is the students' own.

Legend: N images, B rows of a batch, L labelled ones, b and l those of this process.
"""

import dataclasses
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from tcs.augmentation.apply import apply
from tcs.augmentation.draws import Draws, draw
from tcs.augmentation.mixing import Mix, MixPolicy, draw_mix, mix_pairs
from tcs.config.augment import AugmentConfig
from tcs.config.train import TrainConfig
from tcs.distributed.collectives import ALONE, Collectives
from tcs.images.stored import Fetched, Images
from tcs.runtime import seed_for
from tcs.training.batches import BatchPlan, batch_positions
from tcs.training.views import CachedViews

FRAME_SHARE = 0.875  # of a frame's side that a centre crop would keep: timm's usual --crop-pct
VIEW_SHARE = 0.5  # of a frame that holds a whole image: a box of a quarter of the area is not enlarged


@dataclasses.dataclass(frozen=True, kw_only=True)
class Showing:
    """How images are shown: side in pixels, augmentation, mixing of labelled rows, and whether pool rows stay as they are."""

    size: int
    augment: AugmentConfig
    mixing: MixPolicy | None
    clean_pool: bool
    seed: int


def frame_size(config: AugmentConfig, size: int, *, views: bool = False) -> int:
    """The side that images are decoded at: the student's own where they are padded and cropped, larger where boxes are cut,
    twice the student's where cached views are replayed."""
    if views:
        return config.decode_size or round(size / VIEW_SHARE)
    if config.scale is None:
        return size
    return config.decode_size or round(size / FRAME_SHARE)


def mixing_of(config: AugmentConfig) -> MixPolicy | None:
    """How labelled rows are mixed; None where they are not. ConfigError for options of it that make no sense."""
    mixing = MixPolicy(
        mixup=config.mixup,
        cutmix=config.cutmix,
        mixup_prob=config.mixup_prob,
        mixup_switch_prob=config.mixup_switch_prob,
    )
    return mixing if mixing.is_on else None


def showing_of(config: TrainConfig, size: int) -> Showing:
    """What the stream of a run does with its images."""
    return Showing(
        size=size,
        augment=config.augment,
        mixing=mixing_of(config.augment),
        clean_pool=config.mimic_view == "clean",
        seed=config.seed,
    )


def show_clean(images_N3HW: Tensor, size: int) -> Tensor:
    """Images without augmentation, at the students' size: uint8 (N, 3, size, size)."""
    return apply(images_N3HW, Draws(count=len(images_N3HW)), size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """What a step sees: positions of all rows (int64, labelled ones first), and the images of this process's rows (uint8).

    `view_B` (int64) says which cached view of each row is shown; None where the store holds the clean view.
    """

    step: int
    positions_B: Tensor
    labelled: int
    shown_b3HW: Tensor
    mix: Mix | None = None
    view_B: Tensor | None = None


class Feed:
    """The batches of a run, in the order of their steps; `stages` are (last step + 1, plan) pairs."""

    def __init__(
        self,
        images: Images,
        labelled_m: Tensor,
        stages: Sequence[tuple[int, BatchPlan]],
        showing: Showing,
        ranks: Collectives = ALONE,
        views: CachedViews | None = None,
    ) -> None:
        """`images` are frames of whole images where `views` are replayed from them."""
        self.images, self.showing, self.views = images, showing, views
        self._labelled_m, self._stages, self._ranks = labelled_m, tuple(stages), ranks
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
        """The batch of `step`; steps may be asked for in any order. Batches that follow are begun, where images are decoded.

        What it takes to have the decoded images is counted as `wait_seconds`, their augmentation is not.
        """
        started = time.perf_counter()
        images_b3HW = self._fetch(step)
        self.wait_seconds += time.perf_counter() - started
        return self._show(step, images_b3HW)

    def _fetch(self, step: int) -> Tensor:
        """The decoded images of a step. No more than `images.ahead` batches are on their way at any time."""
        wanted = range(step, min(step + self.images.ahead, self.steps))
        for number in [number for number in self._coming if number not in wanted]:
            self._coming.pop(number).drop()
        for number in wanted:
            if number not in self._coming:
                self._coming[number] = self.images.begin(self._ranks.part(self._positions(number)[0]))
        return self._coming.pop(step).result()

    def clean(self, positions_b: Tensor) -> Tensor:
        """The images at `positions_b` as students are shown them without augmentation, uint8: their first view with views."""
        images_b3HW = self.images.begin(positions_b).result()
        if self.views is not None:
            return self.views.show(images_b3HW, positions_b, self.views.first(len(positions_b)), self.showing.size)
        return show_clean(images_b3HW, self.showing.size)

    def whole(self, batch: Batch) -> Tensor:
        """The images of all rows of a batch, uint8 (B, 3, H, W). All processes take part."""
        return self._ranks.gather_rows(batch.shown_b3HW, total=len(batch.positions_B))[0]

    def _mixed(self, shown_b3HW: Tensor, rows_b: Tensor, mix: Mix) -> Tensor:
        """This process's images, the labelled ones mixed with their partners, which other processes may have."""
        at_l = rows_b[rows_b < len(mix)]
        own_l3HW = shown_b3HW[: len(at_l)]
        (labelled_L3HW,) = self._ranks.gather_rows(own_l3HW, total=len(mix))
        partners_l3HW = labelled_L3HW[mix.partner_L[at_l].to(own_l3HW.device)]
        return torch.cat([mix_pairs(own_l3HW, partners_l3HW, mix.rows(at_l)), shown_b3HW[len(at_l) :]])

    def _positions(self, step: int) -> tuple[Tensor, int]:
        labelled, pool = batch_positions(self.plan(step), self._labelled_m, step)
        return torch.cat([labelled, pool]), len(labelled)

    def _show(self, step: int, images_b3HW: Tensor) -> Batch:
        """Draws are made for the whole batch, and applied to the rows of this process: no process changes them."""
        positions_B, labelled = self._positions(step)
        showing, rows_b = self.showing, self._ranks.part(torch.arange(len(positions_B)))
        generator = torch.Generator().manual_seed(seed_for(showing.seed, "augment", step))
        view_B, mix = None, None
        if self.views is not None:
            view_B = self.views.draw(len(positions_B), step)
            shown_b3HW = self.views.show(images_b3HW, positions_B[rows_b], view_B[rows_b], showing.size)
        else:
            shown_b3HW = self._augmented(images_b3HW, rows_b, len(positions_B), labelled, generator)
        if showing.mixing is not None and labelled > 0:
            mix = draw_mix(showing.mixing, labelled, showing.size, generator)
            shown_b3HW = self._mixed(shown_b3HW, rows_b, mix)
        return Batch(
            step=step, positions_B=positions_B, labelled=labelled, shown_b3HW=shown_b3HW, mix=mix, view_B=view_B
        )

    def _augmented(
        self, images_b3HW: Tensor, rows_b: Tensor, total: int, labelled: int, generator: torch.Generator
    ) -> Tensor:
        """The rows `rows_b` of a batch of `total`, as its draws show them."""
        showing = self.showing
        draws = draw(showing.augment, showing.size, total, generator).rows(rows_b)
        shown_b3HW = apply(images_b3HW, draws, showing.size)
        if not showing.clean_pool:
            return shown_b3HW
        mine = int((rows_b < labelled).sum())
        return torch.cat([shown_b3HW[:mine], show_clean(images_b3HW[mine:], showing.size)])
