"""The HDF5 file around datasets, without a copy of them: pieces that are the file, or the places where values will lie.

HDF5 itself writes into a record in memory that keeps what it says about the datasets and drops their values, and it tells at
which byte it wants those. `file_pieces` puts values that are there between: a shard is in memory once, and HDF5 never meets a full
disk or a kill. `skeleton` lays out a file of any size before any value is written; they go to the disk with plain writes.
Datasets are contiguous and start at a multiple of 64 bytes.
"""

import dataclasses
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

ALIGNMENT_BYTES = 64

# HDF5 passes values of at least 64 kB (its sieve buffer) on in one call, and nothing else it writes is that long.
LARGE_BYTES = 1 << 20
PAGE_BYTES = 1 << 16

Form = tuple[str, tuple[int, ...]]  # what a dataset is: numpy's dtype string, shape


@dataclasses.dataclass(frozen=True, kw_only=True)
class Joined:
    """Bytes objects that make one uint8 dataset, one after the other, without being copied into one array."""

    pieces: Sequence[bytes]

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """That of the dataset."""
        return np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int]:
        """That of the dataset."""
        return (sum(map(len, self.pieces)),)

    @property
    def nbytes(self) -> int:
        """The bytes of the dataset."""
        return self.shape[0]


Values = npt.NDArray[Any] | Joined


@dataclasses.dataclass(frozen=True, kw_only=True)
class FilePieces:
    """The bytes of a file in order: `every` piece, and the `frame`, which is all but the values of large datasets."""

    every: list[bytes | memoryview]
    frame: list[bytes | memoryview]


def buffers(values: Values) -> list[bytes | memoryview]:
    """The bytes of a dataset, in order."""
    if isinstance(values, Joined):
        return list(values.pieces)
    return [values.reshape(-1).view(np.uint8).data] if values.size else []


def file_pieces(attributes: Mapping[str, Any], datasets: Mapping[str, Values]) -> FilePieces:
    """The bytes of the HDF5 file with these root attributes and contiguous, aligned datasets, in this order.

    The same input gives the same bytes (same h5py release).
    """
    record = Record()
    offsets = {}
    with h5py.File(record, "w", alignment_threshold=1, alignment_interval=ALIGNMENT_BYTES) as file:
        file.attrs.update(attributes)
        for name, values in datasets.items():
            offsets[name] = file.create_dataset(name, data=_placeholder(values)).id.get_offset()
    pieces = FilePieces(every=[], frame=[])
    at = 0
    for offset, name in sorted((offsets[name], name) for name, values in datasets.items() if is_large(values.nbytes)):
        pieces.frame.append(record.bytes_between(at, offset))
        pieces.every.extend([pieces.frame[-1], *buffers(datasets[name])])
        at = offset + datasets[name].nbytes
    pieces.frame.append(record.bytes_between(at, record.size_bytes))
    pieces.every.append(pieces.frame[-1])
    return pieces


def is_large(size_bytes: int) -> bool:
    """Whether a dataset of this size is left out of the record, and of the frame."""
    return size_bytes >= LARGE_BYTES


def _placeholder(values: Values) -> npt.NDArray[Any]:
    """What HDF5 is given: for values that are dropped anyway zeros, which take no memory until they are touched."""
    if is_large(values.nbytes):
        return np.zeros(values.shape, values.dtype)
    return values if isinstance(values, np.ndarray) else np.frombuffer(b"".join(values.pieces), dtype=np.uint8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Skeleton:
    """`pieces` are the bytes to be written first, by their offsets; `offsets` says where each dataset begins (0 if empty)."""

    pieces: Mapping[int, bytes]
    offsets: Mapping[str, int]
    size_bytes: int


def skeleton(attributes: Mapping[str, Any], datasets: Mapping[str, Form]) -> Skeleton:
    """Lay out a file with these root attributes and datasets, in this order. Equal arguments give equal bytes."""
    record = Record()
    with h5py.File(record, "w", driver="fileobj", alignment_threshold=1, alignment_interval=ALIGNMENT_BYTES) as file:
        file.attrs.update(attributes)
        offsets = {name: _allocated(file, name, form) for name, form in datasets.items()}
    return Skeleton(pieces=record.pages(), offsets=offsets, size_bytes=record.size_bytes)


def _allocated(file: Any, name: str, form: Form) -> int:
    """Give a dataset its place at once, unwritten; returns its first byte."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    dtype, shape = form
    dataset = file.create_dataset(name, shape, dtype, dcpl=properties)
    return int(dataset.id.get_offset() or 0)


class Record(io.RawIOBase):
    """A file in memory that forgets writes of LARGE_BYTES and more."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._pages: dict[int, bytearray] = {}
        self._at = 0

    def pages(self) -> dict[int, bytes]:
        """What was written and kept, by place, in pages of which the last ends with the file."""
        starts = sorted(page * PAGE_BYTES for page in self._pages)
        return {at: bytes(self._pages[at // PAGE_BYTES][: self.size_bytes - at]) for at in starts}

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of any file."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size_bytes}[whence]
        return self._at

    def tell(self) -> int:
        """As of any file."""
        return self._at

    def truncate(self, size: int | None = None) -> int:
        """As of any file."""
        self.size_bytes = self._at if size is None else size
        return self.size_bytes

    def write(self, data: Any) -> int:
        """As of any file, or forget the data."""
        view = memoryview(data).cast("B")
        if len(view) < LARGE_BYTES:
            for page, start, stop in _by_page(self._at, self._at + len(view)):
                at = page * PAGE_BYTES + start - self._at
                self._pages.setdefault(page, bytearray(PAGE_BYTES))[start:stop] = view[at : at + stop - start]
        self._at += len(view)
        self.size_bytes = max(self.size_bytes, self._at)
        return len(view)

    def readinto(self, target: Any) -> int:
        """As of any file; what was forgotten reads as zeros."""
        found = self.bytes_between(self._at, min(self._at + len(target), max(self.size_bytes, self._at)))
        target[: len(found)] = found
        self._at += len(found)
        return len(found)

    def bytes_between(self, start: int, stop: int) -> bytes:
        """What stands at these places; zeros where nothing does."""
        blank = bytes(PAGE_BYTES)
        return b"".join(self._pages.get(page, blank)[first:last] for page, first, last in _by_page(start, stop))


def _by_page(start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """The pages between two places of the file, each with the first and last + 1 byte that are meant in it."""
    for page in range(start // PAGE_BYTES, -(-stop // PAGE_BYTES)):
        yield page, max(start - page * PAGE_BYTES, 0), min(stop - page * PAGE_BYTES, PAGE_BYTES)
