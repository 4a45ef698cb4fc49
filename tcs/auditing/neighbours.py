"""Nearest rows by cosine, exactly, in blocks of products: of all rows, of earlier ones, and of those with another label.

Every pair is seen once a direction: 2 N^2 K operations, and one block of products, with its masks, in memory at a time, some 400 MB
however many rows there are. The answer does not depend on the size of blocks but for the rounding of products.

Why no index of faiss: one pass over the products answers three questions. An index answers the first of them, and `earlier` and `other`
only by a search for each class or with a depth that nobody knows. Its approximate kinds would lose copies, and its exact one makes the
same products.

Legend: N rows, M rows of another store, B rows of a block, K coordinates, k neighbours.
"""

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcs.runtime import progress_bar

BLOCK_PRODUCTS = 1 << 24  # 64 MB of float32
NONE = -2.0  # below every cosine

F32 = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, eq=False)
class Nearest:
    """Of every row the nearest row of some kind, and how near: rows_N int64 (-1: there is none), cosines_N float32 (then -2)."""

    rows_N: Ints
    cosines_N: F32


@dataclasses.dataclass(frozen=True, eq=False)
class Neighbours:
    """rows_Nk, cosines_Nk: the k nearest rows, nearest first, -1 and -2 where there are fewer. `earlier`: the nearest one that
    comes before and does not carry another label. `other`: the nearest one that carries another label."""

    rows_Nk: Ints
    cosines_Nk: F32
    earlier: Nearest
    other: Nearest


def find_neighbours(directions_NK: F32, groups_N: Ints, labels_N: Ints, count: int) -> Neighbours:
    """Neighbours of unit rows; neither a row itself nor one of its group (an exact copy) is one. Labels are -1 for none."""
    rows_NK, groups, labels = (torch.from_numpy(np.ascontiguousarray(a)) for a in (directions_NK, groups_N, labels_N))
    size, count = max(1, BLOCK_PRODUCTS // max(len(rows_NK), 1)), min(count, len(rows_NK))
    numbers = torch.arange(len(rows_NK))
    parts: list[tuple[Tensor, ...]] = []
    with progress_bar(len(rows_NK), "comparing images", "rows") as bar:
        for start in range(0, len(rows_NK), size):
            block = slice(start, start + size)
            cosines_BN = rows_NK[block] @ rows_NK.T
            cosines_BN.masked_fill_(groups[block, None] == groups, NONE)
            differs_BN = (labels[block, None] != labels) & (labels[block, None] >= 0) & (labels >= 0)
            found = cosines_BN.topk(count, dim=1)
            earlier = cosines_BN.masked_fill(differs_BN | (numbers >= numbers[block, None]), NONE).max(dim=1)
            other = cosines_BN.masked_fill(~differs_BN, NONE).max(dim=1)
            parts.append((found.indices, found.values, earlier.indices, earlier.values, other.indices, other.values))
            bar.advance(len(cosines_BN))
    joined = [torch.cat(part).numpy() for part in zip(*parts, strict=True)]
    near_Nk, cosines_Nk = joined[0], joined[1]
    return Neighbours(
        rows_Nk=np.where(cosines_Nk > NONE, near_Nk, -1),
        cosines_Nk=cosines_Nk,
        earlier=_nearest(joined[2], joined[3]),
        other=_nearest(joined[4], joined[5]),
    )


def nearest_of(directions_NK: F32, others_MK: F32) -> Nearest:
    """Of every row the nearest of `others_MK`, which are one or more."""
    rows_NK, others = (torch.from_numpy(np.ascontiguousarray(part)) for part in (directions_NK, others_MK))
    size = max(1, BLOCK_PRODUCTS // len(others))
    found = [(rows_NK[start : start + size] @ others.T).max(dim=1) for start in range(0, len(rows_NK), size)]
    return _nearest(
        torch.cat([part.indices for part in found]).numpy(), torch.cat([part.values for part in found]).numpy()
    )


def _nearest(rows_N: Ints, cosines_N: F32) -> Nearest:
    return Nearest(rows_N=np.where(cosines_N > NONE, rows_N, -1), cosines_N=cosines_N)
