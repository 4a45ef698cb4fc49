"""Shards of a store that is still open: written or found on disk, by the process that holds the lock or by others beside it.

One process has the `StoreWriter`; it tells the others which shards are whose, and adopts what they report. Between them
there is the folder alone, perhaps on a file system that shows a new file to other machines only after some seconds.

Legend: N rows of the shard.
"""

import dataclasses
import os
import time
from collections.abc import Collection
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cache.errors import CorruptStoreError, IdentityError, IncompleteStoreError, SchemaError, StoreNotFoundError
from cache.files import atomic_write_pieces
from cache.fingerprint import digest_of_pieces
from cache.inspection import Shard, digest_of_shard, inspect_shard, verify_shard
from cache.manifest import MANIFEST_NAME, Manifest, Quarantined, ShardEntry, read_manifest
from cache.notes import write_note
from cache.schema import Plan, shard_name
from cache.shard import ShardRows, shard_pieces

# Network file systems keep file attributes for up to a minute (NFS: acregmax, acdirmax = 60 s).
VISIBLE_SECONDS = 60.0
LOOK_SECONDS = 0.25  # between two looks


@dataclasses.dataclass(frozen=True, kw_only=True)
class StandingShard:
    """What closing a store needs to know of a shard: positions_N int64, the rows' content hashes one after the other."""

    entry: ShardEntry
    positions_N: npt.NDArray[np.int64]
    hashes: bytes
    quarantine: tuple[Quarantined, ...]


def written_shard(folder: Path, plan: Plan, index: int, rows: ShardRows) -> StandingShard:
    """Write shard `index` into `folder` whole or not at all, its note first.

    Raises SchemaError for rows that do not fit the plan, FeatureValueError for a feature that is not finite or beyond
    float16, StoreWriteError when the system refuses the write.
    """
    pieces = shard_pieces(plan, index, rows)
    write_note(folder, plan, index, rows.note)
    atomic_write_pieces(folder / shard_name(index), pieces.every)
    size_bytes = sum(map(len, pieces.every))
    digest = digest_of_pieces(pieces.frame if plan.has_framed_digests else pieces.every)
    positions_N = np.asarray(rows.positions_N, dtype=np.int64)
    return StandingShard(
        entry=ShardEntry(file=shard_name(index), rows=len(positions_N), bytes=size_bytes, digest=digest),
        positions_N=positions_N,
        hashes=np.asarray(rows.hashes_N16).tobytes(),
        quarantine=tuple(sorted(rows.quarantine, key=lambda entry: entry.position)),
    )


def verified_shard(path: Path, plan: Plan, index: int) -> StandingShard:
    """What stands in a shard file, every byte checked; raises CorruptStoreError."""
    shard = verify_shard(path, plan, index)
    return standing_shard(shard, path.name, path.stat().st_size, digest_of_shard(path, plan, shard))


