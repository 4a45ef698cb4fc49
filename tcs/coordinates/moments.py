"""Mean and covariance of a feature matrix of any length, in one pass over its blocks.

The products are taken after subtracting a provisional origin, the mean of the first block: features of self-supervised
teachers lie farther from zero than they spread, and float32 products of uncentred rows lose the small eigenvalues. A
block is converted to float32 and multiplied in float32; blocks are summed in float64. Doing the products in float64 as
well was refused: it doubles the time, and the eigenvalues agree to 1e-4 of the first without it. Memory O(D^2 + block).

Legend: N rows, D features, B rows of a block.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tcs.errors import DataError

BLOCK_ROWS = 2048


class Blocks(Protocol):
    """A feature matrix read in order, such as `cache.Features`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D)."""

    def __getitem__(self, index: NDArray[np.int64], /) -> NDArray[np.floating]:
        """Rows by number, (B, D)."""

    def blocks(self, rows: int = ...) -> Iterator[tuple[int, NDArray[np.floating]]]:
        """Pairs (first row, block (B, D))."""


def iterate_blocks(
    features: Blocks | NDArray[np.floating], rows: int = BLOCK_ROWS
) -> Iterator[tuple[int, NDArray[np.floating]]]:
    """Pairs (first row, block (B, D)) of a stored feature matrix or of an array in memory."""
    if isinstance(features, np.ndarray):
        return ((start, features[start : start + rows]) for start in range(0, len(features), rows))
    return features.blocks(rows)


def streaming_moments(
    features: Blocks | NDArray[np.floating], block_rows: int = BLOCK_ROWS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (D,) and unbiased covariance (D, D), float64, of N >= 2 rows of float16 or float32 features.

    DataError where there are fewer than two rows, or where a value is NaN, infinite or too large for float32 products;
    the message names the first such row.
    """
    n_rows, dims = features.shape
    if n_rows < 2:
        raise DataError(f"the store has {n_rows} rows; a mean and covariance need two or more.")
    origin_D: NDArray[np.float32] | None = None
    sum_D, products_DD = np.zeros(dims), np.zeros((dims, dims))
    for start, stored_BD in iterate_blocks(features, block_rows):
        with np.errstate(invalid="ignore", over="ignore"):
            if origin_D is None:
                origin_D = stored_BD.mean(axis=0, dtype=np.float64).astype(np.float32)
            block_BD = np.subtract(stored_BD, origin_D, dtype=np.float32)
            sum_D += block_BD.sum(axis=0, dtype=np.float64)
            products_DD += block_BD.T @ block_BD
        if not np.isfinite(np.trace(products_DD)):
            raise _not_finite(start, stored_BD)
    assert origin_D is not None  # n_rows >= 2, so there was a block
    shift_D = sum_D / n_rows
    covariance_DD = (products_DD - n_rows * np.outer(shift_D, shift_D)) / (n_rows - 1)
    return origin_D + shift_D, covariance_DD


def _not_finite(start: int, block_BD: NDArray[np.floating]) -> DataError:
    bad_B = ~np.isfinite(block_BD).all(axis=1)
    if not bad_B.any():
        return DataError(
            f"features near row {start} are too large for float32 products (above about 1e18); rescale them."
        )
    row = start + int(bad_B.argmax())
    return DataError(
        f"row {row} of the features holds NaN or Inf ({int(bad_B.sum())} such rows in its block);"
        " check the teacher's output and extract those rows again."
    )
