"""Which rows a step sees. Legend: n rows of a run."""

import numpy as np
import pytest
import torch

from tcs.errors import ConfigError
from tcs.splits.pool import pool_rows
from tcs.training.batches import BatchPlan, batch_positions, draw, plan_batches

KEYS = [f"class/{number}.png" for number in range(20)]


def plan(
    batch: int,
    share: float | None,
    labelled: int,
    pool: int,
    *,
    ce: bool = True,
    mimics: bool = True,
    clean: bool = False,
) -> BatchPlan:
    return plan_batches(
        batch,
        share,
        labelled_rows=labelled,
        pool_rows=pool,
        reads_labels=ce,
        mimics=mimics,
        separate_views=clean,
        seed=0,
    )


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (plan(128, None, 160, 10160), (32, 96)),
        (plan(128, 0.5, 160, 10160), (64, 64)),
        (plan(128, None, 10, 10160), (10, 96)),
        (plan(128, None, 160, 160), (128, 0)),
        (plan(128, None, 40, 40), (40, 0)),
        (plan(128, None, 160, 10160, mimics=False), (128, 0)),
        (plan(128, None, 160, 10160, ce=False), (0, 128)),
        (plan(128, None, 40, 40, ce=False), (0, 40)),
        (plan(128, None, 160, 160, clean=True), (32, 96)),
    ],
)
def test_batches_are_split_between_labelled_and_pool_rows(made: BatchPlan, expected: tuple[int, int]) -> None:
    assert (made.labelled, made.pool) == expected


def test_a_cycle_shows_every_row_once_and_no_batch_holds_a_row_twice() -> None:
    batches = [draw(12, 4, 0, "pool", step) for step in range(6)]
    for cycle in (batches[:3], batches[3:]):
        assert sorted(torch.cat(cycle).tolist()) == list(range(12))
    assert not torch.equal(torch.cat(batches[:3]), torch.cat(batches[3:]))


def test_a_draw_depends_on_seed_purpose_and_step_alone() -> None:
    assert torch.equal(draw(50, 7, 3, "pool", 11), draw(50, 7, 3, "pool", 11))
    assert not torch.equal(draw(50, 7, 3, "pool", 11), draw(50, 7, 3, "labelled", 11))
    assert not torch.equal(draw(50, 7, 3, "pool", 11), draw(50, 7, 4, "pool", 11))
    assert all(len(set(draw(50, 7, 3, "pool", step).tolist())) == 7 for step in range(30))


def test_positions_of_labelled_rows_are_positions_in_the_run() -> None:
    labelled_m = torch.tensor([5, 9, 17])
    labelled, pool = batch_positions(plan(4, 0.5, 3, 20), labelled_m, 0)
    assert set(labelled.tolist()) <= {5, 9, 17}
    assert len(labelled) == 2
    assert len(pool) == 2


def test_the_pool_holds_the_labelled_rows_and_all_none_or_n_others() -> None:
    labelled = np.array([3, 7])
    assert pool_rows(KEYS, labelled, "none", 0).tolist() == [3, 7]
    assert pool_rows(KEYS, labelled, "all", 0).tolist() == list(range(20))
    chosen = pool_rows(KEYS, labelled, "5", 0)
    assert len(chosen) == 7
    assert {3, 7} <= set(chosen.tolist())
    assert chosen.tolist() == sorted(chosen.tolist())


def test_the_pool_does_not_depend_on_row_order() -> None:
    order = np.random.default_rng(0).permutation(20)
    shuffled = [KEYS[row] for row in order]
    labelled = np.flatnonzero(np.isin(order, [3, 7]))
    there = {shuffled[row] for row in pool_rows(shuffled, labelled, "6", 1)}
    assert there == {KEYS[row] for row in pool_rows(KEYS, np.array([3, 7]), "6", 1)}
    assert there != {KEYS[row] for row in pool_rows(KEYS, np.array([3, 7]), "6", 2)}


def test_a_pool_larger_than_the_store_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"--unlabelled is 19; the store has 18 rows besides the labelled ones\. Use all\."
    ):
        pool_rows(KEYS, np.array([3, 7]), "19", 0)