def standing_shard(shard: Shard, file: str, size_bytes: int, digest: str) -> StandingShard:
    """A checked shard file of that name, size and digest of all bytes, as `close` needs it."""
    return StandingShard(
        entry=ShardEntry(file=file, rows=len(shard.positions_N), bytes=size_bytes, digest=digest),
        positions_N=shard.positions_N,
        hashes=shard.hashes_N16.tobytes(),
        quarantine=shard.quarantine,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class WrittenShard:
    """The report on a shard written by another process: its size, the digest of its bytes, and its content digest."""

    index: int
    bytes: int
    digest: str
    content_digest: str


class PartWriter:
    """Writes the shards `share` of the store in `path`, whose `StoreWriter` another process holds; takes no lock.

    That process tells the `plan_identity` of its plan; `plan` is then the one on disk. A shard outside `share`, or a second
    time, is refused: so no shard is replaced that the holder of the lock found whole.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        plan_identity: str,
        *,
        share: Collection[int],
        wait_seconds: float = VISIBLE_SECONDS,
    ) -> None:
        """Wait until the open manifest of that plan is visible here.

        Raises after `wait_seconds` what is wrong still: StoreNotFoundError, IdentityError for another plan,
        IncompleteStoreError for a store that is not open for writing; and what reading a manifest raises.
        """
        self.path = Path(path)
        self.plan = _open_manifest(self.path, plan_identity, wait_seconds).plan
        self._share = set(share)

    def write_shard(self, index: int, rows: ShardRows) -> WrittenShard:
        """Write shard `index` whole or not at all; returns the report for `StoreWriter.adopt`.

        Raises SchemaError for a shard outside the share or rows that do not fit, FeatureValueError, StoreWriteError.
        """
        if index not in self._share:
            raise SchemaError(f"shard {index} is not among the {len(self._share)} left of this part; write only those.")
        entry = written_shard(self.path, self.plan, index, rows).entry
        shard = inspect_shard(self.path / entry.file, self.plan, index)
        self._share.remove(index)
        return WrittenShard(index=index, bytes=entry.bytes, digest=entry.digest, content_digest=shard.content_digest)


def adopted_shard(folder: Path, plan: Plan, written: WrittenShard, wait_seconds: float) -> StandingShard:
    """What stands of a reported shard: its size, structure, places and content digest are checked; features stay unread.

    Raises CorruptStoreError for a shard that is not visible after `wait_seconds`, or is not the one that was reported.
    """
    path = folder / shard_name(written.index)
    _await_size(path, written.bytes, wait_seconds)
    shard = inspect_shard(path, plan, written.index)
    if shard.content_digest != written.content_digest:
        raise CorruptStoreError(
            f"{path} has content {shard.content_digest}, not the {written.content_digest} that was reported: another "
            "process writes here; end it and run the same command again."
        )
    return standing_shard(shard, path.name, written.bytes, written.digest)


def _await_size(path: Path, size_bytes: int, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    while (found := _seen_size(path)) != size_bytes:
        if time.monotonic() >= deadline:
            what = "nothing" if found is None else f"{found} bytes"
            raise CorruptStoreError(
                f"{path}: another process wrote {size_bytes} bytes, and after {wait_seconds:g} s there is {what}; all "
                "must see the same folder, so use a shared file system and run the same command again."
            )
        time.sleep(LOOK_SECONDS)


def _seen_size(path: Path) -> int | None:
    """The size of the file as this machine sees it now; listing the folder makes NFS ask the server again."""
    try:
        if path.name not in os.listdir(path.parent):  # noqa: PTH208 (names are all that is needed)
            return None
        return path.lstat().st_size
    except OSError:
        return None


def _open_manifest(folder: Path, plan_identity: str, wait_seconds: float) -> Manifest:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            return _read_open(folder, plan_identity)
        except Exception:
            if time.monotonic() >= deadline:
                raise
        time.sleep(LOOK_SECONDS)


def _read_open(folder: Path, plan_identity: str) -> Manifest:
    """The manifest, if it is open and of that plan."""
    try:
        manifest = read_manifest(folder)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StoreNotFoundError(
            f"{folder / MANIFEST_NAME} cannot be read ({reason}), though another process writes the store; all must see "
            "the same folder, so use a shared file system."
        ) from error
    if manifest.plan.plan_identity != plan_identity:
        raise IdentityError(
            f"{folder} has the plan {manifest.plan.plan_identity}, and its writer said {plan_identity}; all must see the same "
            "folder, so use a shared file system, or name another --out."
        )
    if manifest.state != "open":
        raise IncompleteStoreError(f"{folder} is finished, so there is no part of it to write; open it to read.")
    return manifest


def require_own_shard(folder: Path, plan: Plan) -> None:
    """Raise IdentityError where there are shard files, but not one that fits `plan`: whose they are cannot be told."""
    reasons = []
    for index in range(plan.shard_count):
        shard = folder / shard_name(index)
        if not os.path.lexists(shard):
            continue
        try:
            inspect_shard(shard, plan, index)
        except CorruptStoreError as error:
            reasons.append(str(error).partition(";")[0])
            continue
        return
    if reasons:
        raise IdentityError(
            f"{folder} has lost its manifest, and none of its {len(reasons)} shards fits this command ({reasons[0]}); rerun "
            "the command that made it, use another --out, or --overwrite."
        )
