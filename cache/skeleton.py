"""The skeleton of an HDF5 file: its metadata, and where the values of each dataset will lie, before any value is written.

HDF5 writes into memory only, and only its metadata; so a file of any size is laid out at once, and the values can go to the
disk with plain writes. Datasets are contiguous and start at a multiple of 64 bytes.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import h5py

from cache.layout import ALIGNMENT_BYTES, Record
from cache.shard import Form


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
