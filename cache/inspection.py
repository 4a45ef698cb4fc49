"""Checks of a shard file found on disk. Nothing of it is believed: links, layouts, dtypes and shapes are compared first.

Letters: N rows of the shard, V views, P parameters of a view.
"""

import contextlib
import dataclasses
import itertools
import json
import math
import mmap
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from cache.errors import CorruptShardError, CorruptStoreError, SchemaError
from cache.fields import require, require_type, shortened
from cache.files import NOT_ORDINARY, open_ordinary
from cache.fingerprint import DIGEST_BYTES
from cache.layout import ALIGNMENT_BYTES
from cache.manifest import Quarantined, quarantine_from_json
from cache.schema import Plan
from cache.shard import content_digest, key_bytes, quarantine_limit, require_covered

# Before Python 3.13 every map keeps a file descriptor for itself, so a store of 1,000 shards meets the usual limit.
_NAMED_AT_MOST = 10
_NO_DESCRIPTOR: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}


# What tells a file from another put into its place, or from itself after a change: bytes, time of change in ns. (Inode
# numbers would tell more, but some network file systems change them at will.)
Stamp = tuple[int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Extent:
    """Where the values of one dataset lie in a shard file, and the stamp that the file had when this was checked."""

    path: Path
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    stamp: Stamp

    @property
    def size_bytes(self) -> int:
        """How many bytes the values take."""
        return math.prod(self.shape) * self.dtype.itemsize

    def map(self) -> npt.NDArray[Any]:
        """The values as a read-only memory map; an ordinary empty array where there are none.

        Raises CorruptStoreError where the file went away or changed since it was checked, or too many files are open.
        """
        return self.view(self.buffer())

    def buffer(self) -> mmap.mmap | None:
        """A read-only map of the whole file; None where there are no values. Raises CorruptStoreError as `map` does."""
        if 0 in self.shape:
            return None
        try:
            with open_ordinary(self.path) as file:
                stamp = stamp_of(os.fstat(file.fileno()))
                buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ, **_NO_DESCRIPTOR)
        except (OSError, ValueError) as error:
            raise CorruptStoreError(
                f"{self.path}: it cannot be mapped ({error}); if too many files are open raise ulimit -n, or extract with "
                "a larger --rows-per-shard."
            ) from error
        if stamp != self.stamp:
            raise CorruptStoreError(
                f"{self.path}: it was changed or replaced after it was checked; open the store again."
            )
        return buffer

    def view(self, buffer: mmap.mmap | None) -> npt.NDArray[Any]:
        """The values in a `buffer()`."""
        if buffer is None:
            return np.empty(self.shape, self.dtype)
        values = np.frombuffer(buffer, dtype=self.dtype, count=math.prod(self.shape), offset=self.offset)
        return values.reshape(self.shape)


def stamp_of(status: os.stat_result) -> Stamp:
    """The stamp of a file."""
    return status.st_size, status.st_mtime_ns


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
    """A checked shard file: positions_N int64, hashes_N16 uint8, and where each dataset lies, in file order."""

    positions_N: npt.NDArray[np.int64]
    hashes_N16: npt.NDArray[np.uint8]
    quarantine: tuple[Quarantined, ...]
    content_digest: str
    extents: Mapping[str, Extent]


def inspect_shard(path: Path, plan: Plan, index: int) -> Shard:
    """Check attributes, links, layouts, dtypes, shapes, positions, labels and offsets of a shard; features stay unread.

    Raises CorruptStoreError naming what differs from the plan.
    """
    with _opened(path) as (file, stamp):
        digest = _checked_attributes(file, plan, index)
        datasets = _checked_datasets(file, plan)
        extents = _checked_extents(path, plan, index, datasets, stamp)
        shard = Shard(
            positions_N=datasets["positions"][()],
            hashes_N16=datasets["hashes"][()],
            quarantine=_parsed_quarantine(datasets["quarantine"][()].tobytes()),
            content_digest=digest,
            extents=extents,
        )
        require_covered(plan, index, shard.positions_N, shard.quarantine)
        labels_N = np.array([plan.labels[position] for position in shard.positions_N.tolist()], dtype=np.int64)
        require(np.array_equal(datasets["labels"][()], labels_N), "labels differ from the plan's")
        if "images/offsets" in datasets:
            _require_offsets(datasets["images/offsets"][()], extents["images/bytes"].shape[0])
    return shard


