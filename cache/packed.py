"""A packed store: a whole closed store in one HDF5 file, each readout as one array. This module reads and checks it.

Legend: N rows of the store, M shards of its plan. The rows of shard i are the i-th range of every dataset.
"""

import dataclasses
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from cache.errors import CorruptPackedError, FormatVersionError, StoreNotFoundError
from cache.extents import (
    Stamp,
    checked_attributes,
    checked_datasets,
    checked_extents,
    opened,
    own_dataset,
    require_offsets,
    row_forms,
)
from cache.fields import require
from cache.fingerprint import DIGEST_BYTES, digest_of_bytes, store_identity
from cache.inspection import Shard
from cache.layout import Form
from cache.manifest import Manifest, parsed_manifest
from cache.schema import FORMAT, READABLE_MANIFESTS, Plan, readable_versions
from cache.shard import content_digest, key_bytes, quarantine_bytes

KIND = "packed"
KINDS = {"format": f"|S{len(FORMAT)}", "format_version": "<i8", "kind": f"|S{len(KIND)}", "manifest_digest": "|S32"}
BEFORE_ROWS = ["manifest", "content_digests", "positions", "labels", "hashes"]  # before features, views and images
_HEAD_BYTES = 4096
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Packed:
    """A checked packed store: its manifest, all rows as if they were one shard, the content digest of each shard."""

    path: Path
    manifest: Manifest
    rows: Shard
    content_digests: tuple[str, ...]
    starts: tuple[int, ...]


def packed_forms(plan: Plan, rows: int, manifest_bytes: int, image_bytes: int) -> dict[str, Form]:
    """The datasets of a packed store in file order: dtype and shape by path."""
    by_row = row_forms(plan, rows)
    offsets = by_row.pop("images/offsets")
    images = {} if plan.images == "none" else {"images/bytes": ("|u1", (image_bytes,)), "images/offsets": offsets}
    return {
        "manifest": ("|u1", (manifest_bytes,)),
        "content_digests": ("|u1", (plan.shard_count, DIGEST_BYTES)),
        **by_row,
        **images,
    }


def packed_attributes(manifest: Manifest, manifest_text: bytes) -> dict[str, Any]:
    """The attributes of the root."""
    return {
        "format": np.bytes_(FORMAT),
        "format_version": np.int64(manifest.format_version),
        "kind": np.bytes_(KIND),
        "manifest_digest": np.bytes_(digest_of_bytes(manifest_text)),
    }


