"""Rows as points of a plane, and along principal coordinates.

Legend: N rows, M rows on the map, B rows of a block, D features, J = min(MAP_DIMS, D) principal coordinates.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from tcs.coordinates.axes import principal_axes
from tcs.coordinates.vectors import RowVectors
from tcs.runtime import say, seed_for

MAP_ROWS = 5000
MAP_DIMS = 50  # of the points that t-SNE reads, as van der Maaten and Hinton (2008) took
PERPLEXITY = 30.0
FEWEST_FOR_TSNE = 10
SHOWN_AXES, SHOWN_OF_AN_END = 12, 6

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, eq=False)
class PrincipalPoints:
    """points_NJ float32, along principal axes about the mean, and the share of the features' variance of each axis, shares_J."""

    points_NJ: F32
    shares_J: F64


def principal_points(vectors: RowVectors, mean_D: F64, covariance_DD: F64) -> PrincipalPoints:
    """The first principal coordinates of all rows, read once."""
    axes_DD, spectrum_D = principal_axes(covariance_DD)
    axes_DJ, origin_D = axes_DD[:, :MAP_DIMS].astype(np.float32), mean_D.astype(np.float32)
    points_NJ = np.empty((len(vectors), axes_DJ.shape[1]), np.float32)
    for start, block_BD in vectors.blocks():
        np.matmul(block_BD.astype(np.float32) - origin_D, axes_DJ, out=points_NJ[start : start + len(block_BD)])
    total = float(spectrum_D.sum()) or 1.0
    return PrincipalPoints(points_NJ, spectrum_D[: axes_DJ.shape[1]] / total)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class AxisEnds:
    """A principal coordinate, counted from 1: its share of the variance, its lowest rows, lowest first, and its highest, highest first."""

    number: int
    share: float
    low: Ints
    high: Ints


def axis_ends(points: PrincipalPoints) -> tuple[AxisEnds, ...]:
    """The first coordinates along which rows differ, by their extreme rows; of equal ones the first."""
    shown = min(SHOWN_OF_AN_END, len(points.points_NJ) // 2)
    ends = []
    for number in range(min(SHOWN_AXES, points.points_NJ.shape[1])):
        if points.shares_J[number] < 1e-9:
            break
        values_N = points.points_NJ[:, number]
        low, high = (np.argsort(sign * values_N, kind="stable")[:shown] for sign in (1, -1))
        ends.append(AxisEnds(number=number + 1, share=float(points.shares_J[number]), low=low, high=high))
    return tuple(ends)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Maps:
    """The rows on the map, rising (M,), and their places (M, 2) by name of the map: "PCA", and "t-SNE" where it was asked for and made."""

    rows_M: Ints
    places: dict[str, F64]


def make_maps(points_NJ: F32, seed: int, with_tsne: bool) -> Maps:
    """Both maps of at most MAP_ROWS rows, drawn by `seed` where there are more."""
    rows_M = np.arange(len(points_NJ))
    if len(rows_M) > MAP_ROWS:
        rows_M = np.sort(np.random.default_rng(seed_for(seed, "map")).choice(rows_M, MAP_ROWS, replace=False))
    points_MJ = points_NJ[rows_M]
    plane_M2 = np.zeros((len(rows_M), 2))
    plane_M2[:, : min(2, points_MJ.shape[1])] = points_MJ[:, :2]
    places = {"PCA": plane_M2}
    if with_tsne and len(rows_M) >= FEWEST_FOR_TSNE and plane_M2.any():
        places["t-SNE"] = tsne(points_MJ, seed)
    return Maps(rows_M=rows_M, places=places)


def tsne(points_MJ: F32, seed: int) -> F64:
    """t-SNE (van der Maaten and Hinton 2008; Barnes-Hut) of the points, begun at their first two coordinates; the same ones give the
    same places on one machine: one thread, for sums over several come in any order."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # what scikit-learn itself needs

    say(f"t-SNE of {len(points_MJ):,} images; --map pca leaves it out.")
    begin_M2 = points_MJ[:, :2] if points_MJ.shape[1] > 1 else np.repeat(points_MJ, 2, axis=1)
    begin_M2 = begin_M2 / max(float(begin_M2[:, 0].std()), 1e-12) * 1e-4
    perplexity = min(PERPLEXITY, (len(points_MJ) - 1) / 3)
    made = TSNE(
        init=np.ascontiguousarray(begin_M2, np.float32),
        perplexity=perplexity,
        learning_rate="auto",
        random_state=seed_for(seed, "t-sne") % 2**32,
    )
    with threadpool_limits(1):
        places_M2: F64 = np.asarray(made.fit_transform(points_MJ), np.float64)
    return places_M2
