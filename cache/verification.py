"""Every byte of a store checked: files against the manifest's digests, shards against the plan and their own digests.

Letters: N rows of a shard.
"""

import dataclasses
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cache.errors import CacheError, CorruptShardError, StoreNotFoundError
from cache.files import open_ordinary
from cache.fingerprint import content_hash, new_digest, store_identity
from cache.inspection import Shard, verify_shard
from cache.manifest import MANIFEST_NAME, SHARD_PATTERN, Manifest, ShardEntry, read_manifest
from cache.schema import Plan, shard_name

PIECE_BYTES = 16 << 20
Progress = Callable[[int], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong, and the name of the file in the store's folder that it is wrong with."""

    file: str
    what: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verification:
    """What a verification found. `state` is the manifest's, or unreadable.

    `planned` counts the plan's shards (0 where unreadable), `shards`, `rows` and `bytes` what was checked.

    `pending` are the shards that an open store still lacks: no problem, but no whole store either.
    """

    path: Path
    state: str
    planned: int
    shards: int
    rows: int
    bytes: int
    pending: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def is_sound(self) -> bool:
        """Whether the store is closed and nothing is wrong with it."""
        return self.state == "closed" and not self.problems

    @property
    def bad_shards(self) -> tuple[str, ...]:
        """The plan's shards that are missing or wrong, in order; writing those again mends the store."""
        planned = {shard_name(index) for index in range(self.planned)}
        return tuple(sorted({problem.file for problem in self.problems} & planned))

    @property
    def bad_manifest(self) -> bool:
        """Whether the manifest itself is missing, unreadable, or not what its shards say."""
        return any(problem.file == MANIFEST_NAME for problem in self.problems)

    def to_json(self) -> dict[str, Any]:
        """The result as JSON types."""
        return {
            "store": str(self.path),
            "sound": self.is_sound,
            "state": self.state,
            "planned": self.planned,
            "shards": self.shards,
            "rows": self.rows,
            "bytes": self.bytes,
            "pending": list(self.pending),
            "bad_shards": list(self.bad_shards),
            "problems": [dataclasses.asdict(problem) for problem in self.problems],
        }


def verify(path: str | os.PathLike[str], progress: Progress | None = None) -> Verification:
    """Check every byte of the store in the folder `path`, open or closed, and list all that is wrong with it.

    `progress` is called with the number of bytes read since the last call. Writes nothing and takes no lock: a store that
    is being written meanwhile may seem to lack shards. Raises StoreNotFoundError where there is no store at all.
    """
    folder = Path(path)
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
            yield from self._against_manifest(progress)
            self.shard = verify_shard(self._path, self._plan, self._index)
            yield from self._against_itself(self.shard)
        except FileNotFoundError:
            yield "it is missing"
        except CorruptShardError as error:
            yield error.reason
        except (OSError, CacheError) as error:
            yield f"it cannot be read ({error})"

    def _against_manifest(self, progress: Progress) -> Iterator[str]:
        """Size and digest of the file as the closed manifest lists them; an open one lists none."""
        found = _digest_of_file(self._path, progress)
        if self._entry is None:
            return
        if self.bytes != self._entry.bytes:
            yield f"it has {self.bytes:,} bytes, the manifest gives {self._entry.bytes:,}"
        elif found != self._entry.digest:
            yield f"its bytes have digest {found}, the manifest gives {self._entry.digest}"

    def _against_itself(self, shard: Shard) -> Iterator[str]:
        """What the digests would cover up had it been written so: row counts, values, images that are not their hash."""
        rows = len(shard.positions_N)
        if self._entry is not None and rows != self._entry.rows:
            yield f"it has {rows} rows, the manifest gives {self._entry.rows}"
        for readout in self._plan.readouts:
            bad = _not_finite(shard.extents[f"features/{readout.name}"].map())
            if bad:
                yield f"{bad} values of readout {readout.name} are not finite"
        if self._plan.images == "original":
            bad = _foreign_images(shard)
            if bad:
                yield f"{bad} of {rows} images are not the ones that were hashed"


def _digest_of_file(path: Path, progress: Progress) -> str:
    digest = new_digest()
    with open_ordinary(path) as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
            progress(len(piece))
    return digest.hexdigest()


def _not_finite(features: np.ndarray) -> int:
    """How many values are NaN or infinite, counted in pieces."""
    flat = features.reshape(-1)
    step = PIECE_BYTES // flat.itemsize
    return sum(int((~np.isfinite(flat[at : at + step])).sum()) for at in range(0, flat.size, step))


def _foreign_images(shard: Shard) -> int:
    """How many stored originals do not have the content hash of their row."""
    blob, offsets = shard.extents["images/bytes"].map(), shard.extents["images/offsets"].map()
    hashes_N16 = shard.hashes_N16
    return sum(
        content_hash(blob[offsets[row] : offsets[row + 1]].tobytes()) != hashes_N16[row].tobytes()
        for row in range(len(hashes_N16))
    )
