"""Pack a store folder into one file, and unpack it into such a folder again. Every byte is checked on the way.

Legend: N rows of the store, M shards of its plan.
"""

import dataclasses
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.errors import CorruptStoreError, ForeignFolderError, IdentityError, SchemaError
from cache.files import FolderLock, StreamedFile
from cache.inspection import Shard, verify_shard
from cache.layout import Skeleton, skeleton
from cache.manifest import Manifest, manifest_text, write_manifest
from cache.packed import Packed, inspect_packed, is_packed, packed_attributes, packed_forms, verify_packed_shard
from cache.reader import Store
from cache.reader import open as open_store
from cache.shard import ShardRows
from cache.writer import StoreWriter

PathLike = str | os.PathLike[str]
Progress = Callable[[int], None]


def pack(path: PathLike, out: PathLike, *, overwrite: bool = False, progress: Progress | None = None) -> Path:
    """Write the closed store in the folder `path` into the one file `out`, with the same identity; returns `out`.

    Memory does not grow with the store. `progress` is called with the number of rows written since the last call. A file
    that holds this very store already is left as it is. Raises what `cache.open` raises, SchemaError for a store that is
    packed, IdentityError for a packed store of another content (unless `overwrite`), ForeignFolderError for anything else
    at `out`, CorruptStoreError for a shard that fails its digest, LockedStoreError, StoreWriteError.
    """
    store, target = open_store(path), Path(out)
    if store.is_packed:
        raise SchemaError(f"{path} is packed already; copy the file.")
    text = manifest_text(store.manifest)
    if os.path.lexists(target) and _is_done(store, target, overwrite):
        return target
    forms = packed_forms(store.manifest.plan, len(store), len(text), store.size_bytes["images"])
    layout = skeleton(packed_attributes(store.manifest, text), forms)
    with StreamedFile(target, layout.size_bytes) as file:
        for offset, piece in layout.pieces.items():
            file.write(offset, piece)
        file.write(layout.offsets["manifest"], text)
        rows = _PackedRows(file, layout)
        for index in range(len(store.manifest.shards)):
            rows.append(_verified(store, index))
            (progress or _ignore)(store.manifest.shards[index].rows)
        file.commit()
    return target


def unpack(path: PathLike, out: PathLike, *, overwrite: bool = False, progress: Progress | None = None) -> Path:
    """Write the packed store `path` into the folder `out` as it was before it was packed; returns `out`.

    With the h5py release that wrote the shards they are equal byte for byte, with another one in all they hold. The same
    call resumes after a kill. Raises what `cache.open` and `StoreWriter` raise, and IdentityError where `out` is a store
    of another content.
    """
    if Path(path).is_dir():
        raise SchemaError(f"{path} is a folder, so there is nothing to unpack; use it as it is, or copy it.")
    packed, folder = inspect_packed(Path(path)), Path(out)
    plan = packed.manifest.plan
    with StoreWriter(folder, plan, provenance=packed.manifest.provenance, overwrite=overwrite) as writer:
        was_finished = writer.finished
        for index in writer.pending():
            writer.write_shard(index, _shard_rows(packed, index))
            (progress or _ignore)(packed.manifest.shards[index].rows)
        closed = writer.close()
    if open_store(folder).content_digests != packed.content_digests:
        raise IdentityError(f"{folder} holds other features than {path}; use another --out or --overwrite.")
    restored = dataclasses.replace(packed.manifest, shards=closed.shards)
    if restored != closed and (not was_finished or closed.gate is None):
        _restore_manifest(folder, restored)
    return folder


def _is_done(store: Store, target: Path, overwrite: bool) -> bool:
    """Whether `target` is `store` packed; raises where it is something else that must not be replaced."""
    if not is_packed(target):
        raise ForeignFolderError(f"{target} is there and no packed store; move it away, or name another --out.")
    if overwrite:
        return False
    there = open_store(target)
    if there.identity != store.identity or there.content_digests != store.content_digests:
        raise IdentityError(
            f"{target} holds the store of identity {there.identity} with other features or another plan, and {store.path} "
            f"has {store.identity}; use another --out or --overwrite."
        )
    if there.manifest != store.manifest:
        raise IdentityError(
            f"{target} was packed before the manifest of {store.path} changed (its gate, labels or provenance); use --overwrite."
        )
    return True


def _verified(store: Store, index: int) -> Shard:
    """Shard `index`, every byte checked, and the same as when the store was opened."""
    path = store.path / store.manifest.shards[index].file
    shard = verify_shard(path, store.manifest.plan, index)
    if shard.content_digest != store.content_digests[index]:
        raise CorruptStoreError(f"{path}: it was replaced while it was packed; run the same command again.")
    return shard


class _PackedRows:
    """Appends shard after shard to the datasets of a packed store."""

    def __init__(self, file: StreamedFile, layout: Skeleton) -> None:
        self._file = file
        self._ends = dict(layout.offsets)  # the next free byte of each dataset
        self._image_bytes = 0
        if "images/offsets" in self._ends:
            self._append("images/offsets", np.zeros(1, dtype="<i8"))

    def append(self, shard: Shard) -> None:
        """Write the rows of the next shard."""
        self._append("content_digests", np.frombuffer(bytes.fromhex(shard.content_digest), np.uint8))
        for name, extent in shard.extents.items():
            if name in self._ends and name != "images/offsets":
                self._append(name, extent.map())
        if "images/offsets" in self._ends:
            offsets = shard.extents["images/offsets"].map()[1:]
            self._append("images/offsets", (offsets + self._image_bytes).astype("<i8"))
            self._image_bytes += shard.extents["images/bytes"].shape[0]

    def _append(self, name: str, values: npt.NDArray[Any]) -> None:
        self._file.write(self._ends[name], values)
        self._ends[name] += values.nbytes


def _shard_rows(packed: Packed, index: int) -> ShardRows:
    """The checked rows of shard `index`."""
    plan = packed.manifest.plan
    found, positions = verify_packed_shard(packed, index), plan.positions(index)
    images = None
    if plan.images != "none":
        cuts, blob = found["images/offsets"].tolist(), found["images/bytes"]
        images = [blob[start:stop].tobytes() for start, stop in itertools.pairwise(cuts)]
    return ShardRows(
        positions_N=found["positions"],
        hashes_N16=found["hashes"],
        features={item.name: found[f"features/{item.name}"] for item in plan.readouts},
        images=images,
        quarantine=[entry for entry in packed.manifest.quarantine if entry.position in positions],
        views_NVP=found.get("views"),
    )


def _restore_manifest(folder: Path, manifest: Manifest) -> None:
    """Give an unpacked store the gate and the provenance it had."""
    lock = FolderLock(folder)
    try:
        write_manifest(folder, manifest)
    finally:
        lock.release()


def _ignore(_: int) -> None:
    """The progress of a call that asks for none."""
