"""Which rows each step of a run sees.

Legend: n rows of this run, B batch rows.
"""

import dataclasses
import functools

import torch
from torch import Tensor

from tcs.runtime import seed_for

DEFAULT_LABELLED_SHARE = 0.25


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
    return _order(total, seed, purpose, cycle)[index * count : (index + 1) * count].clone()


@functools.lru_cache(maxsize=4)  # labelled rows and the pool, at the end of a cycle and at the start of the next
def _order(total: int, seed: int, purpose: str, cycle: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed_for(seed, f"order {purpose}", cycle))
    return torch.randperm(total, generator=generator)


def batch_positions(plan: BatchPlan, labelled_m: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """(labelled positions, pool positions) of `step`, int64, as positions in TrainingRows."""
    labelled = draw(plan.labelled_rows, plan.labelled, plan.seed, "labelled", step)
    return labelled_m[labelled], draw(plan.pool_rows, plan.pool, plan.seed, "pool", step)
