"""The features of one readout as one array, memory-mapped from the shards or gathered into memory.

The system is told which rows of a memory map will be read next, so that they come from a disk together.

Legend: N rows of the store, B rows asked for, n rows of a map, V views, H W grid, D dims. A row is (D,), (H, W, D), (V, D) or
(V, H, W, D).
"""

import math
import mmap
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.errors import SchemaError
from cache.extents import Extent

FeatureArray = npt.NDArray[np.floating[Any]]
Int64Array = npt.NDArray[np.int64]

# Not on Windows. Without it rows on a disk are read one after another, each with as much around it as the system likes.
_WILL_NEED: int | None = getattr(mmap, "MADV_WILLNEED", None)

# A gather that takes longer read from a disk: 1.5 kB rows in memory take 0.3 us each (1 us from 128 maps), on a disk 100 us,
# announced 10 us.
DISK_SECONDS_PER_ROW = 2e-6
DISK_SECONDS_PER_BYTE = 1e-9


class MappedRows:
    """`rows` (n, ...) at `offset` bytes of the map `buffer`; a buffer of None means that they are in memory."""

    def __init__(self, rows: npt.NDArray[Any], buffer: mmap.mmap | None, offset: int) -> None:
        """Hold the parts together; nothing is read."""
        self.rows = rows
        self._buffer = buffer
        self._offset = offset

    @classmethod
    def of(cls, extent: Extent, *, has_views: bool = False) -> "MappedRows":
        """Map an extent, its views (n, V, ...) as rows (n V, ...). Raises CorruptStoreError as `Extent.map` does."""
        buffer = extent.buffer()
        rows = extent.view(buffer)
        return cls(rows.reshape(-1, *rows.shape[2:]) if has_views else rows, buffer, extent.offset)

    def announce(self, numbers: npt.NDArray[np.int64]) -> None:
        """Let the system read these rows from the disk, all at once, and nothing around them.

        Otherwise a read of one row waits for it alone, and brings in whatever the system reads ahead (measured on one
        disk: 128 times the bytes asked for, and a tenth of the speed).
        """
        if self._buffer is None or _WILL_NEED is None:
            return
        row_bytes = self.rows[:1].nbytes
        for start in (self._offset + numbers * row_bytes).tolist():
            page_start = start - start % mmap.PAGESIZE
            self._buffer.madvise(_WILL_NEED, page_start, start + row_bytes - page_start)