def verify_shard(path: Path, plan: Plan, index: int) -> Shard:
    """`inspect_shard`, then every byte: the keys against the plan, all datasets against the stored content digest."""
    shard = inspect_shard(path, plan, index)
    datasets = {name: extent.map() for name, extent in shard.extents.items()}
    keys = key_bytes([plan.keys[position] for position in shard.positions_N.tolist()])
    if datasets["keys"].dtype != keys.dtype or not np.array_equal(datasets["keys"], keys):
        raise CorruptShardError(path, "keys differ from the plan's")
    found = content_digest(plan, index, datasets)
    if found != shard.content_digest:
        raise CorruptShardError(
            path, f"its content has digest {found}, not the {shard.content_digest} it was written with"
        )
    return shard


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Stamp]]:
    """The shard as an h5py file, read-only and unlocked, and its stamp; all that goes wrong becomes a CorruptShardError."""
    try:
        status = path.lstat()
        require(stat.S_ISREG(status.st_mode), NOT_ORDINARY)
        with h5py.File(path, "r", locking=False) as file:
            require(file.userblock_size == 0, "something stands before its HDF5 content")
            yield file, stamp_of(status)
    except SchemaError as error:
        raise CorruptShardError(path, str(error).removesuffix(".")) from error
    except Exception as error:  # libhdf5's errors come as nearly every built-in type, by where it stumbled
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CorruptShardError(path, f"it cannot be read as HDF5 ({reason[:160]!r})") from error


def _checked_attributes(file: Any, plan: Plan, index: int) -> str:
    """Compare the attributes with the plan; returns the content digest. No value is read before its type is right."""
    wanted = {"format_version": plan.format_version, "plan_identity": plan.plan_identity.encode(), "shard": index}
    names = {*wanted, "content_digest"}
    _require_attributes(file, names)
    for name in names:
        kept = file.attrs.get_id(name)
        is_scalar = kept.get_space().get_simple_extent_type() == h5py.h5s.SCALAR
        require(is_scalar, f"attribute {name} is no single value")
        kind = "|S32" if name in ("plan_identity", "content_digest") else "<i8"
        require(kept.dtype.str == kind, f"attribute {name} is {kept.dtype.str}; it must be {kind}")
    for name, value in wanted.items():
        found = file.attrs[name]
        require(bool(found == value), f"attribute {name} is {shortened(found)}; the plan needs {value!r}")
    return str(file.attrs["content_digest"], "ascii")


def _require_attributes(place: Any, names: set[str]) -> None:
    """Raise SchemaError unless `place`, the file, a group or a dataset, has exactly the attributes `names`."""
    if h5py.h5a.get_num_attrs(place.id) != len(names) or set(place.attrs) != names:
        require(False, f"the attributes of {place.name} are {shortened(sorted(place.attrs))}, not {sorted(names)}")


def _checked_datasets(file: Any, plan: Plan) -> dict[str, Any]:
    """Every dataset by path, in file order; only hard links are followed, and nothing else may be there."""
    tree: dict[str, list[str]] = {"features": [readout.name for readout in plan.readouts]}
    if plan.images != "none":
        tree["images"] = ["bytes", "offsets"]
    views = [] if plan.views is None else ["views"]
    found = _children(file, ["keys", "positions", "labels", "hashes", *views, "quarantine"], list(tree))
    for group, names in tree.items():
        found |= {f"{group}/{name}": child for name, child in _children(found[group], names, []).items()}
    features, images = ([f"{group}/{name}" for name in tree.get(group, [])] for group in ("features", "images"))
    order = ("keys", "positions", "labels", "hashes", *features, *views, *images, "quarantine")
    return {name: found[name] for name in order}


def _children(group: Any, datasets: list[str], groups: list[str]) -> dict[str, Any]:
    """What `group` holds: these names and no other, as hard links, without attributes, the datasets contiguous."""
    wanted = {*datasets, *groups}
    found = set(group) if len(group) <= len(wanted) + _NAMED_AT_MOST else {f"{len(group)} things"}
    require(found == wanted, f"{group.name} holds {sorted(found)}, not {sorted(wanted)}")
    children = {}
    for name in found:
        kind = h5py.Dataset if name in datasets else h5py.Group
        is_hard = group.id.links.get_info(name.encode()).type == h5py.h5l.TYPE_HARD
        child = group[name] if is_hard else None
        require(isinstance(child, kind), f"{name} in {group.name} is a link, or no {kind.__name__.lower()}")
        _require_attributes(child, set())
        if name in datasets:  # before anything asks for its shape: for a virtual one that opens the files it names
            _require_contiguous(name, child)
        children[name] = child
    return children


