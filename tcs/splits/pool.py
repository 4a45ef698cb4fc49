"""The pool of a run: rows whose pixels may be used without labels. Legend: N rows of the store, n labelled rows, C classes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import cache
from tcs.config.unlabelled import Pool, parse_pool
from tcs.errors import ConfigError, DataError, did_you_mean
from tcs.splits.ranking import Ints, best_ranked, hash_rank

POOL_TAG = "pool"


def pool_of(
    store: cache.Store, labelled_rows_n: NDArray[np.int64], unlabelled: str, split_seed: int
) -> NDArray[np.int64]:
    """`pool_rows` of a store, for pools that read the true labels of the other rows, too: `longtail-F` and `without [a, b]`.

    ConfigError where a class is unknown or a long tail has too few rows, DataError where a row has no label.
    """
    pool = parse_pool(unlabelled)
    if not pool.reads_labels:
        return pool_rows(store.keys, labelled_rows_n, unlabelled, split_seed)
    taken = set(labelled_rows_n.tolist())
    others = [row for row in range(len(store)) if row not in taken]
    return np.array(sorted(taken.union(_by_labels(store, others, pool, unlabelled, split_seed))), np.int64)


def pool_rows(
    keys: Sequence[str], labelled_rows_n: NDArray[np.int64], unlabelled: str, split_seed: int
) -> NDArray[np.int64]:
    """Sorted rows whose pixels may be used without labels: the labelled rows and all, none or N of the others.

    The N are those with the smallest hash of (split seed, key), so the choice does not depend on row order or shard layout.
    """
    pool = parse_pool(unlabelled)
    assert not pool.reads_labels
    is_taken_N = np.zeros(len(keys), bool)
    is_taken_N[labelled_rows_n] = True
    others = np.flatnonzero(~is_taken_N)
    if pool.rows is not None:
        others = _numbered(keys, others, pool.rows, split_seed)
    is_taken_N[others] = True
    return np.flatnonzero(is_taken_N)


def _numbered(keys: Sequence[str], others: Ints, wanted: int, split_seed: int) -> Ints:
    if wanted > len(others):
        raise ConfigError(
            f"--unlabelled is {wanted}; the store has {len(others)} rows besides the labelled ones. Use all."
        )
    return best_ranked(others, keys, POOL_TAG, split_seed, wanted) if wanted else others[:0]


def _by_labels(store: cache.Store, others: list[int], pool: Pool, unlabelled: str, split_seed: int) -> list[int]:
    bare = sum(store.labels_N[row] < 0 for row in others)
    if bare:
        raise DataError(
            f"--unlabelled is {unlabelled}, which is made by true labels, and {bare:,} rows of {store.path} have none; use all, none or a "
            "number of rows."
        )
    for name in pool.without:
        if name not in store.classes:
            raise ConfigError(
                f"--unlabelled is {unlabelled}, and {store.path} has no class '{name}'.{did_you_mean(name, store.classes)}"
            )
    if pool.without:
        return [row for row in others if store.classes[store.labels_N[row]] not in pool.without]
    assert pool.longtail is not None
    return _long_tail(store, others, pool.longtail, split_seed)


def _long_tail(store: cache.Store, others: list[int], factor: float, split_seed: int) -> list[int]:
    """Class sizes m F^(-i / (C - 1)) for i = 0 to C - 1, of the largest m that all classes can give. Which class is how rare is drawn
    by the seed, so that over seeds no class is always the rare one."""
    names = sorted(store.classes, key=lambda name: hash_rank(split_seed, "long tail", name))
    drawn = best_ranked(np.array(others, np.int64), store.keys, POOL_TAG, split_seed).tolist()
    rows_of = {name: [row for row in drawn if store.classes[store.labels_N[row]] == name] for name in names}
    shares_C = factor ** (-np.arange(len(names)) / max(1, len(names) - 1))
    counts_C = np.array([len(rows_of[name]) for name in names])
    sizes_C = np.floor((counts_C / shares_C).min() * shares_C + 1e-9).astype(np.int64)
    if sizes_C.min() < 1:
        raise ConfigError(
            f"--unlabelled is longtail-{factor:g}, and the rarest class would have no row of the {len(others):,} besides the "
            "labelled ones; use a smaller factor."
        )
    return [row for name, size in zip(names, sizes_C.tolist(), strict=True) for row in rows_of[name][:size]]