class Features:
    """An (N, *row_shape) array of the readout's dtype. Every array it hands out is a fresh copy, never a view of a file.

    Where all rows fit `resident_bytes`, the first use gathers them into one array: scattered rows come at the speed of
    `np.take` then, and at 0.5 x of it from 16 maps, 0.2 x from 128. It pickles as paths and offsets.
    """

    def __init__(
        self,
        dtype: str,
        row_shape: tuple[int, ...],
        extents: Sequence[Extent],
        resident_bytes: int,
        view: int | None = None,
        order_N: Int64Array | None = None,
    ) -> None:
        """Describe the array; nothing is mapped or read yet. `view` takes one of the V of extents (n, V, *row_shape); row i is
        row order_N[i] of the extents, where that is given (each number once)."""
        self.dtype = np.dtype(dtype)
        rows = [extent.shape[0] for extent in extents]
        self._stored_shape = (sum(rows), *row_shape)
        self.shape = self._stored_shape if order_N is None else (len(order_N), *row_shape)
        self._starts = np.cumsum([0, *rows])
        self._extents = tuple(extents)
        self._is_resident = math.prod(self._stored_shape) * self.dtype.itemsize <= resident_bytes
        self._view = view
        # A mapped view v of V is the rows v, v + V ... of (n V, *row_shape): `take` copies nothing else then.
        self._step = extents[0].shape[1] if view is not None and not self._is_resident else 1
        self._first = view if view is not None and not self._is_resident else 0
        self._order_N = order_N
        self._parts: list[MappedRows] | None = None
        self._is_on_disk = True  # unless a gather finds it in memory

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> FeatureArray:
        """Rows by one number (one row), a slice, an array of whole numbers (B, ...), negative ones from the end, or a mask.

        Raises IndexError for a row outside the store, TypeError for another kind of index.
        """
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            is_range = step == 1 and self._order_N is None
            return self._range(start, stop) if is_range else self.gather(np.arange(start, stop, step))
        if isinstance(index, tuple):  # numpy would take rows and then columns, np.asarray several rows
            raise TypeError(f"the index {index} is of several dimensions; take rows first, as features[row][view].")
        rows = np.asarray(index)
        if rows.dtype == np.bool_ and rows.shape == (len(self),):  # True for the rows to take
            rows = np.flatnonzero(rows)
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
        pieces, order_B = self._by_part(wanted_B if self._order_N is None else self._order_N[wanted_B])
        if self._is_on_disk:
            for part, rows in pieces:
                part.announce(rows)
        start_seconds = time.perf_counter()
        found_B = self._taken(pieces)
        seconds = time.perf_counter() - start_seconds
        if len(found_B):
            self._is_on_disk = (
                seconds > DISK_SECONDS_PER_ROW * (len(found_B) + 10) + DISK_SECONDS_PER_BYTE * found_B.nbytes
            )
        if order_B is None:
            return found_B
        places_B = np.empty_like(order_B)
        places_B[order_B] = np.arange(len(order_B))
        return found_B.take(places_B, axis=0)

    def _by_part(self, wanted_B: Int64Array) -> tuple[list[tuple[MappedRows, Int64Array]], Int64Array | None]:
        """The parts that hold the wanted rows, each with numbers of its own, and the order that sorts the rows by part."""
        parts = self._mapped()
        if len(parts) == 1:
            return [(parts[0], self._stored_numbers(wanted_B))], None
        order_B = np.argsort(wanted_B, kind="stable")
        sorted_B = wanted_B[order_B]
        cuts = np.searchsorted(sorted_B, self._starts).tolist()
        pieces = [
            (part, self._stored_numbers(sorted_B[start:stop] - first))
            for part, first, start, stop in zip(parts, self._starts.tolist(), cuts, cuts[1:], strict=False)
            if start < stop
        ]
        return pieces, order_B

    def _stored_numbers(self, numbers: Int64Array) -> Int64Array:
        """Where these rows of a part stand in its map."""
        return numbers if self._step == 1 else numbers * self._step + self._first

    def _taken(self, pieces: Sequence[tuple[MappedRows, Int64Array]]) -> FeatureArray:
        """The rows of all pieces, one after another; `clip` only because a second check of the numbers costs time."""
        if len(pieces) == 1:
            return pieces[0][0].rows.take(pieces[0][1], axis=0, mode="clip")
        found_B = np.empty((sum(len(rows) for _, rows in pieces), *self.shape[1:]), dtype=self.dtype)
        stop = 0
        for part, rows in pieces:
            start, stop = stop, stop + len(rows)
            part.rows.take(rows, axis=0, out=found_B[start:stop], mode="clip")
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
            begin, end = max(start - first, 0) * self._step, max(stop - first, 0) * self._step
            piece = part.rows[begin + self._first : end : self._step]
            if len(piece):
                found.append(piece)
        return np.concatenate(found)

    def _checked(self, rows: npt.NDArray[Any]) -> Int64Array:
        """The numbers of the rows, none of them negative."""
        if rows.dtype == np.int64 and rows.ndim == 1 and len(rows) and rows.view(np.uint64).max() < len(self):
            return rows  # the usual case, tested at once: as unsigned numbers negative ones are huge
        if rows.size == 0:
            return np.empty(0, dtype=np.int64)
        if rows.dtype.kind not in "iu" or rows.ndim != 1:
            raise TypeError(f"rows must be one list of whole numbers, not {rows.dtype} of shape {rows.shape}.")
        least, most = int(rows.min()), int(rows.max())
        if least < -len(self) or most >= len(self):
            outside = next(row for row in rows.tolist() if not -len(self) <= row < len(self))
            raise IndexError(f"row {outside} is outside the {len(self)} rows, counted from 0.")
        wanted_B = rows.astype(np.int64, copy=False)
        return wanted_B if least >= 0 else np.where(wanted_B < 0, wanted_B + len(self), wanted_B)

    def _mapped(self) -> list[MappedRows]:
        """The maps of all shards, or the one array they were gathered into; made at the first use."""
        if self._parts is None:
            if self._is_resident:
                self._parts = [MappedRows(self._gathered(), None, 0)]
            else:
                self._parts = [MappedRows.of(extent, has_views=self._view is not None) for extent in self._extents]
        return self._parts

    def _gathered(self) -> FeatureArray:
        """All rows in one array; one shard is mapped at a time."""
        found_N = np.empty(self._stored_shape, dtype=self.dtype)
        for extent, start in zip(self._extents, self._starts[:-1].tolist(), strict=True):
            stored_n = extent.map()
            found_N[start : start + extent.shape[0]] = stored_n if self._view is None else stored_n[:, self._view]
        return found_N
