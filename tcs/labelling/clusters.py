"""Clusters of points (k-means), and how dense the points of a cluster lie.

Centres are fitted on a seeded draw of the rows, and every row is given its nearest one, block by block: memory beside the points
is a block x G. Legend: N rows, S rows of the draw, B rows of a block, m rows of a cluster, K coordinates, G clusters.
"""

import numpy as np
from numpy.typing import NDArray

from tcs.runtime import seed_for

FIT_ROWS = 65_536  # centres of so many rows are those of all rows: 65 or more rows a cluster at 1,000 clusters

ROUNDS = 30

BLOCK_VALUES = 1 << 22  # of rows x centres: 16 MB

NEIGHBOURS = 20  # Hacohen et al., "Active Learning on a Budget" (arXiv 2202.02794), section 3.2

F32 = NDArray[np.float32]

Ints = NDArray[np.int64]


def cluster_rows(z_NK: F32, clusters: int, seed: int) -> Ints:
    """The cluster (N,) of every row, 0..G-1, by k-means from k-means++ centres. Rows that are alike may leave clusters empty."""
    generator = np.random.default_rng(seed_for(seed, "clusters"))
    z_SK = z_NK
    if len(z_NK) > max(FIT_ROWS, clusters):
        z_SK = z_NK[np.sort(generator.choice(len(z_NK), max(FIT_ROWS, clusters), replace=False))]
    centres_GK = spread_centres(z_SK, clusters, generator)
    before_S = None
    for _ in range(ROUNDS):
        nearest_S = nearest_centres(z_SK, centres_GK)
        if before_S is not None and np.array_equal(nearest_S, before_S):
            break
        centres_GK, before_S = means_of(z_SK, nearest_S, centres_GK), nearest_S
    return nearest_centres(z_NK, centres_GK)


def spread_centres(z_SK: F32, clusters: int, generator: np.random.Generator) -> F32:
    """Rows (G, K) to begin with: each drawn with the square of its distance to those before it as its weight (k-means++)."""
    chosen = [int(generator.integers(len(z_SK)))]
    square_S = _squares_to(z_SK, z_SK[chosen[0]])
    for _ in range(clusters - 1):
        sum_S = np.cumsum(square_S, dtype=np.float64)
        if sum_S[-1] > 0:
            chosen.append(
                int(np.searchsorted(sum_S, generator.random() * sum_S[-1], side="right").clip(0, len(z_SK) - 1))
            )
        else:  # every row is at a centre already
            chosen.append(int(generator.integers(len(z_SK))))
        np.minimum(square_S, _squares_to(z_SK, z_SK[chosen[-1]]), out=square_S)
    return z_SK[chosen]


def nearest_centres(z_NK: F32, centres_GK: F32) -> Ints:
    """The nearest centre (N,) of every row; of several the first."""
    half_G = np.square(centres_GK).sum(axis=1) / 2
    nearest_N = np.empty(len(z_NK), np.int64)
    rows = max(1, BLOCK_VALUES // len(centres_GK))
    for start in range(0, len(z_NK), rows):
        at = slice(start, start + rows)
        nearest_N[at] = (z_NK[at] @ centres_GK.T - half_G).argmax(axis=1)
    return nearest_N


def means_of(z_SK: F32, nearest_S: Ints, centres_GK: F32) -> F32:
    """The means (G, K) of the clusters; an empty one keeps its centre."""
    order_S = np.argsort(nearest_S, kind="stable")
    filled, starts, counts = np.unique(nearest_S[order_S], return_index=True, return_counts=True)
    moved_GK = centres_GK.copy()
    sums = np.add.reduceat(z_SK[order_S], starts, axis=0, dtype=np.float64)
    moved_GK[filled] = sums / counts[:, None]
    return moved_GK


def typicality(z_mK: F32) -> NDArray[np.float64]:
    """How dense each row lies among the m: 1 / its mean distance to the NEIGHBOURS nearest others (m,); equal rows are densest."""
    count = min(NEIGHBOURS, len(z_mK) - 1)
    if count < 1:
        return np.ones(len(z_mK))
    rows = max(1, BLOCK_VALUES // len(z_mK))
    parts = [_distances(z_mK, start, rows, count) for start in range(0, len(z_mK), rows)]
    return 1 / np.maximum(np.concatenate(parts), np.finfo(np.float32).tiny)


def _distances(z_mK: F32, start: int, rows: int, count: int) -> NDArray[np.float64]:
    """The mean distance (B,) of the rows from `start` on to their `count` nearest others."""
    z_BK = z_mK[start : start + rows]
    square_Bm = np.square(z_BK).sum(axis=1)[:, None] + np.square(z_mK).sum(axis=1) - 2 * z_BK @ z_mK.T
    own_B = np.arange(len(z_BK))
    square_Bm[own_B, own_B + start] = np.inf
    nearest_Bk = np.partition(square_Bm, count - 1, axis=1)[:, :count]
    mean_B: NDArray[np.float64] = np.sqrt(nearest_Bk.clip(0)).mean(axis=1, dtype=np.float64)
    return mean_B


def _squares_to(z_SK: F32, centre_K: F32) -> F32:
    difference_SK = z_SK - centre_K
    squares_S: F32 = np.einsum("sk,sk->s", difference_SK, difference_SK)
    return squares_S