def _require_contiguous(name: str, dataset: Any) -> None:
    properties = dataset.id.get_create_plist()
    is_plain = properties.get_layout() == h5py.h5d.CONTIGUOUS and properties.get_external_count() == 0
    require(is_plain, f"{name} is not stored contiguously inside this file")


def _checked_extents(
    path: Path, plan: Plan, index: int, datasets: Mapping[str, Any], stamp: Stamp
) -> dict[str, Extent]:
    """Where each dataset lies, after comparing dtype and shape with the plan, and its place with the file's size."""
    rows = datasets["positions"].shape[0] if datasets["positions"].ndim == 1 else -1
    require(0 <= rows <= len(plan.positions(index)), "positions has a shape that the plan rules out")
    wanted: dict[str, tuple[str, tuple[int, ...]]] = {
        "positions": ("<i8", (rows,)),
        "labels": ("<i8", (rows,)),
        "hashes": ("|u1", (rows, DIGEST_BYTES)),
        "images/offsets": ("<i8", (rows + 1,)),
        **{f"features/{item.name}": (_dtype(item.dtype), (rows, *plan.row_shape(item))) for item in plan.readouts},
    }
    if plan.views is not None:
        wanted["views"] = ("<f4", (rows, plan.views.count, len(plan.views.parameters)))
    inputs = len(plan.positions(index))
    extents = {}
    for name, dataset in datasets.items():
        dtype, shape = wanted.get(name) or _free_form(name, dataset, rows)
        require(
            dataset.dtype.str == dtype and dataset.shape == shape,
            f"{name} is {dataset.dtype.str} {dataset.shape}; the plan needs {dtype} {shape}",
        )
        is_usual = dataset.dtype.kind == "S" or dataset.id.get_type().equal(h5py.h5t.py_create(np.dtype(dtype)))
        require(is_usual, f"{name} has an unusual kind of {dtype}, which cannot be mapped")
        offset = _offset(name, dataset, size_bytes=stamp[0])
        extents[name] = Extent(path=path, offset=offset, dtype=np.dtype(dtype), shape=shape, stamp=stamp)
    require(extents["quarantine"].shape[0] <= quarantine_limit(inputs), f"quarantine is too long for {inputs} inputs")
    _require_apart(extents)
    return extents


def _require_apart(extents: Mapping[str, Extent]) -> None:
    """Raise SchemaError where two datasets share bytes."""
    placed = sorted((extent.offset, extent.size_bytes, name) for name, extent in extents.items() if extent.size_bytes)
    for (offset, size_bytes, name), (following, _, other) in itertools.pairwise(placed):
        require(offset + size_bytes <= following, f"{name} and {other} overlap")


def _dtype(readout_dtype: str) -> str:
    return np.dtype(readout_dtype).newbyteorder("<").str


def _free_form(name: str, dataset: Any, rows: int) -> tuple[str, tuple[int, ...]]:
    """What a dataset must be whose size is its own affair: keys of any width, bytes of any length."""
    if name == "keys":
        return (dataset.dtype.str if dataset.dtype.kind == "S" else "|S1", (rows,))
    return ("|u1", dataset.shape if dataset.ndim == 1 else (-1,))


def _offset(name: str, dataset: Any, size_bytes: int) -> int:
    """The first byte of a dataset that lies inside the file, aligned; 0 where it is empty."""
    if dataset.size == 0:
        return 0
    offset = dataset.id.get_offset()
    require(offset is not None and offset + dataset.nbytes <= size_bytes, f"{name} reaches beyond the end of the file")
    require(offset % ALIGNMENT_BYTES == 0, f"{name} starts at byte {offset}, no multiple of {ALIGNMENT_BYTES}")
    return int(offset)


def _parsed_quarantine(data: bytes) -> tuple[Quarantined, ...]:
    value = json.loads(data)
    require_type(value, list, "quarantine")
    return quarantine_from_json(value)


def _require_offsets(offsets: npt.NDArray[np.int64], blob_bytes: int) -> None:
    rises = offsets[0] == 0 and offsets[-1] == blob_bytes and bool((np.diff(offsets) > 0).all())
    require(bool(rises), f"images/offsets must rise from 0 to the {blob_bytes} bytes of images/bytes")
