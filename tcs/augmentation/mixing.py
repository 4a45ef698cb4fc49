"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) of the labelled rows of a batch, each row with a share of its own.

Row i is mixed with row L - 1 - i, as timm does element by element. The share lambda of the row's own image is Beta(alpha, alpha),
taken through the inverse of its distribution function, so that one uniform number gives it on any machine. CutMix pastes a
square of area 1 - lambda about a random centre; what lies outside the image is cut off, and lambda is the area that is left.
Labels are mixed with the same lambda. Vectors of a teacher are never mixed: a cached feature is of one image.

Legend: B batch rows, of which the first L are labelled; C classes; S side in pixels.
"""

import dataclasses
import math

import torch
from scipy.special import betaincinv
from torch import Tensor

from tcs.errors import DataError, option_name, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixPolicy:
    """`mixup` and `cutmix` are alphas, 0 for off. A share `mixup_prob` of the rows is mixed, of which `mixup_switch_prob` by
    CutMix where both are on. ConfigError, naming timm's option, for a value that makes no sense."""

    mixup: float = 0.0
    cutmix: float = 0.0
    mixup_prob: float = 1.0
    mixup_switch_prob: float = 0.5

    def __post_init__(self) -> None:
        for option in ("mixup", "cutmix"):
            value = getattr(self, option)
            require(0 <= value < math.inf, f"--{option} is {value}; it must be an alpha of 0 (off) or more.")
        for option in ("mixup_prob", "mixup_switch_prob"):
            value = getattr(self, option)
            require(0 <= value <= 1, f"{option_name(option)} is {value}; it must lie between 0 and 1.")
        require(
            self.is_on or self.mixup_prob == 1,
            "--mixup-prob has no effect without --mixup or --cutmix; add --mixup 0.8.",
        )
        require(
            (self.mixup > 0 and self.cutmix > 0) or self.mixup_switch_prob == 0.5,
            "--mixup-switch-prob has no effect without both --mixup and --cutmix; add the other one.",
        )

    @property
    def is_on(self) -> bool:
        """Whether any row can be mixed."""
        return self.mixup > 0 or self.cutmix > 0


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Mix:
    """How L rows of images of `size` pixels a side are mixed, as CPU tensors.

    partner_L int64, positions among the L rows; own_L float32, the share of the row's own image (1 where it is not mixed);
    boxes_L4 int64 (top, bottom, left, right) of what CutMix pastes, else zeros.
    """

    size: int
    partner_L: Tensor
    own_L: Tensor
    boxes_L4: Tensor

    def __len__(self) -> int:
        return len(self.partner_L)

    def rows(self, index: slice | Tensor) -> "Mix":
        """Of some rows only; partners stay positions among all L rows."""
        return dataclasses.replace(
            self, partner_L=self.partner_L[index], own_L=self.own_L[index], boxes_L4=self.boxes_L4[index]
        )


def draw_mix(policy: MixPolicy, rows: int, size: int, generator: torch.Generator) -> Mix:
    """How `rows` rows of images of `size` pixels are mixed, from a CPU generator. What is off draws nothing.

    Drawn in this order: CutMix or mixup, lambda, which rows are mixed, centres.
    """
    own_L, is_cut_L = torch.ones(rows, dtype=torch.float64), torch.full((rows,), policy.cutmix > 0)
    boxes_L4 = torch.zeros(rows, 4, dtype=torch.int64)
    if policy.mixup > 0 and policy.cutmix > 0:
        is_cut_L = torch.rand(rows, generator=generator) < policy.mixup_switch_prob
    if policy.is_on:
        numbers_L = torch.rand(rows, generator=generator, dtype=torch.float64)
        own_L = torch.where(is_cut_L, _beta(policy.cutmix, numbers_L), _beta(policy.mixup, numbers_L))
    if policy.is_on and policy.mixup_prob < 1:
        own_L = torch.where(torch.rand(rows, generator=generator) < policy.mixup_prob, own_L, 1.0)
    if policy.cutmix > 0:
        centres_L2 = torch.rand(rows, 2, generator=generator, dtype=torch.float64)
        boxes_L4 = torch.where(is_cut_L[:, None], _boxes(own_L, centres_L2, size), 0)
        area_L = (boxes_L4[:, 1] - boxes_L4[:, 0]) * (boxes_L4[:, 3] - boxes_L4[:, 2])
        own_L = torch.where(is_cut_L, 1 - area_L.double() / size**2, own_L)
    return Mix(size=size, partner_L=torch.arange(rows).flip(0), own_L=own_L.float(), boxes_L4=boxes_L4)


