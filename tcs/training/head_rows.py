"""What linear heads of cached rows say of a run's rows: soft labels and logits, held for all rows or computed for each batch.

They are a function of the coordinates (those of a logistic probe: of the features), so that at 1,281,167 rows, 1,000 classes and 128
coordinates 0.66 GB are enough for what would be 5.1 GB. `is_held` is the one place that says which way is taken: small runs hold their
numbers, computed in float64.

Legend: n rows of this run, V views, r = n V, B rows of a batch or a block, K coordinates (or teacher dims), C classes.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcs.pool_labels.pool import BLOCK_ROWS
from tcs.pool_labels.spread import PoolLabels
from tcs.probes.logistic import LogisticProbe
from tcs.training.views import cached_at

HELD_BYTES = 256 << 20

Head = PoolLabels | LogisticProbe

Read = tuple[
    PoolLabels, Tensor
]  # a head, and the coordinates (n, [V,] K) float32 that it reads, on the device of the run


def is_held(rows: int, classes: int, components: int) -> bool:
    """Whether a number for each of so many rows (of views) and classes is held: where they take HELD_BYTES or less, or no more than
    the coordinates that they come from."""
    return rows * classes * 4 <= HELD_BYTES or classes <= components


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LinearRows:
    """Rows z (n, [V,] K) as they are cached, and a head W (C, K), b (C,) float32 with its sharpness multiplied in; on one device."""

    z_nK: Tensor
    weight_CK: Tensor
    bias_C: Tensor

    def scores(self, place_B: Tensor, view_B: Tensor | None) -> Tensor:
        """z W' + b of the rows at `place_B` (B, C), of the views `view_B` where there are several."""
        return cached_at(self.z_nK, place_B, view_B).to(self.weight_CK.dtype) @ self.weight_CK.T + self.bias_C


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SoftLabels:
    """Soft labels, the mean of those of several heads, computed when they are read; rows whose `labels_n` is not -1 have theirs."""

    heads: tuple[LinearRows, ...]
    labels_n: Tensor

    def at(self, place_B: Tensor, view_B: Tensor | None) -> Tensor:
        """Soft labels (B, C) float32 of the rows at `place_B`."""
        parts = [torch.softmax(head.scores(place_B, view_B), dim=1) for head in self.heads]
        soft_BC, labels_B = torch.stack(parts).mean(0), self.labels_n[place_B]
        hot_BC = torch.nn.functional.one_hot(labels_B.clamp_min(0), soft_BC.shape[1]).to(soft_BC)
        return torch.where((labels_B >= 0)[:, None], hot_BC, soft_BC)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Logits:
    """Logits of a head, computed when they are read."""

    head: LinearRows

    def at(self, place_B: Tensor, view_B: Tensor | None) -> Tensor:
        """Logits (B, C) float32 of the rows at `place_B`; a class without a label gets the smallest of its row."""
        scores_BC = self.head.scores(place_B, view_B)
        known_BC = torch.isfinite(scores_BC)
        least_B1 = torch.where(known_BC, scores_BC, torch.inf).amin(dim=1, keepdim=True)
        return torch.where(known_BC, scores_BC, least_B1)


def soft_labels_of(reads: Sequence[Read], labels_n: Tensor, device: torch.device) -> Tensor | SoftLabels:
    """The mean soft labels of all heads, (n, [V,] C) float32 where they are held; rows whose `labels_n` is not -1 have theirs."""
    components, shape = sum(z.shape[-1] for _, z in reads), reads[0][1].shape
    if is_held(int(np.prod(shape[:-1])), len(reads[0][0].bias_C), components):
        held = [soft_label_rows(labels, z.cpu().numpy(), device) for labels, z in reads]
        return held[0] if len(held) == 1 else torch.stack(held).mean(0)
    return SoftLabels(heads=tuple(linear_rows(labels, z) for labels, z in reads), labels_n=labels_n.to(device))


def logits_of(head: Head, z: Tensor, device: torch.device) -> Tensor | Logits:
    """The head's logits of rows z (n, [V,] K), (n, [V,] C) float32 on `device` where they are held."""
    if is_held(int(np.prod(z.shape[:-1])), len(head.bias_C), z.shape[-1]):
        return logit_rows(head, z, device)
    return Logits(head=linear_rows(head, z.to(device)))


def linear_rows(head: Head, z: Tensor) -> LinearRows:
    """The head on rows z (n, [V,] K), on their device."""
    weight_CK, bias_C = (head.sharpness * part for part in (head.weight_CK, head.bias_C))
    return LinearRows(
        z_nK=z,
        weight_CK=torch.from_numpy(weight_CK).to(z.device, torch.float32),
        bias_C=torch.from_numpy(bias_C).to(z.device, torch.float32),
    )


def soft_label_rows(labels: PoolLabels, z: NDArray[np.float32], device: torch.device) -> Tensor:
    """Soft labels (n, [V,] C) float32 of coordinates (n, [V,] K) on `device`, block by block; labelled rows have their labels."""
    z_nVK = z.reshape(len(z), -1, z.shape[-1])
    soft_nVC = torch.empty(*z_nVK.shape[:2], len(labels.bias_C), device=device)
    for view in range(z_nVK.shape[1]):
        for start, p_BC in labels.blocks(z_nVK[:, view]):
            soft_nVC[start : start + len(p_BC), view] = torch.from_numpy(p_BC).to(device)
    return soft_nVC.reshape(*z.shape[:-1], -1)


def logit_rows(head: Head, z: Tensor, device: torch.device) -> Tensor:
    """Logits (n, [V,] C) float32 of rows (n, [V,] K) on `device`, block by block in float64; a class without a label gets the
    smallest of its row."""
    flat_rK, classes = z.reshape(-1, z.shape[-1]), len(head.bias_C)
    logits_rC = torch.empty(len(flat_rK), classes, device=device)
    for start in range(0, len(flat_rK), BLOCK_ROWS):
        scores_BC = head.sharpness * head.scores(flat_rK[start : start + BLOCK_ROWS].cpu().numpy())
        least_B1 = np.where(np.isfinite(scores_BC), scores_BC, np.inf).min(axis=1, keepdims=True)
        known_BC = np.where(np.isfinite(scores_BC), scores_BC, least_B1)
        logits_rC[start : start + len(known_BC)] = torch.from_numpy(known_BC).to(device, torch.float32)
    return logits_rC.reshape(*z.shape[:-1], classes)
