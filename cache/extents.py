"""Where the values of each dataset lie in a file found on disk; links, layouts, dtypes and shapes are checked before they are used.

Legend: N rows, V views, P parameters of a view.
"""

import contextlib
import dataclasses
import itertools
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

from cache.errors import CorruptFileError, CorruptStoreError, FormatVersionError, SchemaError
from cache.fields import require
from cache.files import NOT_ORDINARY, open_ordinary, unreadable
from cache.fingerprint import DIGEST_BYTES
from cache.layout import ALIGNMENT_BYTES, Form
from cache.schema import Plan

_NAMED_AT_MOST = 10

# Before Python 3.13 every map keeps a file descriptor for itself, so a store of 1,000 shards meets the usual limit.
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


@contextlib.contextmanager
def opened(path: Path, kind: type[CorruptFileError]) -> Iterator[tuple[Any, Stamp]]:
    """`path` as an h5py file, read-only and unlocked, and its stamp; all that goes wrong becomes an error of `kind`."""
    try:
        status = path.lstat()
        require(stat.S_ISREG(status.st_mode), NOT_ORDINARY)
        with h5py.File(path, "r", locking=False) as file:
            require(file.userblock_size == 0, "something stands before its HDF5 content")
            yield file, stamp_of(status)
    except (CorruptFileError, FormatVersionError):
        raise
    except SchemaError as error:
        raise kind(path, str(error).removesuffix(".")) from error
    except (OSError, MemoryError) as error:
        raise unreadable(path, error) or _not_hdf5(path, error, kind) from error
    except Exception as error:  # libhdf5's errors come as nearly every built-in type, by where it stumbled
        raise _not_hdf5(path, error, kind) from error


def _not_hdf5(path: Path, error: Exception, kind: type[CorruptFileError]) -> CorruptFileError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return kind(path, f"it cannot be read as HDF5 ({reason[:160]!r})")


def checked_attributes(file: Any, kinds: Mapping[str, str]) -> dict[str, Any]:
    """The attributes of the root, which are those of `kinds`, each one value of that dtype; none is read before that."""
    require_attributes(file, set(kinds))
    for name, kind in kinds.items():
        kept = file.attrs.get_id(name)
        is_scalar = kept.get_space().get_simple_extent_type() == h5py.h5s.SCALAR
        require(is_scalar, f"attribute {name} is no single value")
        require(kept.dtype.str == kind, f"attribute {name} is {kept.dtype.str}; it must be {kind}")
    return {name: file.attrs[name] for name in kinds}


def require_attributes(place: Any, names: set[str]) -> None:
    """Raise SchemaError unless `place`, the file, a group or a dataset, has exactly the attributes `names`."""
    count = h5py.h5a.get_num_attrs(place.id)
    if count == len(names) == 0:
        return
    found = set(place.attrs) if count <= len(names) + _NAMED_AT_MOST else {f"{count} things"}
    odd = sorted(found ^ names, key=str)
    require(not odd, f"the attributes of {place.name} lack, or have too many, {odd}")


def checked_datasets(file: Any, plan: Plan, before: list[str], after: list[str]) -> dict[str, Any]:
    """Every dataset by path, in file order; only hard links are followed, and nothing else may be there.

    `before` and `after` are the datasets of the root that stand before and after features, views and images.
    """
    tree: dict[str, list[str]] = {"features": [readout.name for readout in plan.readouts]}
    if plan.images != "none":
        tree["images"] = ["bytes", "offsets"]
    views = [] if plan.views is None else ["views"]
    found = _children(file, [*before, *views, *after], list(tree))
    for group, names in tree.items():
        found |= {f"{group}/{name}": child for name, child in _children(found[group], names, []).items()}
    features, images = ([f"{group}/{name}" for name in tree.get(group, [])] for group in ("features", "images"))
    return {name: found[name] for name in (*before, *features, *views, *images, *after)}


def own_dataset(group: Any, name: str) -> Any:
    """The contiguous dataset `name` of `group`, if it is there by a hard link; SchemaError otherwise."""
    return _child(group, name, h5py.Dataset)


def _children(group: Any, datasets: list[str], groups: list[str]) -> dict[str, Any]:
    """What `group` holds: these names and no other, as hard links, without attributes, the datasets contiguous."""
    wanted = {*datasets, *groups}
    found = set(group) if len(group) <= len(wanted) + _NAMED_AT_MOST else {f"{len(group)} things"}
    require(found == wanted, f"{group.name} holds {sorted(found, key=str)}, not {sorted(wanted)}")
    return {name: _child(group, name, h5py.Dataset if name in datasets else h5py.Group) for name in found}


