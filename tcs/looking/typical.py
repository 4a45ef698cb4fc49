"""The most and least typical images of every class.

Centrality of an image is the mean cosine of its features to those of the other images of its class, features about the mean of the
store: u_i (S - u_i) / (n - 1), for unit features u and their sum S over the class.

Legend: N rows, B rows of a block, D features, G groups (classes, and the unlabelled rows behind them).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tcs.looking.spaces import Space

MOST_OF_A_CLASS = 6
MOST_PICTURES = 480  # of all classes together
UNLABELLED = "unlabelled"

F64 = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TypicalRows:
    """A class (or the unlabelled rows): how many rows it has, the most typical of them, best first, and the least, worst first.
    They are empty for a class of one image."""

    name: str
    label: int
    rows: int
    most: Ints
    least: Ints


def groups_of(labels_N: Ints, classes: Sequence[str]) -> tuple[Ints, tuple[str, ...]]:
    """The group (N,) of every row and the names of groups: classes, and `unlabelled` behind them where rows have no label."""
    groups_N = np.where(labels_N >= 0, labels_N, len(classes)).astype(np.int64)
    return groups_N, (*classes, UNLABELLED) if (labels_N < 0).any() else tuple(classes)


def centralities(features: Space, groups_N: Ints, groups: int) -> F64:
    """The centrality of every row in its group, float64 (N,); NaN for the only row of one. The features are read twice."""
    sums_GD = np.zeros((groups, features.dims))
    for start, block_BD in features.blocks():
        np.add.at(sums_GD, groups_N[start : start + len(block_BD)], block_BD)
    sizes_N = np.bincount(groups_N, minlength=groups)[groups_N]
    found_N = np.full(len(groups_N), np.nan)
    for start, block_BD in features.blocks():
        at = slice(start, start + len(block_BD))
        to_all_B = np.einsum("bd,bd->b", block_BD, sums_GD[groups_N[at]])
        own_B = np.einsum("bd,bd->b", block_BD, block_BD, dtype=np.float64)
        found_N[at] = (to_all_B - own_B) / np.maximum(sizes_N[at] - 1, 1)
    found_N[sizes_N == 1] = np.nan
    return found_N


def typical_rows(centrality_N: F64, groups_N: Ints, names: Sequence[str]) -> tuple[TypicalRows, ...]:
    """Every group that has rows, in order; the more groups, the fewer images of each, MOST_PICTURES in all. Of more groups than that
    allows the largest."""
    sizes_G = np.bincount(groups_N, minlength=len(names))
    present = np.sort(np.argsort(-sizes_G, kind="stable")[: min(MOST_PICTURES // 2, np.count_nonzero(sizes_G))])
    most = min(MOST_OF_A_CLASS, max(1, MOST_PICTURES // (2 * len(present))))
    found = []
    for group in present.tolist():
        rows_n = np.flatnonzero(groups_N == group)
        rows_n = rows_n[np.argsort(-centrality_N[rows_n], kind="stable")]
        shown = min(most, len(rows_n) // 2)  # no image is most and least typical at once
        found.append(
            TypicalRows(
                name=names[group],
                label=group,
                rows=len(rows_n),
                most=rows_n[:shown],
                least=rows_n[::-1][:shown],
            )
        )
    return tuple(found)
