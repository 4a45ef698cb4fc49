"""Open a closed store and read it. Nothing here writes, and no HDF5 handle stays open.

Legend: N rows of the store, in shard order, positions ascending; quarantined inputs have no row.
"""

import bisect
import copy
import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cache.errors import CorruptStoreError, SchemaError
from cache.features import FeatureArray, Features, Int64Array
from cache.fingerprint import store_identity
from cache.inspection import Shard, inspect_shard
from cache.manifest import Manifest, missing_shards, read_closed_manifest
from cache.packed import inspect_packed
from cache.schema import Readout
from cache.side_by_side import JoinedFeatures

RESIDENT_BYTES = 4 << 30
JOINED_BY = "+"  # the identity of a joined store names those of its parts


def open(path: str | os.PathLike[str]) -> "Store":
    """Open the store in the folder `path`, or packed into the file `path`, after checking its manifest and all metadata.

    Features and images are not read yet. Raises StoreNotFoundError, IncompleteStoreError (rerun the extraction),
    FormatVersionError, SchemaError, or CorruptStoreError naming the file and what is wrong with it; TypeError for what is no path.
    """
    if not isinstance(path, str | os.PathLike):
        its = ": its .path" if isinstance(path, Store) else ", as a text or any os.PathLike"
        raise TypeError(f"path is {path!r}; it must be a path{its}.")
    folder = Path(path)
    if folder.is_file():
        packed = inspect_packed(folder)
        return Store(folder, packed.manifest, [packed.rows], packed.content_digests)
    manifest = read_closed_manifest(folder)
    missing = missing_shards(folder, manifest)
    if missing:
        raise CorruptStoreError(
            f"{folder}: {len(missing)} of {len(manifest.shards)} shards are not there with the size the manifest gives "
            f"({', '.join(missing[:3])}); rerun the command that made it, it writes only those."
        )
    shards = [inspect_shard(folder / entry.file, manifest.plan, i) for i, entry in enumerate(manifest.shards)]
    _require_identity(folder, manifest, shards)
    return Store(folder, manifest, shards, tuple(shard.content_digest for shard in shards))


class Row(NamedTuple):
    """One row of a store: its key, the name of its class (None without a label), its features by readout."""

    key: str
    label: str | None
    features: dict[str, FeatureArray]


