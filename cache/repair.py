"""What a repair changes in a store before its shards are written again: bad ones are discarded, the manifest reopened.

The order is such that a kill at any moment leaves a store which the same repair takes up again.
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from cache.comparison import require_same_plan
from cache.errors import IdentityError, SchemaError
from cache.files import FolderLock, remove_file
from cache.fingerprint import store_identity
from cache.inspection import inspect_shard
from cache.labels import LaterLabels
from cache.manifest import Manifest, read_closed_manifest, read_manifest, write_manifest
from cache.part import require_own_shard
from cache.schema import Plan, shard_name


def require_same_rows(path: str | os.PathLike[str], names: Collection[str], hash_of: Callable[[str], bytes]) -> None:
    """Raise IdentityError unless a closed store keeps its identity when the shards `names` are written again.

    `hash_of(key)` is the 16-byte content hash of an input as it is now; the other shards' rows have the stored ones, and
    inputs in quarantine stay there. What reading the manifest and the other shards raises passes through.
    """
    folder = Path(path)
    manifest = read_closed_manifest(folder)
    plan, lost = manifest.plan, {entry.position for entry in manifest.quarantine}

    def hashes() -> Iterator[bytes]:
        for index, entry in enumerate(manifest.shards):
            if entry.file in names:
                yield from (hash_of(plan.keys[position]) for position in plan.positions(index) if position not in lost)
            else:
                yield inspect_shard(folder / entry.file, plan, index).hashes_N16.tobytes()

    if store_identity(plan.plan_identity, hashes(), sorted(lost)) != manifest.identity:
        raise IdentityError(
            f"{folder}: the inputs of {', '.join(sorted(names)[:3])} are no longer those it was made from, so writing them "
            "again would make another store; nothing is changed; restore them, or extract to another --out."
        )


def discard_shards(path: str | os.PathLike[str], names: Collection[str], plan: Plan) -> None:
    """Delete the shard files `names` of a store of that `plan`, whose writer then finds them pending.

    Raises, before anything is deleted, IdentityError for another plan, SchemaError for a name that is none of the plan's
    shards or is a folder now, LockedStoreError, and what reading the manifest raises; StoreWriteError.
    """
    folder = Path(path)
    lock = FolderLock(folder)
    try:
        stored = read_manifest(folder).plan
        require_same_plan(folder, stored, plan)
        planned = {shard_name(index) for index in range(stored.shard_count)}
        for name in names:
            if name not in planned:
                raise SchemaError(f"{folder / name} is none of the plan's {len(planned)} shards; it is left alone.")
            if (folder / name).is_dir() and not (folder / name).is_symlink():
                raise SchemaError(f"{folder / name} is a folder; move it away and repair again.")
        for name in names:
            remove_file(folder / name)
    finally:
        lock.release()


def reopen_store(
    path: str | os.PathLike[str],
    plan: Plan,
    *,
    provenance: Mapping[str, Any],
    later_labels: LaterLabels | None = None,
) -> None:
    """Replace the manifest in the folder by an open one of `plan`, so that the next writer takes over all whole shards.

    For a manifest that is lost or damaged; `later_labels` are what could be read of labels given after the plan.
    Raises IdentityError where no shard in the folder is of that plan,
    LockedStoreError, StoreWriteError.
    """
    folder = Path(path)
    lock = FolderLock(folder)
    try:
        require_own_shard(folder, plan)
        write_manifest(folder, Manifest(plan=plan, state="open", provenance=provenance, later_labels=later_labels))
    finally:
        lock.release()
