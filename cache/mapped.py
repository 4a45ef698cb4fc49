"""Rows that lie in a memory map, and a word to the system about which of them will be read next."""

import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.extents import Extent

# Not on Windows. Without it rows on a disk are read one after another, each with as much around it as the system likes.
_WILL_NEED: int | None = getattr(mmap, "MADV_WILLNEED", None)


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
