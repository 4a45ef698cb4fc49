"""A store seen with other labels than it holds."""

from typing import Any

import numpy as np

import cache


class Relabelled:
    """Everything of `store` but its labels, (N,), -1 for none."""

    def __init__(self, store: cache.Store, labels_N: np.ndarray) -> None:
        self._store, self.labels_N = store, labels_N

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def scrambled(store: cache.Store, kept_rows: np.ndarray) -> Any:
    """The store with random labels, or none, on all rows but `kept_rows`."""
    labels_N = np.random.default_rng(0).integers(-1, len(store.classes), len(store))
    labels_N[kept_rows] = store.labels_N[kept_rows]
    assert (labels_N != store.labels_N).any()
    return Relabelled(store, labels_N)


def labelled_only_at(store: cache.Store, rows: np.ndarray) -> Any:
    """The store without the labels of all rows but `rows`."""
    return Relabelled(store, np.where(np.isin(np.arange(len(store)), rows), store.labels_N, -1))
