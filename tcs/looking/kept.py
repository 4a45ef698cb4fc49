"""How much of the feature space's neighbourhoods coordinates and hash bits keep, over all rows or a draw of them.

Legend: N rows, Q rows asked for, k neighbours.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tcs.looking.neighbours import Near, nearest_rows
from tcs.looking.result import KeptNeighbours
from tcs.looking.spaces import Space
from tcs.runtime import progress_bar, seed_for

NEIGHBOURS, MOST_ASKED = 10, 2000

Ints = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """asked_Q, rising; the nearest rows in every space, the features' first; and the numbers of each space."""

    asked_Q: Ints
    near: tuple[Near, ...]
    kept: tuple[KeptNeighbours, ...]


def compare_neighbours(spaces: Sequence[Space], labels_N: Ints, seed: int) -> Comparison:
    """The min(10, N - 1) nearest rows of every row, or of MOST_ASKED drawn by `seed` where there are more; two rows or more."""
    rows = len(labels_N)
    asked_Q = np.arange(rows)
    if rows > MOST_ASKED:
        asked_Q = np.sort(np.random.default_rng(seed_for(seed, "asked")).choice(rows, MOST_ASKED, replace=False))
    count, near = min(NEIGHBOURS, rows - 1), list[Near]()
    with progress_bar(len(spaces), "nearest images", "spaces") as bar:
        for space in spaces:
            wanted_Qk = near[0].rows_Qk if near else None
            asked_QX = space.prepared(asked_Q)
            near.append(nearest_rows(asked_QX, asked_Q, space.blocks(), rows, count, space.scale, wanted_Qk))
            bar.advance(1)
    kept = [_numbers(space, found, asked_Q, labels_N) for space, found in zip(spaces, near, strict=True)]
    return Comparison(asked_Q=asked_Q, near=tuple(near), kept=tuple(kept))


def _numbers(space: Space, near: Near, asked_Q: Ints, labels_N: Ints) -> KeptNeighbours:
    """Of the features themselves all is kept."""
    kept_Q = np.ones(len(asked_Q)) if near.kept_Q is None else near.kept_Q
    error = float(kept_Q.std(ddof=1)) / math.sqrt(len(kept_Q)) if len(kept_Q) > 1 else None
    return KeptNeighbours(
        space=space.name,
        source=space.source,
        dims=space.dims,
        recall=float(kept_Q.mean()),
        error=error,
        chance=near.rows_Qk.shape[1] / (len(labels_N) - 1),
        same_class=_same_class(near.rows_Qk, labels_N[asked_Q], labels_N),
    )


def _same_class(near_Qk: Ints, labels_Q: Ints, labels_N: Ints) -> float | None:
    """The mean share of the labelled among the nearest that carry the label of the row, over rows with both."""
    labels_Qk = labels_N[near_Qk]
    known_Qk = (labels_Qk >= 0) & (labels_Q >= 0)[:, None]
    counted_Q = known_Qk.sum(axis=1)
    same_Q = ((labels_Qk == labels_Q[:, None]) & known_Qk).sum(axis=1)
    is_there_Q = counted_Q > 0
    return float((same_Q[is_there_Q] / counted_Q[is_there_Q]).mean()) if is_there_Q.any() else None
