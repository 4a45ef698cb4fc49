"""The training rows of a run, decoded once and resident, and which of them each step sees.

Legend: N rows of the store, n rows of this run, B batch rows, K coordinates, H hash bits, P = H / 8 bytes, D teacher dims,
C classes.
"""

import concurrent.futures
import dataclasses
import hashlib
import os
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cache import Store
from tcs.errors import ConfigError, DataError
from tcs.images import BadImageError, decode_square
from tcs.runtime import progress_bar, seed_for

RESIDENT_BYTES = 8 << 30
DECODE_CHUNK = 256
DEFAULT_LABELLED_SHARE = 0.25


def decode_rows(store: Store, rows_n: NDArray[np.int64], size: int, resident_bytes: int = RESIDENT_BYTES) -> Tensor:
    """The images of `rows_n` as one uint8 tensor (n, 3, size, size), decoded in threads.

    DataError where they do not fit `resident_bytes` or are not stored.
    """
    if not store.has_images:
        raise DataError(f"store {store.path} holds no images (--images none); extract again with --images original.")
    needed = len(rows_n) * 3 * size * size
    if needed > resident_bytes:
        raise DataError(
            f"{len(rows_n):,} images at {size} px need {needed / 2**30:.1f} GiB decoded, more than {resident_bytes / 2**30:.0f} GiB; "
            "use a smaller --img-size or --unlabelled N."
        )
    images = np.empty((len(rows_n), size, size, 3), np.uint8)
    chunks = [range(start, min(start + DECODE_CHUNK, len(rows_n))) for start in range(0, len(rows_n), DECODE_CHUNK)]

    def decode_chunk(chunk: range) -> int:
        for at in chunk:
            images[at] = _decode(store, int(rows_n[at]), size)
        return len(chunk)

    with (
        concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool,
        progress_bar(len(rows_n), "decoding", "images") as bar,
    ):
        for done in pool.map(decode_chunk, chunks):
            bar.advance(done)
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def _decode(store: Store, row: int, size: int) -> NDArray[np.uint8]:
    try:
        return decode_square(store.image_bytes(row), size)
    except BadImageError as error:
        raise DataError(
            f"image '{store.keys[row]}' of {store.path} cannot be decoded: {error}; check the store."
        ) from error


def pool_rows(
    keys: Sequence[str], labelled_rows_n: NDArray[np.int64], unlabelled: str, split_seed: int
) -> NDArray[np.int64]:
    """Sorted rows whose pixels may be used without labels: the labelled rows and all, none or N of the others.

    The N are those with the smallest hash of (split seed, key), so the choice does not depend on row order or shard layout.
    """
    taken = set(labelled_rows_n.tolist())
    others = [row for row in range(len(keys)) if row not in taken]
    if unlabelled == "none":
        others = []
    elif unlabelled != "all":
        wanted = int(unlabelled)
        if wanted > len(others):
            raise ConfigError(
                f"--unlabelled is {wanted}; the store has {len(others)} rows besides the labelled ones. Use all."
            )
        others = sorted(others, key=lambda row: _rank(split_seed, keys[row]))[:wanted]
    return np.array(sorted(taken.union(others)), np.int64)


def _rank(split_seed: int, key: str) -> bytes:
    return hashlib.blake2b(f"{split_seed}\0pool\0{key}".encode(), digest_size=16).digest()


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingRows:
    """Everything a step may read, on one device, indexed by position in this run.

    images_n3HW uint8; labels_n int64 (-1 outside the split: other labels are never loaded); labelled_m the positions of
    the labelled rows. Where the losses read them: coordinates_nK float32, packed_nP uint8, teacher_nD float, teacher_maps
    each (n, height, width, channels) float, shallow to deep, teacher_logits_nC float32 (a probe of the frozen teacher).
    """

    images_n3HW: Tensor
    labels_n: Tensor
    labelled_m: Tensor
    coordinates_nK: Tensor | None = None
    packed_nP: Tensor | None = None
    teacher_nD: Tensor | None = None
    teacher_maps: tuple[Tensor, ...] = ()
    teacher_logits_nC: Tensor | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """How many labelled rows and pool rows a step draws, out of how many."""

    labelled: int
    pool: int
    labelled_rows: int
    pool_rows: int
    seed: int

    @property
    def rows(self) -> int:
        """Images per step."""
        return self.labelled + self.pool


def plan_batches(
    batch_size: int,
    labelled_share: float | None,
    *,
    labelled_rows: int,
    pool_rows: int,
    reads_labels: bool,
    mimics: bool,
    separate_views: bool,
    seed: int,
) -> BatchPlan:
    """Split the batch between labelled rows and pool rows (design section 7); a part never holds a row twice.

    Losses without labels draw everything from the pool; cross-entropy alone draws labelled rows only. `separate_views`
    keeps a pool part even where the pool is no larger than the split, because mimic rows are then shown un-augmented.
    """
    sizes = {"labelled_rows": labelled_rows, "pool_rows": pool_rows, "seed": seed}
    if not reads_labels:
        return BatchPlan(labelled=0, pool=min(batch_size, pool_rows), **sizes)
    if not mimics or (pool_rows == labelled_rows and not separate_views):
        return BatchPlan(labelled=min(batch_size, labelled_rows), pool=0, **sizes)
    wanted = max(1, round(batch_size * (DEFAULT_LABELLED_SHARE if labelled_share is None else labelled_share)))
    return BatchPlan(labelled=min(wanted, labelled_rows), pool=min(batch_size - wanted, pool_rows), **sizes)


def draw(total: int, count: int, seed: int, purpose: str, step: int) -> Tensor:
    """`count` distinct positions below `total` for `step`: cycles through a permutation that is redrawn every cycle.

    A pure function of (seed, purpose, step). What is left of a cycle after its last full batch is dropped.
    """
    if count == 0:
        return torch.empty(0, dtype=torch.int64)
    cycle, index = divmod(step, total // count)
    generator = torch.Generator().manual_seed(seed_for(seed, f"order {purpose}", cycle))
    return torch.randperm(total, generator=generator)[index * count : (index + 1) * count]


def batch_positions(plan: BatchPlan, labelled_m: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """(labelled positions, pool positions) of `step`, int64, as positions in TrainingRows."""
    labelled = draw(plan.labelled_rows, plan.labelled, plan.seed, "labelled", step)
    return labelled_m[labelled], draw(plan.pool_rows, plan.pool, plan.seed, "pool", step)
