"""What stands on disk of a store that is still open: one shard each, just written or found and checked.

Letters: N rows of the shard.
"""

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cache.files import atomic_write_pieces
from cache.fingerprint import digest_of_pieces
from cache.inspection import Shard, digest_of_shard, verify_shard
from cache.manifest import Quarantined, ShardEntry
from cache.schema import Plan, shard_name
from cache.shard import ShardRows, shard_pieces


@dataclasses.dataclass(frozen=True, kw_only=True)
class StandingShard:
    """What closing a store needs to know of a shard: positions_N int64, the rows' content hashes one after the other."""

    entry: ShardEntry
    positions_N: npt.NDArray[np.int64]
    hashes: bytes
    quarantine: tuple[Quarantined, ...]


def written_shard(folder: Path, plan: Plan, index: int, rows: ShardRows) -> StandingShard:
    """Write shard `index` into `folder` whole or not at all.

    Raises SchemaError for rows that do not fit the plan, FeatureValueError for a feature that is not finite or beyond
    float16, StoreWriteError when the system refuses the write.
    """
    pieces = shard_pieces(plan, index, rows)
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
