"""Write a store shard by shard, in the background if asked: whatever kills the writer, the same call goes on where it stopped."""

import collections
import concurrent.futures
import dataclasses
import os
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from cache.comparison import require_same_plan
from cache.errors import CorruptStoreError, IncompleteStoreError, SchemaError
from cache.fields import json_object, shortened
from cache.files import FolderLock
from cache.fingerprint import store_identity
from cache.folder import prepare_folder, remove_partials, remove_shards, require_ours
from cache.manifest import (
    MANIFEST_NAME,
    Manifest,
    Quarantined,
    missing_shards,
    read_closed_manifest,
    read_manifest,
    write_manifest,
)
from cache.notes import read_notes, remove_notes
from cache.part import (
    VISIBLE_SECONDS,
    StandingShard,
    WrittenShard,
    adopted_shard,
    require_own_shard,
    verified_shard,
    written_shard,
)
from cache.schema import Plan, shard_name
from cache.shard import ShardRows

Result = TypeVar("Result")


class WriteBehind(Generic[Result]):
    """`write_shard` of a `StoreWriter` or `PartWriter`, in threads: digests and disk leave the interpreter free.

    At most `at_most` shards are being written, so that many are in memory beside the one being made. The end of the
    `with` block waits for all of them. The first error is raised by the next call, or there; after it nothing is begun.
    """

    def __init__(self, write_shard: Callable[[int, ShardRows], Result], *, at_most: int = 1) -> None:
        """Start nothing yet; threads come with the first shard."""
        self.results: list[Result] = []
        self._write_shard = write_shard
        self._at_most = at_most
        self._pool = concurrent.futures.ThreadPoolExecutor(at_most, thread_name_prefix="write-shard")
        self._running: collections.deque[concurrent.futures.Future[Result]] = collections.deque()

    def __enter__(self) -> "WriteBehind[Result]":
        return self

    def __call__(self, index: int, rows: ShardRows) -> None:
        """Begin to write a shard, when one of those before is done. Raises what writing an earlier one raised."""
        while len(self._running) >= self._at_most:
            self._take()
        self._running.append(self._pool.submit(self._write_shard, index, rows))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        """Wait for all shards; their reports stand in `results`, in the order of the calls."""
        try:
            while kind is None and self._running:
                self._take()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _take(self) -> None:
        self.results.append(self._running.popleft().result())


