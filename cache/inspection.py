"""Checks of a shard file found on disk: its layout, then its place in the plan, then, if asked, every byte.

Legend: N rows of the shard.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from cache.errors import CorruptShardError, CorruptStoreError
from cache.extents import (
    Extent,
    checked_attributes,
    checked_datasets,
    checked_extents,
    opened,
    require_offsets,
    row_forms,
)
from cache.fields import require, require_type, shortened
from cache.files import open_ordinary
from cache.fingerprint import new_digest
from cache.layout import Form, is_large
from cache.manifest import Quarantined, quarantine_from_json, read_manifest
from cache.schema import Plan, shard_name
from cache.shard import content_digest, key_bytes, quarantine_limit, require_covered

PIECE_BYTES = 4 << 20


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
    with opened(path, CorruptShardError) as (file, stamp):
        digest = _checked_place(file, plan, index)
        datasets = checked_datasets(file, plan, ["keys", "positions", "labels", "hashes"], ["quarantine"])
        inputs = len(plan.positions(index))
        rows = datasets["positions"].shape[0] if datasets["positions"].ndim == 1 else -1
        require(0 <= rows <= inputs, "positions has a shape that the plan rules out")
        extents = checked_extents(path, datasets, {**row_forms(plan, rows), "keys": _keys_form(datasets, rows)}, stamp)
        size = extents["quarantine"].shape[0]
        require(size <= quarantine_limit(inputs), f"quarantine is too long for {inputs} inputs")
        shard = Shard(
            positions_N=datasets["positions"][()],
            hashes_N16=datasets["hashes"][()],
            quarantine=_parsed_quarantine(datasets["quarantine"][()].tobytes()),
            content_digest=digest,
            extents=extents,
        )
        require_covered(plan, index, shard.positions_N, shard.quarantine)
        wanted = plan.positions(index)  # which all positions lie in
        labels_N = np.array(plan.labels[wanted.start : wanted.stop], np.int64)[shard.positions_N - wanted.start]
        require(np.array_equal(datasets["labels"][()], labels_N), "labels differ from the plan's")
        if "images/offsets" in datasets:
            require_offsets(datasets["images/offsets"][()], extents["images/bytes"].shape[0])
    return shard


def standing_quarantine(path: str | os.PathLike[str]) -> tuple[Quarantined, ...]:
    """The quarantined inputs of the shards that stand in the folder of a store, which may be open; damaged shards tell of none.

    Features are not read, and nothing is locked or written. Raises StoreNotFoundError and what else a manifest is refused for.
    """
    folder = Path(path)
    plan = read_manifest(folder).plan
    found: list[Quarantined] = []
    for index in range(plan.shard_count):
        with contextlib.suppress(CorruptStoreError, OSError):
            found += inspect_shard(folder / shard_name(index), plan, index).quarantine
    return tuple(found)


def verify_shard(path: Path, plan: Plan, index: int) -> Shard:
    """`inspect_shard`, then every byte: the keys against the plan, all datasets against the stored content digest."""
    shard = inspect_shard(path, plan, index)
    require_content(path, plan, index, shard)
    return shard


def require_content(path: Path, plan: Plan, index: int, shard: Shard) -> None:
    """Raise CorruptShardError unless keys and content digest of an inspected shard are what they should be."""
    datasets = {name: extent.map() for name, extent in shard.extents.items()}
    keys = key_bytes(list(map(plan.keys.__getitem__, shard.positions_N.tolist())))
    if datasets["keys"].dtype != keys.dtype or not np.array_equal(datasets["keys"], keys):
        raise CorruptShardError(path, "keys differ from the plan's")
    found = content_digest(plan, index, datasets)
    if found != shard.content_digest:
        raise CorruptShardError(
            path, f"its content has digest {found}, not the {shard.content_digest} it was written with"
        )


def digest_of_shard(path: Path, plan: Plan, shard: Shard) -> str:
    """The `digest` of a shard file: of its frame, that is all bytes but the values of large datasets; in version 1 of all bytes.

    The values are covered by the content digest, so nothing is hashed twice.
    """
    large = [extent for extent in shard.extents.values() if plan.has_framed_digests and is_large(extent.size_bytes)]
    digest = new_digest()
    with open_ordinary(path) as file:
        for extent in sorted(large, key=lambda extent: extent.offset):
            _add(digest, file, extent.offset - file.tell())
            file.seek(extent.offset + extent.size_bytes)
        _add(digest, file, path.stat().st_size - file.tell())
    return digest.hexdigest()


def _add(digest: Any, file: BinaryIO, count: int) -> None:
    """Feed the next `count` bytes of a file to a digest, a piece at a time."""
    while count > 0 and (piece := file.read(min(count, PIECE_BYTES))):
        digest.update(piece)
        count -= len(piece)


def _checked_place(file: Any, plan: Plan, index: int) -> str:
    """Compare the attributes with the plan; returns the content digest."""
    wanted = {"format_version": plan.format_version, "plan_identity": plan.plan_identity.encode(), "shard": index}
    kinds = {"format_version": "<i8", "plan_identity": "|S32", "shard": "<i8", "content_digest": "|S32"}
    found = checked_attributes(file, kinds)
    for name, value in wanted.items():
        is_right = bool(found[name] == value)
        require(is_right, f"attribute {name} is {shortened(found[name])}; the plan needs {value!r}")
    return str(found["content_digest"], "ascii")


def _keys_form(datasets: Mapping[str, Any], rows: int) -> Form:
    """Keys are bytes of any width."""
    dtype = datasets["keys"].dtype
    return (dtype.str if dtype.kind == "S" else "|S1", (rows,))


def _parsed_quarantine(data: bytes) -> tuple[Quarantined, ...]:
    value = json.loads(data)
    require_type(value, list, "quarantine")
    return quarantine_from_json(value)
