"""Checks of a shard file found on disk. Nothing of it is believed: links, layouts, dtypes and shapes are compared first.

Letters: N rows of the shard, V views, P parameters of a view.
"""

import contextlib
import dataclasses
import json
import math
import mmap
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from cache.errors import CorruptStoreError, SchemaError
from cache.fields import require, require_type, shortened
from cache.fingerprint import DIGEST_BYTES
from cache.manifest import Quarantined, quarantine_from_json
from cache.schema import Plan
from cache.shard import content_digest, key_bytes, require_covered

# Before Python 3.13 every map keeps a file descriptor for itself, so a store of 1,000 shards meets the usual limit.
_NO_DESCRIPTOR: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Extent:
    """Where the values of one dataset lie in a shard file."""

    path: Path
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def map(self) -> npt.NDArray[Any]:
        """The values as a read-only memory map; an ordinary empty array where there are none.

        Raises CorruptStoreError where the file went away since it was checked, or too many files are open.
        """
        if 0 in self.shape:
            return np.empty(self.shape, self.dtype)
        try:
            with self.path.open("rb") as file:
                buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ, **_NO_DESCRIPTOR)
        except (OSError, ValueError) as error:
            raise CorruptStoreError(
                f"{self.path}: it cannot be mapped ({error}); if too many files are open raise ulimit -n, or extract with "
                "a larger --rows-per-shard."
            ) from error
        values = np.frombuffer(buffer, dtype=self.dtype, count=math.prod(self.shape), offset=self.offset)
        return values.reshape(self.shape)


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
    with _opened(path) as file:
        digest = _checked_attributes(file, plan, index)
        datasets = _checked_datasets(file, plan)
        extents = _checked_extents(path, plan, index, datasets)
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
    if not np.array_equal(datasets["keys"], keys):
        raise _corrupt(path, "keys differ from the plan's")
    found = content_digest(plan, index, datasets)
    if found != shard.content_digest:
        raise _corrupt(path, f"its content has digest {found}, not the {shard.content_digest} it was written with")
    return shard


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The shard as an h5py file, read-only and unlocked; whatever goes wrong inside becomes a CorruptStoreError."""
    try:
        require(stat.S_ISREG(path.lstat().st_mode), "it is a link, or no ordinary file")
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except SchemaError as error:
        raise _corrupt(path, str(error).removesuffix(".")) from error
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, RecursionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise _corrupt(path, f"it cannot be read as HDF5 ({reason})") from error


def _corrupt(path: Path, reason: str) -> CorruptStoreError:
    return CorruptStoreError(f"{path}: {reason}; delete this file and rerun the command that wrote the store.")


def _checked_attributes(file: Any, plan: Plan, index: int) -> str:
    """Compare the attributes with the plan; returns the content digest."""
    wanted = {"format_version": plan.format_version, "plan_identity": plan.plan_identity.encode(), "shard": index}
    found = dict(file.attrs)
    require(set(found) == {*wanted, "content_digest"}, f"its attributes are {sorted(found)}")
    for name, value in wanted.items():
        require(np.shape(found[name]) == (), f"attribute {name} is no single value")
        require(bool(found[name] == value), f"attribute {name} is {shortened(found[name])}; the plan needs {value!r}")
    require(isinstance(found["content_digest"], bytes), "attribute content_digest is no fixed-length string")
    return str(found["content_digest"], "ascii")


def _checked_datasets(file: Any, plan: Plan) -> dict[str, Any]:
    """Every dataset by path, in file order; only hard links are followed, and nothing else may be there."""
    readouts = [readout.name for readout in plan.readouts]
    tree: dict[str, list[str]] = {"features": readouts}
    if plan.images != "none":
        tree["images"] = ["bytes", "offsets"]
    views = [] if plan.views is None else ["views"]
    _require_children(file, ["keys", "positions", "labels", "hashes", *views, "quarantine"], list(tree))
    for group, names in tree.items():
        _require_children(file[group], names, [])
    features, images = ([f"{group}/{name}" for name in tree.get(group, [])] for group in ("features", "images"))
    order = ("keys", "positions", "labels", "hashes", *features, *views, *images, "quarantine")
    return {name: file[name] for name in order}


def _require_children(group: Any, datasets: list[str], groups: list[str]) -> None:
    found = set(group)
    require(found == {*datasets, *groups}, f"{group.name} holds {sorted(found)}, not {sorted([*datasets, *groups])}")
    for name in found:
        kind = h5py.Dataset if name in datasets else h5py.Group
        is_own = isinstance(group.get(name, getlink=True), h5py.HardLink) and isinstance(group[name], kind)
        require(is_own, f"{name} in {group.name} is a link, or no {kind.__name__.lower()}")


def _checked_extents(path: Path, plan: Plan, index: int, datasets: Mapping[str, Any]) -> dict[str, Extent]:
    """Where each dataset lies, after comparing dtype, shape and layout with the plan."""
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
    size_bytes = path.stat().st_size
    extents = {}
    for name, dataset in datasets.items():
        dtype, shape = wanted.get(name) or _free_form(name, dataset, rows)
        require(
            dataset.dtype.str == dtype and dataset.shape == shape,
            f"{name} is {dataset.dtype.str} {dataset.shape}; the plan needs {dtype} {shape}",
        )
        extents[name] = Extent(path=path, offset=_offset(name, dataset, size_bytes), dtype=np.dtype(dtype), shape=shape)
    return extents


def _dtype(readout_dtype: str) -> str:
    return np.dtype(readout_dtype).newbyteorder("<").str


def _free_form(name: str, dataset: Any, rows: int) -> tuple[str, tuple[int, ...]]:
    """What a dataset must be whose size is its own affair: keys of any width, bytes of any length."""
    if name == "keys":
        return (dataset.dtype.str if dataset.dtype.kind == "S" else "|S1", (rows,))
    return ("|u1", dataset.shape if dataset.ndim == 1 else (-1,))


def _offset(name: str, dataset: Any, size_bytes: int) -> int:
    """The first byte of a dataset that is contiguous and lies inside the file; 0 where it is empty."""
    properties = dataset.id.get_create_plist()
    is_plain = properties.get_layout() == h5py.h5d.CONTIGUOUS and properties.get_external_count() == 0
    require(is_plain, f"{name} is not stored contiguously inside this file")
    if dataset.size == 0:
        return 0
    offset = dataset.id.get_offset()
    require(offset is not None and offset + dataset.nbytes <= size_bytes, f"{name} reaches beyond the end of the file")
    return int(offset)


def _parsed_quarantine(data: bytes) -> tuple[Quarantined, ...]:
    value = json.loads(data)
    require_type(value, list, "quarantine")
    return quarantine_from_json(value)


def _require_offsets(offsets: npt.NDArray[np.int64], blob_bytes: int) -> None:
    rises = offsets[0] == 0 and offsets[-1] == blob_bytes and bool((np.diff(offsets) > 0).all())
    require(bool(rises), f"images/offsets must rise from 0 to the {blob_bytes} bytes of images/bytes")