class StoreWriter:
    """A store being written, locked against a second writer until `close` or the end of the `with` block.

    The first call writes the plan; a later one with the same plan resumes: `pending()` lists the shards still to be
    written. `plan` is the one on disk (its batch_size wins), `finished` says that nothing is left to do, `damaged` names
    shard files that failed their digest and are pending again.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        plan: Plan,
        *,
        provenance: Mapping[str, Any],
        overwrite: bool = False,
    ) -> None:
        """Create the folder and its open manifest, or resume what stands there.

        Raises ForeignFolderError, LockedStoreError, IdentityError (naming what differs), FormatVersionError,
        SchemaError, CorruptStoreError (an unreadable manifest) or StoreWriteError. `overwrite` deletes an earlier
        store first, and refuses a folder that holds anything else.
        """
        self.path = Path(path)
        self.plan = plan
        self.finished = False
        self.damaged: tuple[str, ...] = ()
        self._provenance = json_object(provenance, "provenance")
        self._done: dict[int, StandingShard] = {}
        self._resumed = False
        prepare_folder(self.path)
        self._lock = FolderLock(self.path)
        try:
            require_ours(self.path)
            remove_partials(self.path)
            self._manifest = self._begin(overwrite)
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self._lock.release()

    def pending(self) -> list[int]:
        """The indexes of the shards that are still to be written, ascending."""
        if self.finished:
            return []
        return [index for index in range(self.plan.shard_count) if index not in self._done]

    @property
    def quarantine(self) -> tuple[Quarantined, ...]:
        """The quarantined inputs of the shards that stand, ascending; what `close` would put into the manifest."""
        if self.finished:
            return self._manifest.quarantine
        return tuple(entry for index in sorted(self._done) for entry in self._done[index].quarantine)

    def notes(self) -> dict[int, dict[str, Any]]:
        """By index what was noted of the shards that stand (`ShardRows.note`), whichever process wrote them.

        A store that is closed has no notes, and shards of earlier releases have none.
        """
        return {} if self.finished else read_notes(self.path, self.plan, sorted(self._done))

    def retry_quarantined(self) -> list[int]:
        """Make the shards that hold quarantined inputs pending again; returns their indexes. Their files stay until then."""
        indexes = [index for index, shard in sorted(self._done.items()) if shard.quarantine]
        for index in indexes:
            del self._done[index]
        return indexes

    def write_shard(self, index: int, rows: ShardRows) -> None:
        """Write shard `index` whole or not at all.

        Raises SchemaError for rows that do not fit the plan, FeatureValueError for a feature that is not finite or
        beyond float16, StoreWriteError when the system refuses the write; the shard is pending still, then.
        """
        self._require_pending(index)
        self._done[index] = written_shard(self.path, self.plan, index, rows)

    def adopt(self, written: WrittenShard, *, wait_seconds: float = VISIBLE_SECONDS) -> None:
        """Take over a pending shard that a `PartWriter` of another process has written and reported.

        Waits up to `wait_seconds` for the file to be visible. Raises SchemaError for a shard that is not pending,
        CorruptStoreError for one that is missing, of another size, or not what was reported; it is pending still, then.
        """
        self._require_pending(written.index)
        self._done[written.index] = adopted_shard(self.path, self.plan, written, wait_seconds)

    def close(self, *, provenance: Mapping[str, Any] | None = None) -> Manifest:
        """Check that every input has a row or stands in quarantine, write the closed manifest, release the lock.

        A finished store is left as it is. Raises IncompleteStoreError while shards are pending.
        """
        if not self.finished:
            self._require_complete()
            added = json_object(provenance or {}, "provenance")
            self._manifest = self._closed_manifest({**self._manifest.provenance, **self._provenance_of_run(), **added})
            write_manifest(self.path, self._manifest)
            self.finished = True
            remove_notes(self.path)
        self._lock.release()
        return self._manifest

    def _begin(self, overwrite: bool) -> Manifest:
        """The manifest on disk, or a new one; the shards that stand are verified."""
        if overwrite:
            remove_shards(self.path)
        if overwrite or not (self.path / MANIFEST_NAME).exists():
            require_own_shard(self.path, self.plan)
            manifest = Manifest(plan=self.plan, state="open", provenance=self._provenance)
            write_manifest(self.path, manifest)
            self._verify_shards()  # finds some only where the manifest was lost
            return manifest
        manifest = read_manifest(self.path)
        require_same_plan(self.path, manifest.plan, self.plan)
        self.plan = manifest.plan
        self._resumed = True
        if manifest.state == "closed" and not missing_shards(self.path, manifest):
            self.finished = True
            remove_notes(self.path)  # which a killed `close` may have left
            return manifest
        if manifest.state == "closed":  # a shard was deleted since: the store is open again until it is back
            kept = manifest.later_labels
            manifest = Manifest(plan=self.plan, state="open", provenance=manifest.provenance, later_labels=kept)
            write_manifest(self.path, manifest)
        self._verify_shards()
        return manifest

    def _verify_shards(self) -> None:
        """Take over the shards on disk that are whole and of this plan; the others are pending."""
        damaged = []
        for index in range(self.plan.shard_count):
            path = self.path / shard_name(index)
            if not os.path.lexists(path):
                continue
            try:
                self._done[index] = verified_shard(path, self.plan, index)
            except CorruptStoreError:
                damaged.append(path.name)
        self.damaged = tuple(damaged)

    def _require_pending(self, index: int) -> None:
        if self.finished or index in self._done:
            raise SchemaError(f"shard {index} is not pending; write the shards that pending() lists.")

    def _require_complete(self) -> None:
        """Raise IncompleteStoreError for pending shards; then each position stands exactly once, by `write_shard`."""
        pending = self.pending()
        if pending:
            raise IncompleteStoreError(
                f"{self.path} cannot be closed: {len(pending)} of {self.plan.shard_count} shards are not written "
                f"({shortened(pending)}); write them, or rerun the same command."
            )

    def _closed_manifest(self, provenance: Mapping[str, Any]) -> Manifest:
        done = [self._done[index] for index in range(self.plan.shard_count)]
        quarantine = tuple(entry for shard in done for entry in shard.quarantine)
        quarantined = [entry.position for entry in quarantine]
        covered = np.concatenate([*(shard.positions_N for shard in done), np.array(quarantined, dtype=np.int64)])
        assert np.array_equal(np.sort(covered), np.arange(len(self.plan.keys))), "each position exactly once"
        return Manifest(
            plan=self.plan,
            state="closed",
            identity=store_identity(self.plan.plan_identity, (shard.hashes for shard in done), quarantined),
            shards=tuple(shard.entry for shard in done),
            quarantine=quarantine,
            provenance=provenance,
            later_labels=self._manifest.later_labels,
        )

    def _provenance_of_run(self) -> dict[str, Any]:
        """What a resumed run adds to the provenance of the run that wrote the plan."""
        if not self._resumed:
            return {}
        return {"resumed_by": self._provenance, "damaged_shards": list(self.damaged)}


def set_gate(path: str | os.PathLike[str], gate: Mapping[str, Any]) -> Manifest:
    """Record the result of the quick gate in the manifest of a closed store; returns the new manifest.

    Raises StoreNotFoundError, IncompleteStoreError for an open store, LockedStoreError, SchemaError, StoreWriteError.
    """
    folder = Path(path)
    read_closed_manifest(folder)
    lock = FolderLock(folder)
    try:
        remove_partials(folder)
        manifest = dataclasses.replace(read_closed_manifest(folder), gate=gate)
        write_manifest(folder, manifest)
    finally:
        lock.release()
    return manifest
