"""Every byte of a store checked: files against the manifest's digests, shards against the plan and their own digests.

Legend: N rows of a shard.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from cache.errors import CacheError, CorruptFileError, CorruptShardError, StoreNotFoundError, UnreadableFileError
from cache.files import unreadable
from cache.fingerprint import store_identity
from cache.inspection import Shard, digest_of_shard, inspect_shard, require_content
from cache.manifest import MANIFEST_NAME, SHARD_PATTERN, Manifest, ShardEntry, read_manifest
from cache.packed import Packed, inspect_packed, packed_shard
from cache.problems import Problem, Progress, Verification, content_problems
from cache.schema import Plan, shard_name
from cache.shard import content_digest


def verify(path: str | os.PathLike[str], progress: Progress | None = None) -> Verification:
    """Check every byte of the store in the folder `path`, open or closed, or packed into the file `path`; list all problems.

    `progress` is called with the number of bytes read since the last call. Writes nothing and takes no lock: a store that
    is being written meanwhile may seem to lack shards. Raises StoreNotFoundError where there is no store at all.
    """
    folder = Path(path)
    if folder.is_file():
        return _verify_packed(folder, progress or _ignore)
    present = _shard_names(folder)
    try:
        manifest = read_manifest(folder)
    except (OSError, CacheError) as error:
        return _without_manifest(folder, present, error)
    count = manifest.plan.shard_count
    planned = [shard_name(index) for index in range(count)]
    problems = [_extra(name, count) for name in present if name not in set(planned)]
    pending = [name for name in planned if name not in present] if manifest.state == "open" else []
    entries: dict[str, ShardEntry] = {entry.file: entry for entry in manifest.shards}
    checks = []
    for index, name in enumerate(planned):
        if name not in pending:
            check = _ShardCheck(folder / name, manifest.plan, index, entries.get(name))
            problems += [Problem(file=name, what=what) for what in check.problems(progress or _ignore)]
            checks.append(check)
    shards = [check.shard for check in checks if check.shard is not None]
    if manifest.state == "closed" and len(shards) == count:
        problems += [Problem(file=MANIFEST_NAME, what=what) for what in _manifest_problems(manifest, shards)]
    return Verification(
        path=folder,
        state=manifest.state,
        planned=count,
        shards=len(checks),
        rows=sum(len(shard.positions_N) for shard in shards),
        bytes=sum(check.bytes for check in checks),
        pending=tuple(pending),
        problems=tuple(problems),
    )


def _verify_packed(path: Path, progress: Progress) -> Verification:
    """The verification of a packed store: the rows of every shard against the content digest they had as a shard."""
    try:
        packed = inspect_packed(path)
    except (StoreNotFoundError, UnreadableFileError):
        raise
    except CacheError as error:
        what = error.reason if isinstance(error, CorruptFileError) else str(error).removeprefix(f"{path}: ")
        lost = Problem(file=path.name, what=what.removesuffix("."))
        return Verification(
            path=path,
            state="unreadable",
            planned=0,
            shards=0,
            rows=0,
            bytes=0,
            pending=(),
            problems=(lost,),
            is_packed=True,
        )
    problems = []
    for index, entry in enumerate(packed.manifest.shards):
        problems += [Problem(file=path.name, what=what) for what in _packed_problems(packed, index)]
        progress(entry.bytes)
    return Verification(
        path=path,
        state="closed",
        planned=len(packed.content_digests),
        shards=len(packed.content_digests),
        rows=packed.manifest.rows,
        bytes=path.stat().st_size,
        pending=(),
        problems=tuple(problems),
        is_packed=True,
    )


def _packed_problems(packed: Packed, index: int) -> Iterator[str]:
    """What is wrong with the rows of one shard of a packed store, in words."""
    plan, wanted = packed.manifest.plan, packed.content_digests[index]
    datasets = packed_shard(packed, index)
    found = content_digest(plan, index, datasets)
    if found != wanted:
        yield f"the rows of shard {index} have content digest {found}, not the {wanted} they were written with"
    for what in content_problems(plan, datasets):
        yield f"in shard {index} {what}"


def _ignore(_: int) -> None:
    """The progress of a call that asks for none."""


def _shard_names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if SHARD_PATTERN.fullmatch(path.name))
    except OSError as error:
        raise StoreNotFoundError(
            f"{folder} is no feature store: it cannot be listed ({error.strerror}); name a folder that tcs extract DATA "
            "--out STORE made."
        ) from error


def _without_manifest(folder: Path, present: list[str], error: Exception) -> Verification:
    """The result where no manifest says what should be there; StoreNotFoundError where nothing of a store is."""
    refused = unreadable(folder / MANIFEST_NAME, error) if isinstance(error, OSError) else None
    if refused is not None:
        raise refused from error
    is_missing = isinstance(error, FileNotFoundError)
    if is_missing and not present:
        raise StoreNotFoundError(
            f"{folder} is no feature store: it has neither {MANIFEST_NAME} nor shards; name a folder that tcs extract "
            "DATA --out STORE made."
        ) from error
    what = "it is missing" if is_missing else str(error).removeprefix(f"{folder / MANIFEST_NAME}").lstrip(": ")
    lost = Problem(file=MANIFEST_NAME, what=f"{what.removesuffix('.')} ({len(present)} shards are not checked)")
    return Verification(
        path=folder, state="unreadable", planned=0, shards=0, rows=0, bytes=0, pending=(), problems=(lost,)
    )


def _extra(name: str, count: int) -> Problem:
    return Problem(file=name, what=f"the plan has {count} shards, so this one belongs to no part of it; move it away")


def _manifest_problems(manifest: Manifest, shards: list[Shard]) -> Iterator[str]:
    """What the closed manifest says beside its shards: the quarantine, and the identity of all rows."""
    quarantine = tuple(entry for shard in shards for entry in shard.quarantine)
    if quarantine != manifest.quarantine:
        yield f"it lists {len(manifest.quarantine)} quarantined inputs, the shards {len(quarantine)}, or other ones"
    hashes = (shard.hashes_N16.tobytes() for shard in shards)
    found = store_identity(manifest.plan.plan_identity, hashes, (entry.position for entry in quarantine))
    if found != manifest.identity:
        yield f"its identity is {manifest.identity}, but its shards have {found}"


class _ShardCheck:
    """The check of one shard file; `shard` is what stands in it, where it is readable and of the plan."""

    def __init__(self, path: Path, plan: Plan, index: int, entry: ShardEntry | None) -> None:
        self.shard: Shard | None = None
        self.bytes = 0
        self._path, self._plan, self._index, self._entry = path, plan, index, entry

    def problems(self, progress: Progress) -> Iterator[str]:
        """Each thing that is wrong, in words."""
        try:
            status = self._path.lstat()
            if not stat.S_ISREG(status.st_mode):
                yield "it is a link, or no ordinary file"
                return
            self.bytes = status.st_size
            if self._entry is not None and self.bytes != self._entry.bytes:
                yield f"it has {self.bytes:,} bytes, the manifest gives {self._entry.bytes:,}"
            shard = inspect_shard(self._path, self._plan, self._index)
            yield from self._against_manifest(shard)
            require_content(self._path, self._plan, self._index, shard)
            self.shard = shard
            yield from self._against_itself(shard)
        except FileNotFoundError:
            yield "it is missing"
        except CorruptShardError as error:
            yield error.reason
        except UnreadableFileError:
            raise
        except (OSError, CacheError) as error:
            refused = unreadable(self._path, error) if isinstance(error, OSError) else None
            if refused is not None:
                raise refused from error
            yield f"it cannot be read ({error})"
        finally:
            progress(self.bytes)

    def _against_manifest(self, shard: Shard) -> Iterator[str]:
        """The digest of a file of the right size as the closed manifest lists it; an open one lists none."""
        if self._entry is None or self.bytes != self._entry.bytes:
            return
        found = digest_of_shard(self._path, self._plan, shard)
        if found != self._entry.digest:
            yield f"its bytes have digest {found}, the manifest gives {self._entry.digest}"

    def _against_itself(self, shard: Shard) -> Iterator[str]:
        """What the digests would cover up had it been written so: row counts, values, images that are not their hash."""
        rows = len(shard.positions_N)
        if self._entry is not None and rows != self._entry.rows:
            yield f"it has {rows} rows, the manifest gives {self._entry.rows}"
        datasets = {name: extent.map() for name, extent in shard.extents.items()}
        yield from content_problems(self._plan, datasets)
