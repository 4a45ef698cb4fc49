"""The features of one readout as one array, memory-mapped from the shards or gathered into memory.

Letters: N rows of the store, B rows asked for, V views, H W grid, D dims. A row is (D,), (H, W, D), (V, D) or (V, H, W, D).
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.errors import SchemaError
from cache.inspection import Extent

FeatureArray = npt.NDArray[np.floating[Any]]


class Features:
    """An (N, *row_shape) array of the readout's dtype. Every array it hands out is a fresh copy, never a view of a file.

    Where all rows fit `resident_bytes`, the first use gathers them into one array (16 shards gather at 0.8 x the speed
    of one array, 64 shards at 0.3 x). It pickles as paths and offsets.
    """

    def __init__(self, dtype: str, row_shape: tuple[int, ...], extents: Sequence[Extent], resident_bytes: int) -> None:
        """Describe the array; nothing is mapped or read yet."""
        self.dtype = np.dtype(dtype)
        rows = [extent.shape[0] for extent in extents]
        self.shape = (sum(rows), *row_shape)
        self._starts = np.cumsum([0, *rows])
        self._extents = tuple(extents)
        self._is_resident = math.prod(self.shape) * self.dtype.itemsize <= resident_bytes
        self._parts: list[FeatureArray] | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> FeatureArray:
        """Rows by one number (one row), a slice or an array of whole numbers (B, ...); negative ones count from the end.

        Raises IndexError for a row outside the store, TypeError for another kind of index.
        """
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            return self._range(start, stop) if step == 1 else self.gather(np.arange(start, stop, step))
        rows = np.asarray(index)
        found_B = self.gather(np.atleast_1d(rows))
        return found_B.reshape(self.shape[1:]) if rows.ndim == 0 else found_B

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> FeatureArray:
        """The whole array, so that numpy does not ask row by row."""
        return self[:].astype(dtype or self.dtype, copy=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_parts": None}

    def gather(self, rows_B: npt.ArrayLike) -> FeatureArray:
        """The rows in the order asked for, repeats allowed: (B, *row_shape). Negative numbers count from the end.

        Raises IndexError for a row outside the store, TypeError for what are no whole numbers.
        """
        wanted_B = self._checked(np.asarray(rows_B))
        parts = self._mapped()
        if len(parts) == 1:
            return parts[0][wanted_B]
        order_B = np.argsort(wanted_B, kind="stable")
        sorted_B = wanted_B[order_B]
        found_B = np.empty((len(wanted_B), *self.shape[1:]), dtype=self.dtype)
        cuts = np.searchsorted(sorted_B, self._starts)
        for part, first, start, stop in zip(parts, self._starts[:-1], cuts[:-1], cuts[1:], strict=True):
            if start < stop:
                found_B[order_B[start:stop]] = part[sorted_B[start:stop] - first]
        return found_B

    def blocks(self, rows: int = 8192) -> Iterator[tuple[int, FeatureArray]]:
        """All rows in order, `rows` at a time (the last block may be shorter) with the number of each block's first row.

        The cuts do not depend on the shards, so sums over blocks are the same for every shard layout.
        """
        if rows < 1:
            raise SchemaError(f"blocks of {rows} rows make no sense; ask for 1 or more.")
        for start in range(0, len(self), rows):
            yield start, self[start : start + rows]

    def _range(self, start: int, stop: int) -> FeatureArray:
        """Rows start to stop - 1, copied from the one or several parts that hold them."""
        found = [np.empty((0, *self.shape[1:]), dtype=self.dtype)]
        for part, first in zip(self._mapped(), self._starts[:-1].tolist(), strict=False):
            piece = part[max(start - first, 0) : max(stop - first, 0)]
            if len(piece):
                found.append(piece)
        return np.concatenate(found)

    def _checked(self, rows: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        if rows.size == 0:
            return np.empty(0, dtype=np.int64)
        if rows.dtype.kind not in "iu" or rows.ndim != 1:
            raise TypeError(f"rows must be one list of whole numbers, not {rows.dtype} of shape {rows.shape}.")
        outside = rows[(rows < -len(self)) | (rows >= len(self))]
        if outside.size:
            raise IndexError(f"row {outside[0]} is outside the {len(self)} rows, counted from 0.")
        return np.where(rows < 0, rows + len(self), rows).astype(np.int64)

    def _mapped(self) -> list[FeatureArray]:
        """The maps of all shards, or the one array they were gathered into; made at the first use."""
        if self._parts is None:
            self._parts = [self._gathered()] if self._is_resident else [extent.map() for extent in self._extents]
        return self._parts

    def _gathered(self) -> FeatureArray:
        """All rows in one array; one shard is mapped at a time."""
        found_N = np.empty(self.shape, dtype=self.dtype)
        for extent, start in zip(self._extents, self._starts[:-1].tolist(), strict=True):
            found_N[start : start + extent.shape[0]] = extent.map()
        return found_N
