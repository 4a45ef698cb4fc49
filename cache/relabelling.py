"""Labels of a store by now, and how a closed one is given others without writing a shard: one atomic rewrite of its manifest."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cache.errors import CorruptStoreError, FormatVersionError, SchemaError
from cache.files import FolderLock
from cache.folder import remove_partials
from cache.labels import LabelChanges, LaterLabels, with_names
from cache.manifest import read_closed_manifest, read_manifest, write_manifest


def set_labels(
    path: str | os.PathLike[str],
    names: Mapping[str, str | None],
    *,
    source: Mapping[str, Any],
    provenance: Mapping[str, Any] | None = None,
) -> LabelChanges:
    """Give the inputs (by key) of `names` these classes (None: none), in place of what they have or lack; returns what changed.

    The other inputs keep their labels. Identity, shards and features stay what they are, and all that was made of them stays
    valid; a gate that was recorded is taken away, as it read labels. `source` is recorded with the change; entries of
    `provenance` take the place of those of their names. The manifest is replaced as a whole, and where neither a label nor an entry
    changes nothing is written. Raises SchemaError for a key that the store lacks or a
    name that no class can have, StoreNotFoundError (for a packed store as well), IncompleteStoreError for an open store,
    LockedStoreError, StoreWriteError.
    """
    folder = Path(path)
    read_closed_manifest(folder)
    lock = FolderLock(folder)
    try:
        remove_partials(folder)
        manifest = read_closed_manifest(folder)
        classes, labels, changes = with_names(manifest.plan, manifest.labels, manifest.classes, names)
        told = {**manifest.provenance, **(provenance or {})}
        after = dataclasses.replace(manifest, provenance=told)
        if changes.added or changes.changed or changes.removed:
            earlier = () if manifest.later_labels is None else manifest.later_labels.history
            entry = {**source, "added": changes.added, "changed": changes.changed}
            entry |= {"removed": changes.removed} if changes.removed else {}
            later = LaterLabels(classes=classes, labels=labels, history=(*earlier, entry))
            after = dataclasses.replace(after, later_labels=later, gate=None)
        if after != manifest:
            write_manifest(folder, after)
    finally:
        lock.release()
    return changes


def stored_labels(path: str | os.PathLike[str]) -> tuple[tuple[int, ...], tuple[str, ...]] | None:
    """The labels of all inputs (-1: none) and the classes of the store in the folder `path`, as they are by now.

    None where no store is begun, or its manifest cannot be read.
    """
    try:
        manifest = read_manifest(Path(path))
    except (OSError, CorruptStoreError, SchemaError, FormatVersionError):
        return None
    return manifest.labels, manifest.classes
