"""Hierarchical bootstrap of an accuracy, or of a difference of two, over splits and test images at once.

The t-interval over splits asks: what if other images had been labelled? This asks as well: what if other test images had been
taken? Every split is scored on the same test images, so both are drawn, each on its own (the pigeonhole bootstrap, Owen 2007,
Annals of Applied Statistics 1(2), section 4); it is rather too wide than too narrow. Of S splits S - 1 are drawn (Rao and Wu 1988), for
the spread of S drawn ones would be too small by (S - 1) / S, a third of it at 3 splits.

Legend: S splits, N test images, R resamples, B resamples at once.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tcs.runtime import seed_for

RESAMPLES = 2000
BLOCK_CELLS = 1 << 21  # numbers of one block of draws: 16 MiB as int64
F64 = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bootstrapped:
    """Mean with its 95 % percentile interval, all in points of percent; `splits` and `images` are how many were drawn from."""

    mean: float
    low: float
    high: float
    splits: int
    images: int


def hierarchical_bootstrap(hits_SN: NDArray[np.floating], seed: int = 0, resamples: int = RESAMPLES) -> Bootstrapped:
    """The interval of 100 mean(hits): `hits_SN` (S, N) holds 1 where an image is right and 0 where not, or the difference of two
    such arrays. One row is a split. With one split only images are drawn.

    Seeded, and the same for the same shape and seed. ValueError for an empty array.
    """
    splits, images = hits_SN.shape
    if not hits_SN.size:
        raise ValueError(f"hits of shape {hits_SN.shape} hold no image")
    means_R = np.concatenate(list(_means(hits_SN.astype(np.float32), seed, resamples)))
    low, high = np.percentile(means_R, (2.5, 97.5))
    mean = float(hits_SN.mean(dtype=np.float64))
    return Bootstrapped(mean=100 * mean, low=100 * float(low), high=100 * float(high), splits=splits, images=images)


def _means(hits_SN: NDArray[np.float32], seed: int, resamples: int) -> Iterator[F64]:
    """Means of the resamples, in blocks that fit in memory."""
    images = hits_SN.shape[1]
    block = max(1, BLOCK_CELLS // images)
    for start in range(0, resamples, block):
        picked_BS, counts_BN = draw_weights(hits_SN.shape, seed, start, min(block, resamples - start))
        per_image_BN = picked_BS @ hits_SN
        yield np.einsum("bn,bn->b", per_image_BN, counts_BN, dtype=np.float64) / images


def draw_weights(
    shape: tuple[int, int], seed: int, start: int, count: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """For `count` resamples from number `start` on: shares of the splits (B, S), which add up to 1, and how often each image is drawn
    (B, N), which add up to N. float32."""
    splits, images = shape
    drawn = max(splits - 1, 1)
    generator = np.random.default_rng(seed_for(seed, "bootstrap of splits and images", start))
    shares_BS = generator.multinomial(drawn, np.full(splits, 1 / splits), size=count) / drawn
    rows_BN = generator.integers(images, size=(count, images))
    offsets_B1 = images * np.arange(count)[:, None]
    counts_BN = np.bincount((rows_BN + offsets_B1).ravel(), minlength=count * images).reshape(count, images)
    return shares_BS.astype(np.float32), counts_BN.astype(np.float32)
