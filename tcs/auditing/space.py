"""The space in which images are compared: unit features about their mean, along the first principal axes.

Legend: N rows, B rows of a block, D features, K = min(AUDIT_DIMS, D) coordinates.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from tcs.coordinates.axes import principal_axes
from tcs.coordinates.moments import Blocks, streaming_moments
from tcs.labelling.points import UnitRows

AUDIT_DIMS = 512  # 100,000 rows are 205 MB

F32 = NDArray[np.float32]


@dataclasses.dataclass(frozen=True, eq=False)
class PointSpace:
    """origin_D and axes_DK, float32, fitted to the rows of one store; rows of another one of that teacher can be mapped, too."""

    origin_D: F32
    axes_DK: F32

    def points(self, vectors: Blocks | NDArray[np.floating]) -> F32:
        """Coordinates (N, K) float32 of rows (N, D), read block by block."""
        rows = UnitRows(vectors)
        points_NK = np.empty((rows.shape[0], self.axes_DK.shape[1]), np.float32)
        for start, block_BD in rows.blocks():
            np.matmul(block_BD - self.origin_D, self.axes_DK, out=points_NK[start : start + len(block_BD)])
        return points_NK


def fit_space(vectors: Blocks | NDArray[np.floating]) -> PointSpace:
    """The space of two or more rows (N, D). DataError names a row with NaN or Inf, and refuses a single row."""
    mean_D, covariance_DD = streaming_moments(UnitRows(vectors))
    axes_DK = principal_axes(covariance_DD)[0][:, :AUDIT_DIMS].astype(np.float32)
    return PointSpace(origin_D=mean_D.astype(np.float32), axes_DK=axes_DK)


def directions(points_NK: F32) -> F32:
    """Points scaled to length 1, so that products are cosines; a point that does not differ from the mean stays at zero."""
    length_N = np.linalg.norm(points_NK, axis=1)
    is_away_N = length_N > 1e-6
    scaled_NK: F32 = np.where(is_away_N[:, None], points_NK / np.where(is_away_N, length_N, 1)[:, None], 0)
    return scaled_NK.astype(np.float32)