def _child(group: Any, name: str, kind: Any) -> Any:
    links = group.id.links  # asked as links: `name in group` would follow one out of this file
    is_hard = links.exists(name.encode()) and links.get_info(name.encode()).type == h5py.h5l.TYPE_HARD
    child = group[name] if is_hard else None
    require(isinstance(child, kind), f"{name} in {group.name} is a link, or no {kind.__name__.lower()}")
    require_attributes(child, set())
    if kind is h5py.Dataset:  # before anything asks for its shape: for a virtual one that opens the files it names
        _require_contiguous(name, child)
    return child


def _require_contiguous(name: str, dataset: Any) -> None:
    properties = dataset.id.get_create_plist()
    is_plain = properties.get_layout() == h5py.h5d.CONTIGUOUS and properties.get_external_count() == 0
    require(is_plain, f"{name} is not stored contiguously inside this file")


def row_forms(plan: Plan, rows: int) -> dict[str, Form]:
    """What the datasets with one entry a row must be, by path in file order; `images/offsets` has one entry more."""
    views = {} if plan.views is None else {"views": ("<f4", (rows, plan.views.count, len(plan.views.parameters)))}
    return {
        "positions": ("<i8", (rows,)),
        "labels": ("<i8", (rows,)),
        "hashes": ("|u1", (rows, DIGEST_BYTES)),
        **{f"features/{item.name}": (_dtype(item.dtype), (rows, *plan.row_shape(item))) for item in plan.readouts},
        **views,
        "images/offsets": ("<i8", (rows + 1,)),
    }


def checked_extents(
    path: Path, datasets: Mapping[str, Any], wanted: Mapping[str, Form], stamp: Stamp
) -> dict[str, Extent]:
    """Where each dataset lies, after comparing dtype and shape, and its place with the file's size.

    A dataset that is not `wanted` is a row of bytes of any number.
    """
    extents = {}
    for name, dataset in datasets.items():
        dtype, shape = wanted.get(name) or ("|u1", dataset.shape if dataset.ndim == 1 else (-1,))
        require(
            dataset.dtype.str == dtype and dataset.shape == shape,
            f"{name} is {dataset.dtype.str} {dataset.shape}; the plan needs {dtype} {shape}",
        )
        is_usual = dataset.dtype.kind == "S" or dataset.id.get_type().equal(h5py.h5t.py_create(np.dtype(dtype)))
        require(is_usual, f"{name} has an unusual kind of {dtype}, which cannot be mapped")
        offset = _offset(name, dataset, size_bytes=stamp[0])
        extents[name] = Extent(path=path, offset=offset, dtype=np.dtype(dtype), shape=shape, stamp=stamp)
    _require_apart(extents)
    return extents


def require_offsets(offsets: npt.NDArray[np.int64], blob_bytes: int) -> None:
    """Raise SchemaError unless every image has a byte, and all together are the blob."""
    rises = offsets[0] == 0 and offsets[-1] == blob_bytes and bool((np.diff(offsets) > 0).all())
    require(bool(rises), f"images/offsets must rise from 0 to the {blob_bytes} bytes of images/bytes")


def _require_apart(extents: Mapping[str, Extent]) -> None:
    """Raise SchemaError where two datasets share bytes."""
    placed = sorted((extent.offset, extent.size_bytes, name) for name, extent in extents.items() if extent.size_bytes)
    for (offset, size_bytes, name), (following, _, other) in itertools.pairwise(placed):
        require(offset + size_bytes <= following, f"{name} and {other} overlap")


def _dtype(readout_dtype: str) -> str:
    return np.dtype(readout_dtype).newbyteorder("<").str


def _offset(name: str, dataset: Any, size_bytes: int) -> int:
    """The first byte of a dataset that lies inside the file, aligned; 0 where it is empty."""
    if dataset.size == 0:
        return 0
    offset = dataset.id.get_offset()
    require(offset is not None and offset + dataset.nbytes <= size_bytes, f"{name} reaches beyond the end of the file")
    require(offset % ALIGNMENT_BYTES == 0, f"{name} starts at byte {offset}, no multiple of {ALIGNMENT_BYTES}")
    return int(offset)
