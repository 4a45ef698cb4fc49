"""Ranks of many rows at once, against the documented hash of one row after the other. Legend: N rows of a store."""

import hashlib
import heapq

import numpy as np
import pytest

from tcs.splits import ranking
from tcs.splits.held_out import held_out_rows
from tcs.splits.pool import pool_rows
from tcs.splits.ranking import best_ranked, hash_rank, hash_ranks
from tcs.splits.shots import k_shot_split, up_to_k_split


def plainly(seed: int, tag: str, key: str) -> bytes:
    text = f"{seed}\0{tag}\0{key}".encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=16).digest()


def keys_of(count: int) -> list[str]:
    """Of several lengths and scripts, one that no UTF-8 gave, one longer than a block of the hash, and an empty one."""
    return [f"a/{number}.png" for number in range(count - 4)] + ["猫/1", "broken\udcff", "x" * 300, ""]


@pytest.mark.parametrize("tag", ["held out", "", "a\udcfe", "t" * 200])
def test_ranks_are_the_hash_of_seed_tag_and_key(tag: str) -> None:
    keys = keys_of(20)
    assert hash_ranks(7, tag, keys) == b"".join(plainly(7, tag, key) for key in keys)
    assert hash_rank(-3, tag, keys[0]) == plainly(-3, tag, keys[0])


@pytest.mark.parametrize("wanted", [None, 0, 1, 2, 17, 59, 60, 100])
@pytest.mark.parametrize("seed", range(3))
def test_the_best_are_those_of_a_plain_sort(wanted: int | None, seed: int) -> None:
    keys = keys_of(80)
    rows_N = np.random.default_rng(seed).permutation(80)[:60]
    expected = sorted(rows_N.tolist(), key=lambda row: plainly(seed, "t", keys[row]))[:wanted]
    assert best_ranked(rows_N, keys, "t", seed, wanted).tolist() == expected
    assert best_ranked(rows_N[:0], keys, "t", seed, wanted).tolist() == []


def test_ranks_with_equal_first_halves_are_ordered_by_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    halves = {"a": (5, 9), "b": (2**64 - 1, 0), "c": (5, 2**63), "d": (5, 3), "e": (1, 8)}
    joined = b"".join(part.to_bytes(8, "big") for key in "abcde" for part in halves[key])
    monkeypatch.setattr(ranking, "hash_ranks", lambda *_: joined)
    order = [best_ranked(np.arange(5), list("abcde"), "t", 0, wanted).tolist() for wanted in (None, 2, 3)]
    assert order == [[4, 3, 0, 2, 1], [4, 3], [4, 3, 0]]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shots", [1, 3, 8])
def test_splits_are_those_of_a_loop_over_classes(shots: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    keys, classes = keys_of(300), [f"class {name}" for name in range(7)]
    labels_N = generator.integers(-1, 6, 300)  # the last class has no row
    expected: list[int] = []
    for label, name in enumerate(classes):
        rows = np.flatnonzero(labels_N == label).tolist()
        expected += sorted(rows, key=lambda row, name=name: (plainly(seed, name, keys[row]), keys[row]))[:shots]
    split = up_to_k_split(keys, labels_N, classes, shots, seed)
    assert split.rows_n.tolist() == expected
    lines = "".join(sorted(f"{classes[labels_N[row]]}\0{keys[row]}\n" for row in expected))
    assert split.digest == hashlib.blake2b(lines.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    assert k_shot_split(keys, labels_N, classes[:6], shots, seed).rows_n.tolist() == expected


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("wanted", [None, 20, 150, 260])
def test_held_out_rows_are_those_of_a_heap(wanted: int | None, seed: int) -> None:
    keys, generator = keys_of(700), np.random.default_rng(seed)
    run, labelled = np.sort(generator.permutation(700)[:550]), np.arange(0)
    outside = np.setdiff1d(np.arange(700), run).tolist()

    def best(count: int, rows: list[int]) -> list[int]:
        return heapq.nsmallest(count, rows, key=lambda row: (plainly(seed, "held out", keys[row]), keys[row]))

    asked = 150 if wanted is None else wanted
    dropped = best(asked - len(outside), run.tolist()) if asked > len(outside) else []
    held = held_out_rows(keys, run, labelled, wanted, seed)
    assert held.dropped_d.tolist() == sorted(dropped)
    assert held.rows_N.tolist() == sorted(best(asked, outside) + dropped)


@pytest.mark.parametrize(("unlabelled", "wanted"), [("none", 0), ("40", 40), ("all", 280)])
def test_pools_are_those_of_a_plain_sort(unlabelled: str, wanted: int) -> None:
    keys, labelled = keys_of(300), np.random.default_rng(1).permutation(300)[:20]
    others = sorted(set(range(300)) - set(labelled.tolist()), key=lambda row: plainly(5, "pool", keys[row]))
    found = pool_rows(keys, labelled, unlabelled, 5)
    assert found.dtype == np.int64
    assert found.tolist() == sorted([*labelled.tolist(), *others[:wanted]])
