"""The report of a verification, and checks of rows that were written wrong, whose digests therefore fit.

Legend: N rows.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.fingerprint import content_hash
from cache.manifest import MANIFEST_NAME
from cache.schema import Plan, shard_name

PIECE_BYTES = 4 << 20
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
    is_packed: bool = False

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


def content_problems(plan: Plan, datasets: Mapping[str, npt.NDArray[Any]]) -> Iterator[str]:
    """Values that are not finite, and stored originals that are not the ones that were hashed, in words."""
    for readout in plan.readouts:
        bad = _not_finite(datasets[f"features/{readout.name}"])
        if bad:
            yield f"{bad} values of readout {readout.name} are not finite"
    if plan.images == "original":
        bad = _foreign_images(datasets)
        if bad:
            yield f"{bad} of {len(datasets['hashes'])} images are not the ones that were hashed"


def _not_finite(features: npt.NDArray[Any]) -> int:
    """How many values are NaN or infinite, counted in pieces."""
    flat = features.reshape(-1)
    step = PIECE_BYTES // flat.itemsize
    return sum(int((~np.isfinite(flat[at : at + step])).sum()) for at in range(0, flat.size, step))


def _foreign_images(datasets: Mapping[str, npt.NDArray[Any]]) -> int:
    """How many stored originals do not have the content hash of their row."""
    blob, offsets, hashes_N16 = datasets["images/bytes"], datasets["images/offsets"], datasets["hashes"]
    return sum(
        content_hash(blob[offsets[row] : offsets[row + 1]].tobytes()) != hashes_N16[row].tobytes()
        for row in range(len(hashes_N16))
    )