def is_packed(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a file that says it is a packed store, of whatever version and however damaged below that."""
    if not Path(path).is_file():  # a pipe would be waited for
        return False
    try:
        with Path(path).open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    if not head.startswith(_SIGNATURE):
        return False
    try:
        with h5py.File(path, "r", locking=False) as found:
            wanted = {"format": np.bytes_(FORMAT), "kind": np.bytes_(KIND)}
            return all(
                name in found.attrs and found.attrs.get_id(name).dtype.str == KINDS[name] and found.attrs[name] == value
                for name, value in wanted.items()
            )
    except Exception:  # as in `opened`: libhdf5 cannot read it; a file that was cut short says at its head what it was
        return FORMAT.encode() in head


def inspect_packed(path: Path) -> Packed:
    """Check a packed store as `inspect_shard` checks a shard, and its rows against its manifest; features stay unread.

    Raises StoreNotFoundError for a file that is no packed store, FormatVersionError, SchemaError, CorruptStoreError.
    """
    if not is_packed(path):
        raise StoreNotFoundError(
            f"{path} is no feature store: it is a file, and not one that tcs cache pack wrote; name a store folder or "
            "a packed store."
        )
    real = Path(os.path.realpath(path))  # a link to a packed store is welcome, as download caches make them
    with opened(real, CorruptPackedError) as (file, stamp):
        text = _checked_manifest(file, real, stamp)
    manifest = parsed_manifest(text, real, CorruptPackedError.remedy)
    with opened(real, CorruptPackedError) as (file, stamp_now):
        require(stamp == stamp_now, "it was replaced while it was opened")
        require(manifest.state == "closed", "its manifest is of an open store")
        plan = manifest.plan
        datasets = checked_datasets(file, plan, BEFORE_ROWS, [])
        blob = datasets.get("images/bytes")
        forms = packed_forms(plan, manifest.rows, len(text), blob.size if blob is not None and blob.ndim == 1 else -1)
        extents = checked_extents(real, datasets, forms, stamp)
        rows = Shard(
            positions_N=datasets["positions"][()],
            hashes_N16=datasets["hashes"][()],
            quarantine=manifest.quarantine,
            content_digest="",
            extents=extents,
        )
        starts = _checked_rows(manifest, rows.positions_N, datasets["labels"][()])
        if blob is not None:
            require_offsets(datasets["images/offsets"][()], blob.size)
        _require_identity(manifest, rows)
        digests_M = datasets["content_digests"][()]
    content_digests = tuple(digest.tobytes().hex() for digest in digests_M)
    return Packed(path=real, manifest=manifest, rows=rows, content_digests=content_digests, starts=starts)


def packed_shard(packed: Packed, index: int) -> dict[str, npt.NDArray[Any]]:
    """The datasets of shard `index` by path, in file order, as its own file has them; features and images are mapped."""
    manifest, extents = packed.manifest, packed.rows.extents
    start, stop = packed.starts[index : index + 2]
    positions = set(manifest.plan.positions(index))
    ranges = {name: extents[name].map()[start:stop] for name in row_forms(manifest.plan, 0) if name in extents}
    if "images/offsets" in extents:
        offsets = extents["images/offsets"].map()[start : stop + 1]
        blob = extents["images/bytes"].map()[offsets[0] : offsets[-1]]
        del ranges["images/offsets"]
        ranges |= {"images/bytes": blob, "images/offsets": (offsets - offsets[0]).astype("<i8")}
    return {
        "keys": key_bytes([manifest.plan.keys[position] for position in ranges["positions"].tolist()]),
        **ranges,
        "quarantine": quarantine_bytes([entry for entry in manifest.quarantine if entry.position in positions]),
    }


def verify_packed_shard(packed: Packed, index: int) -> dict[str, npt.NDArray[Any]]:
    """`packed_shard`, every byte of it checked against the content digest that the shard had before it was packed.

    Raises CorruptStoreError.
    """
    datasets = packed_shard(packed, index)
    found = content_digest(packed.manifest.plan, index, datasets)
    wanted = packed.content_digests[index]
    if found != wanted:
        raise CorruptPackedError(packed.path, f"the rows of shard {index} have content digest {found}, not {wanted}")
    return datasets


def _checked_manifest(file: Any, path: Path, stamp: Stamp) -> bytes:
    """The text of the manifest, after a look at the attributes; the dataset, which lies in the file, bounds its size."""
    found = checked_attributes(file, KINDS)
    if found["format_version"] not in READABLE_MANIFESTS:
        raise FormatVersionError(
            f"{path}: format version {found['format_version']}; this release reads {readable_versions()}; upgrade or pack it anew."
        )
    dataset = own_dataset(file, "manifest")
    checked_extents(path, {"manifest": dataset}, {}, stamp)
    text = bytes(dataset[()].tobytes())
    digest, wanted = digest_of_bytes(text), str(found["manifest_digest"], "ascii")
    require(digest == wanted, f"its manifest has digest {digest}, not the {wanted} it was written with")
    return text


def _checked_rows(manifest: Manifest, positions_N: npt.NDArray[Any], labels_N: npt.NDArray[Any]) -> tuple[int, ...]:
    """Compare positions and labels with the plan; returns the first row of each shard, and after the last."""
    plan = manifest.plan
    quarantined = np.array([entry.position for entry in manifest.quarantine], dtype=np.int64)
    wanted_N = np.delete(np.arange(len(plan.keys)), quarantined)
    require(np.array_equal(positions_N, wanted_N), "positions are not those of the plan without the quarantine")
    require(np.array_equal(labels_N, np.array(plan.labels, dtype=np.int64)[wanted_N]), "labels differ from the plan's")
    cuts = np.arange(plan.shard_count + 1) * plan.rows_per_shard
    starts = tuple(np.searchsorted(wanted_N, cuts).tolist())
    rows = tuple(np.diff(starts).tolist())
    require(rows == tuple(entry.rows for entry in manifest.shards), "the rows of its shards are not the manifest's")
    return starts


def _require_identity(manifest: Manifest, rows: Shard) -> None:
    quarantined = [entry.position for entry in manifest.quarantine]
    found = store_identity(manifest.plan.plan_identity, [rows.hashes_N16.tobytes()], quarantined)
    require(found == manifest.identity, f"its rows have identity {found}, its manifest gives {manifest.identity}")