class Store:
    """A closed store: labels, keys and hashes of its N rows in memory, features and images on disk.

    path, manifest, identity (hex), content_digests (hex, one a shard of the plan), classes; positions_N int64 (input
    positions of the plan), labels_N int64 (-1 for none), hashes_N16 uint8 (N, 16), keys (N relative paths or names). It
    holds paths and numpy arrays only, so it pickles and forks.

    `parts` are the stores whose vectors stand side by side in a joined store (`cache.join`), none in any other.
    """

    parts: tuple["Store", ...] = ()

    def __init__(self, path: Path, manifest: Manifest, shards: list[Shard], content_digests: tuple[str, ...]) -> None:
        """Take over checked parts, of which a packed store has one; use `cache.open`."""
        self.path = path
        self.manifest = manifest
        self.content_digests = content_digests
        self.identity = str(manifest.identity)
        self.classes = manifest.classes
        self.readouts: dict[str, Readout] = {readout.name: readout for readout in manifest.plan.readouts}
        self.has_images = manifest.plan.images != "none"
        self.positions_N: npt.NDArray[np.int64] = np.concatenate([shard.positions_N for shard in shards])
        self.hashes_N16: npt.NDArray[np.uint8] = np.concatenate([shard.hashes_N16 for shard in shards])
        self.labels_N: npt.NDArray[np.int64] = np.array(manifest.labels, dtype=np.int64)[self.positions_N]
        self.keys: list[str] = list(map(manifest.plan.keys.__getitem__, self.positions_N.tolist()))
        self._extents = [shard.extents for shard in shards]
        self._starts: list[int] = np.cumsum([0, *(len(shard.positions_N) for shard in shards)]).tolist()
        self._order_N: Int64Array | None = None
        self._stored_names = {name: name for name in self.readouts}
        self._mapped_features: dict[str, Features | JoinedFeatures] = {}
        self._images: dict[int, tuple[npt.NDArray[Any], npt.NDArray[Any]]] = {}

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, row: int) -> Row:
        """One row, its features read from the disk; IndexError outside the store. For many, index `features(name)`."""
        self._require_row(row, -len(self))
        for name in self.readouts:
            if name not in self._mapped_features:
                self._mapped_features[name] = self.features(name, resident_bytes=0)
        label = int(self.labels_N[row])
        return Row(
            key=self.keys[row],
            label=self.classes[label] if label >= 0 else None,
            features={name: features[row] for name, features in self._mapped_features.items()},
        )

    def _require_row(self, row: int, least: int) -> None:
        """TypeError for what is no number of a row, IndexError for one outside the store."""
        if not isinstance(row, int | np.integer):
            raise TypeError(f"row {row!r} is no whole number; store.keys.index(KEY) gives the number of a key.")
        if not least <= row < len(self):
            raise IndexError(f"row {row} is outside the {len(self)} rows of {self.path}, counted from 0.")

    def __repr__(self) -> str:
        plan = self.manifest.plan
        readouts = ", ".join(f"{name} {plan.row_shape(item)} {item.dtype}" for name, item in self.readouts.items())
        return (
            f"<Store {self.path}: {len(self):,} rows, {len(self.classes)} classes, readouts {readouts}, "
            f"images {plan.images}, identity {self.identity}>"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_images": {}, "_mapped_features": {}}

    @property
    def is_packed(self) -> bool:
        """Whether the store is one file."""
        return "manifest" in self._extents[0]

    @property
    def size_bytes(self) -> dict[str, int]:
        """How many bytes the `features` and the `images` take."""
        sizes = {"features": 0, "images": 0}
        for name, extent in [item for extents in self._extents for item in extents.items()]:
            group = name.partition("/")[0]
            if group in sizes and name != "images/offsets":
                sizes[group] += math.prod(extent.shape) * extent.dtype.itemsize
        return sizes

    @property
    def labelled_identity(self) -> str:
        """What results that read labels record: `identity`, and with labels that came after the plan a digest of them behind it.

        Features, and all that is made of them alone, are told apart by `identity`, which no label changes afterwards.
        """
        later = self.manifest.later_labels
        return self.identity if later is None else f"{self.identity}+labels.{later.identity}"

    @property
    def is_labelled(self) -> bool:
        """Whether any row has a label."""
        return bool((self.labels_N >= 0).any())

    def features(
        self, name: str | None = None, resident_bytes: int = RESIDENT_BYTES, *, view: int | None = None
    ) -> Features | JoinedFeatures:
        """The features of the readout `name`; None means the only one there is. `view` takes one of V views, without its axis.

        Of a joined store the vectors of its parts side by side, float32, each part's of length 1. Up to `resident_bytes` they are
        held in memory from their first use, above that memory-mapped. Raises SchemaError for an unknown name, for None where there
        are several, or for a view that is not there.
        """
        known = ", ".join(self.readouts)
        if name is None and len(self.readouts) > 1:
            raise SchemaError(f"{self.path} has the readouts {known}; name one of them with --readout.")
        readout = self.readouts.get(name if name is not None else known)
        if readout is None:
            raise SchemaError(f"{self.path} has no readout {name!r}; it has {known}.")
        if self.parts and readout.grid is None:
            share = resident_bytes // len(self.parts)
            return JoinedFeatures([part._own_features(part.readouts[readout.name], share, view) for part in self.parts])
        return self._own_features(readout, resident_bytes, view)

    def _own_features(self, readout: Readout, resident_bytes: int, view: int | None) -> Features:
        """Those in this store's shards."""
        extents = [shard_extents[f"features/{self.stored_name(readout.name)}"] for shard_extents in self._extents]
        row_shape = self.manifest.plan.row_shape(readout)
        if view is not None:
            self._require_view(view)
            row_shape = row_shape[1:]
        return Features(readout.dtype, row_shape, extents, resident_bytes, view, self._order_N)

    def widths(self, name: str) -> tuple[int, ...]:
        """How many dims of the vectors `name` are of each part, in order; of a store that is not joined, all of them."""
        return tuple(part.readouts[name].dims for part in self.parts) or (self.readouts[name].dims,)

    def stored_name(self, name: str) -> str:
        """The readout that the shards hold for `name`: another one only in a part of a joined store."""
        return self._stored_names[name]

    def rearranged(self, order_N: Int64Array | None, names: Mapping[str, str]) -> "Store":
        """This store with its rows in the order of `order_N` (numbers of its rows, each once; None: as they are), and of its readouts
        those that `names` maps to, by their new names. Nothing is copied but keys, labels and hashes; the identity stays."""
        seen = copy.copy(self)
        seen.readouts = {new: dataclasses.replace(self.readouts[old], name=new) for new, old in names.items()}
        seen._stored_names = {new: self.stored_name(old) for new, old in names.items()}
        seen._mapped_features = {}
        if order_N is not None:
            seen._order_N = order_N if self._order_N is None else self._order_N[order_N]
            seen.positions_N, seen.labels_N = self.positions_N[order_N], self.labels_N[order_N]
            seen.hashes_N16, seen.keys = self.hashes_N16[order_N], [self.keys[row] for row in order_N.tolist()]
        return seen

    def only(self, rows_n: Int64Array) -> "Store":
        """This store with those of its rows alone, in the order given, each once; the identity stays. Nothing is copied but keys, labels
        and hashes."""
        seen = self.rearranged(rows_n, {name: name for name in self.readouts})
        seen.parts = tuple(part.only(rows_n) for part in self.parts)
        return seen

    def joined(self, parts: "tuple[Store, ...]", readouts: Mapping[str, Readout]) -> "Store":
        """This store with the vectors of `parts` (rows as here) side by side as its `readouts`; `cache.join` checks them first."""
        seen = copy.copy(self)
        seen.parts, seen.identity = parts, JOINED_BY.join(part.identity for part in parts)
        seen.readouts = dict(readouts)
        seen._mapped_features = {}
        return seen

    def _require_view(self, view: int) -> None:
        views = self.manifest.plan.views
        if views is None:
            raise SchemaError(f"{self.path} holds the clean view only; read it without naming a view.")
        if not 0 <= view < views.count:
            raise SchemaError(f"{self.path} has no view {view}; it has {views.count}, counted from 0.")

    def view_parameters(self, resident_bytes: int = RESIDENT_BYTES) -> Features:
        """What each view of each row shows, float32 (N, V, P), the P named by `manifest.plan.views.parameters`.

        Raises SchemaError for a store without views.
        """
        views = self.manifest.plan.views
        if views is None:
            raise SchemaError(f"{self.path} holds the clean view only; extract with --views V for augmented ones.")
        extents = [shard_extents["views"] for shard_extents in self._extents]
        shape = (views.count, len(views.parameters))
        return Features("float32", shape, extents, resident_bytes, order_N=self._order_N)

    def image_bytes(self, row: int) -> bytes:
        """The stored image of a row, as the file it came from or as resized (see the plan's `images`).

        Raises IndexError for a row outside the store, SchemaError for a store that keeps no images.
        """
        if not self.has_images:
            raise SchemaError(
                f"{self.path} keeps no images (images: none); extract with --images original, or use --data."
            )
        self._require_row(row, 0)
        row = row if self._order_N is None else int(self._order_N[row])
        shard = bisect.bisect_right(self._starts, row) - 1
        blob, offsets = self._mapped_images(shard)
        start, stop = offsets[row - self._starts[shard] :][:2].tolist()
        return bytes(blob[start:stop])

    def _mapped_images(self, shard: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """The blob and the offsets of one shard, mapped at its first use."""
        if shard not in self._images:
            extents = self._extents[shard]
            self._images[shard] = (extents["images/bytes"].map(), extents["images/offsets"].map().copy())
        return self._images[shard]


def _require_identity(folder: Path, manifest: Manifest, shards: list[Shard]) -> None:
    """Raise CorruptStoreError unless the rows in the shards are those that the manifest was closed with."""
    for entry, shard in zip(manifest.shards, shards, strict=True):
        if entry.rows != len(shard.positions_N):
            raise CorruptStoreError(
                f"{folder / entry.file}: it has {len(shard.positions_N)} rows, the manifest gives {entry.rows}; "
                "re-extract with --overwrite."
            )
    quarantined = [entry.position for shard in shards for entry in shard.quarantine]
    hashes = (shard.hashes_N16.tobytes() for shard in shards)
    found = store_identity(manifest.plan.plan_identity, hashes, quarantined)
    if found != manifest.identity:
        raise CorruptStoreError(
            f"{folder}: its shards have identity {found}, the manifest gives {manifest.identity}; "
            "re-extract with --overwrite."
        )
