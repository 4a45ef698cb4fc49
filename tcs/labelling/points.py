"""The rows of a store as points: unit length, about their mean, along the first principal axes; read twice, block by block.

Legend: N rows, B rows of a block, D features, K = min(POINT_DIMS, D) coordinates.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tcs.coordinates.axes import block_weights, principal_axes, weighed
from tcs.coordinates.moments import Blocks, iterate_blocks, streaming_moments
from tcs.runtime import progress_bar

POINT_DIMS = 128  # 1,000,000 rows are 512 MB

F32 = NDArray[np.float32]


class UnitRows:
    """Rows scaled to length 1, float32; a row of zeros stays one. Reads like `cache.Features`."""

    def __init__(self, vectors: Blocks | NDArray[np.floating]) -> None:
        """`vectors` (N, D) are read when they are asked for."""
        self._vectors = vectors
        self.shape = vectors.shape

    def __getitem__(self, index: NDArray[np.int64]) -> F32:
        """Rows by number, (B, D)."""
        return _unit(self._vectors[index])

    def blocks(self, rows: int = 8192) -> Iterator[tuple[int, F32]]:
        """Pairs (first row, block (B, D)) over all rows."""
        for start, block_BD in iterate_blocks(self._vectors, rows):
            yield start, _unit(block_BD)


def points_of(vectors: Blocks | NDArray[np.floating], widths: Sequence[int] = ()) -> F32:
    """Points (N, K) float32 of rows (N, D); `widths` are those of several teachers' blocks, which are to weigh the same.

    DataError names a row with NaN or Inf, and refuses a single row, or a teacher whose rows do not vary.
    """
    rows = UnitRows(vectors)
    mean_D, covariance_DD = streaming_moments(rows)
    if len(widths) > 1:
        weights_D = block_weights(covariance_DD, widths)
        axes_DD = weights_D[:, None] * principal_axes(weighed(covariance_DD, weights_D))[0]
    else:
        axes_DD = principal_axes(covariance_DD)[0]
    axes_DK = axes_DD[:, :POINT_DIMS].astype(np.float32)
    origin_D = mean_D.astype(np.float32)
    z_NK = np.empty((rows.shape[0], axes_DK.shape[1]), np.float32)
    with progress_bar(len(z_NK), "reading features", "rows") as bar:
        for start, block_BD in rows.blocks():
            np.matmul(block_BD - origin_D, axes_DK, out=z_NK[start : start + len(block_BD)])
            bar.advance(len(block_BD))
    return z_NK


def _unit(block_BD: NDArray[np.floating]) -> F32:
    """Lengths are taken in float64: a row that is too long for float32 squares would become zeros unseen."""
    length_B = np.sqrt(np.einsum("bd,bd->b", block_BD, block_BD, dtype=np.float64))
    with np.errstate(invalid="ignore"):  # infinite / infinite is NaN, which is refused by its row
        unit_BD: F32 = (block_BD / np.where(length_B > 0, length_B, 1)[:, None]).astype(np.float32)
    return unit_BD
