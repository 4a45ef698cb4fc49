"""The vectors of several stores of the same images side by side: row by row, each store's scaled to length 1.

Teachers differ in the size of their features by orders of magnitude. Rows of length 1 make every store's part of a row weigh the same, and
are a function of the row alone: a test store needs nothing of the training store for it.

Legend: N rows, B rows asked for, V views, D dims of all parts together.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.errors import SchemaError
from cache.features import FeatureArray, Features


class JoinedFeatures:
    """An (N, [V,] D) float32 array, D the dims of all parts: reads as `Features` does. A part of a row that is all zero stays so."""

    dtype = np.dtype(np.float32)

    def __init__(self, parts: Sequence[Features]) -> None:
        """`parts` have the same rows and views."""
        self._parts = tuple(parts)
        self.shape: tuple[int, ...] = (*parts[0].shape[:-1], sum(part.shape[-1] for part in parts))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> FeatureArray:
        """Rows by whatever index `Features` takes, with its errors."""
        return _joined([part[index] for part in self._parts])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> FeatureArray:
        """The whole array, so that numpy does not ask row by row."""
        return self[:].astype(dtype or self.dtype, copy=False)

    def gather(self, rows_B: npt.ArrayLike) -> FeatureArray:
        """The rows in the order asked for, repeats allowed: (B, [V,] D). Raises what `Features.gather` raises."""
        return _joined([part.gather(rows_B) for part in self._parts])

    def blocks(self, rows: int = 8192) -> Iterator[tuple[int, FeatureArray]]:
        """All rows in order, `rows` at a time with the number of each block's first row."""
        if rows < 1:
            raise SchemaError(f"blocks of {rows} rows make no sense; ask for 1 or more.")
        for start in range(0, len(self), rows):
            yield start, self[start : start + rows]


def _joined(parts: Sequence[FeatureArray]) -> FeatureArray:
    return np.concatenate([_unit(part) for part in parts], axis=-1)


def _unit(vectors: FeatureArray) -> npt.NDArray[np.float32]:
    vectors = vectors.astype(np.float32)
    length = np.sqrt(np.square(vectors).sum(axis=-1, keepdims=True, dtype=np.float64))
    unit: npt.NDArray[np.float32] = np.divide(
        vectors, np.where(length > 0, length, 1).astype(np.float32), dtype=np.float32
    )
    return unit
