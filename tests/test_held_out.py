"""Which rows are kept out of a run to watch it. Legend: rows of a store."""

import hashlib

import numpy as np
import pytest

from tcs.errors import ConfigError
from tcs.splits.held_out import HeldOut, held_out_rows


def keys_of(count: int) -> list[str]:
    return [f"class/{number}.png" for number in range(count)]


def rows(*parts: range) -> np.ndarray:
    return np.array([row for part in parts for row in part], np.int64)


def by_hash(keys: list[str], candidates: np.ndarray, wanted: int, seed: int) -> list[int]:
    """All candidates sorted by the documented hash, cut."""
    digests = {
        row: hashlib.blake2b(f"{seed}\0held out\0{keys[row]}".encode(), digest_size=16).hexdigest()
        for row in candidates.tolist()
    }
    return sorted(sorted(digests, key=digests.__getitem__)[:wanted])


NONE = rows()


def test_rows_outside_the_run_cost_nothing() -> None:
    keys, run, labelled = keys_of(3000), rows(range(100, 600)), rows(range(100, 120))
    held = held_out_rows(keys, run, labelled, None, 7)
    assert held.rows_N.tolist() == by_hash(keys, rows(range(100), range(600, 3000)), 1000, 7)
    assert len(held.dropped_d) == 0
    assert held.kept(run).tolist() == run.tolist()
    assert held.about == "1,000 rows outside the run are watched."
    fewer = held_out_rows(keys, run, labelled, 50, 7)
    assert set(fewer.rows_N.tolist()) < set(held.rows_N.tolist())
    assert held_out_rows(keys, run, labelled, None, 8).rows_N.tolist() != held.rows_N.tolist()


def test_all_rows_outside_are_taken_where_they_are_a_hundred_or_a_little_more() -> None:
    for outside in (100, 130):
        held = held_out_rows(keys_of(500 + outside), rows(range(500)), NONE, None, 0)
        assert held.rows_N.tolist() == list(range(500, 500 + outside))


@pytest.mark.parametrize("wanted", [None, 300])
def test_the_choice_does_not_depend_on_row_order(wanted: int | None) -> None:
    keys, run, labelled = keys_of(4000), rows(range(3950)), rows(range(60))
    order = np.random.default_rng(0).permutation(4000)
    place = np.argsort(order)
    here = held_out_rows(keys, run, labelled, wanted, 3)
    there = held_out_rows([keys[row] for row in order], np.sort(place[run]), place[labelled], wanted, 3)
    assert {keys[row] for row in here.rows_N} == {keys[order[row]] for row in there.rows_N}
    assert {keys[row] for row in here.dropped_d} == {keys[order[row]] for row in there.dropped_d}


def test_a_pool_gives_five_percent_where_too_few_rows_lie_outside() -> None:
    keys, run, labelled = keys_of(5000), rows(range(4960)), rows(range(100))
    held = held_out_rows(keys, run, labelled, None, 0)
    assert len(held.rows_N) == 4860 * 5 // 100
    assert held.dropped_d.tolist() == by_hash(keys, rows(range(100, 4960)), 243 - 40, 0)
    assert held.rows_N.tolist() == [*held.dropped_d.tolist(), *range(4960, 5000)]
    assert held.kept(run).tolist() == [row for row in range(4960) if row not in set(held.dropped_d.tolist())]
    assert held.about == (
        "243 rows are watched; 203 of them are kept out of training for it (--held-out 0 trains on all)."
    )


@pytest.mark.parametrize(
    ("pool", "outside", "labelled", "count"),
    [
        (1999, 0, 0, 0),
        (1999, 99, 500, 0),
        (2000, 0, 0, 100),
        (2000, 99, 0, 100),
        (2000, 99, 500, 100),
        (30000, 0, 10, 1000),
        (0, 0, 3000, 0),
        (0, 99, 3000, 0),
    ],
)
def test_unasked_a_hundred_rows_or_none_and_never_a_labelled_one(
    pool: int, outside: int, labelled: int, count: int
) -> None:
    keys, marked = keys_of(pool + labelled + outside), rows(range(labelled))
    held = held_out_rows(keys, rows(range(pool + labelled)), marked, None, 0)
    assert len(held.rows_N) == count
    assert len(held.dropped_d) == max(0, count - outside)
    assert not set(held.rows_N.tolist()) & set(marked.tolist())


def test_a_sentence_says_why_nothing_is_watched() -> None:
    held = held_out_rows(keys_of(1550), rows(range(1500)), rows(range(100)), None, 0)
    assert held.rows_N.dtype == held.dropped_d.dtype == np.int64
    assert held.about == (
        "nothing is watched: 50 rows lie outside the run, and 5% of its 1,400 unlabelled rows are fewer than 100; "
        "--held-out N keeps N rows out."
    )
    asked = held_out_rows(keys_of(9000), rows(range(100)), NONE, 0, 0)
    assert len(asked.rows_N) == 0
    assert asked.about == "nothing is watched, as --held-out 0 asks."


def asked(wanted: int, *, labelled: bool = False) -> HeldOut:
    """30 rows outside, 50 unlabelled and 40 labelled ones in the run."""
    return held_out_rows(keys_of(120), rows(range(90)), rows(range(40)), wanted, 0, may_take_labelled=labelled)


def test_a_number_takes_rows_outside_then_the_pool_then_labelled_ones_if_it_may() -> None:
    assert asked(20).dropped_d.tolist() == []
    assert asked(30).rows_N.tolist() == list(range(90, 120))
    more = asked(70)
    assert len(more.dropped_d) == 40
    assert set(more.dropped_d.tolist()) <= set(range(40, 90))
    assert set(asked(50).dropped_d.tolist()) < set(more.dropped_d.tolist())
    assert asked(70, labelled=True).dropped_d.tolist() == more.dropped_d.tolist()
    only_labelled = held_out_rows(keys_of(90), rows(range(90)), rows(range(90)), 40, 0, may_take_labelled=True)
    assert (
        only_labelled.rows_N.tolist()
        == only_labelled.dropped_d.tolist()
        == by_hash(keys_of(90), rows(range(90)), 40, 0)
    )


def test_too_many_and_too_few_are_refused() -> None:
    with pytest.raises(
        ConfigError,
        match=r"--held-out is 76; 30 rows lie outside the run and it can spare 45 .*half\): use 75 or fewer\.",
    ):
        asked(76)
    with pytest.raises(ConfigError, match=r"--held-out is 20; 0 rows lie outside .* spare 0 .*: use 0\."):
        held_out_rows(keys_of(90), rows(range(90)), rows(range(90)), 20, 0)
    for wanted in (19, 1, -5):
        with pytest.raises(ConfigError, match=rf"--held-out is {wanted}; it must be 20 or more .*, or 0 for none\."):
            asked(wanted)


def test_labelled_rows_are_rows_of_the_run_wherever_they_stand() -> None:
    held = held_out_rows(keys_of(150), rows(range(50)), rows(range(140, 150)), 90, 0)
    assert held.rows_N.tolist() == list(range(50, 140))


def test_a_key_that_is_not_utf8_is_a_key_like_others() -> None:
    keys = [*keys_of(120), "class/\udcff.png"]
    assert len(held_out_rows(keys, rows(range(10)), NONE, None, 0).rows_N) == 111