def unmixed(rows: int) -> Mix:
    """Draws that leave every row as it is, for labels that are smoothed only."""
    return Mix(
        size=0,
        partner_L=torch.arange(rows),
        own_L=torch.ones(rows),
        boxes_L4=torch.zeros(rows, 4, dtype=torch.int64),
    )


def mix_pairs(own_L3SS: Tensor, partners_L3SS: Tensor, mix: Mix) -> Tensor:
    """uint8 (L, 3, S, S): row i of `mix` on own and partner image i; for a rank that has gathered its rows' partners."""
    device, place_S = own_L3SS.device, torch.arange(mix.size)
    top, bottom, left, right = mix.boxes_L4[:, :, None].unbind(1)
    rows_LS, columns_LS = (place_S >= top) & (place_S < bottom), (place_S >= left) & (place_S < right)
    is_pasted = rows_LS.to(device)[:, None, :, None] & columns_LS.to(device)[:, None, None, :]
    is_cut_L = mix.boxes_L4[:, 1] > mix.boxes_L4[:, 0]
    share_L111 = torch.where(is_cut_L, 1, mix.own_L).to(device)[:, None, None, None]
    mixed = (own_L3SS * share_L111).add_(partners_L3SS * (1 - share_L111)).round_().to(torch.uint8)
    return torch.where(is_pasted, partners_L3SS, mixed)


def soft_labels(labels_L: Tensor, mix: Mix, classes: int, smoothing: float = 0.0) -> Tensor:
    """float32 (L, C): own and partner's labels in the shares of `mix`, each smoothed as 1 - s + s / C and s / C.

    labels_L int64, of all L rows. DataError for another number of labels, or a label outside 0..C-1.
    """
    if len(labels_L) != len(mix):
        raise DataError(
            f"{len(labels_L)} labels are to be mixed by draws of {len(mix)} rows; draw for the labelled rows."
        )
    if len(labels_L) and not (int(labels_L.min()) >= 0 and int(labels_L.max()) < classes):
        raise DataError(
            f"labels from {int(labels_L.min())} to {int(labels_L.max())} are to be mixed with {classes} classes; "
            "leave unlabelled rows out."
        )
    hard_LC = torch.nn.functional.one_hot(labels_L, classes).float()
    smooth_LC = hard_LC * (1 - smoothing) + smoothing / classes
    own_L1 = mix.own_L.to(labels_L.device)[:, None]
    return smooth_LC * own_L1 + smooth_LC[mix.partner_L.to(labels_L.device)] * (1 - own_L1)


def _beta(alpha: float, numbers_L: Tensor) -> Tensor:
    """Beta(alpha, alpha) of uniform numbers (float64); 1 where alpha is 0, which leaves a row alone."""
    if alpha == 0:
        return torch.ones_like(numbers_L)
    return torch.from_numpy(betaincinv(alpha, alpha, numbers_L.numpy()))


def _boxes(own_L: Tensor, centres_L2: Tensor, size: int) -> Tensor:
    """int64 (L, 4) (top, bottom, left, right): squares of area 1 - own (in whole pixels) about a pixel, cut to the image."""
    side_L1 = ((1 - own_L).clamp_min(0).sqrt() * size).long()[:, None]
    centres_L2 = (centres_L2 * size).long()
    start_L2, stop_L2 = centres_L2 - side_L1 // 2, centres_L2 + (side_L1 + 1) // 2
    edges_L22 = torch.stack([start_L2, stop_L2], -1).clamp(0, size)
    return edges_L22.flatten(1)
