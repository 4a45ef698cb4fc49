"""A readout of any shape as a matrix, read block by block: one vector a row, or every position of every view as a row.

Legend: N rows of the store (n chosen ones), V views, H W grid, D dims, K coordinates, M = N V H W vectors, B vectors asked for.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cache import Features, JoinedFeatures, Store
from tcs.errors import ArtefactError

Vectors = NDArray[np.floating[Any]]

# A block of maps is converted to float32 at once.
BLOCK_VALUES = 1 << 24
RESIDENT_BYTES = 4 << 30


def require_vectors(store: Store, readout: str) -> None:
    """ArtefactError where the readout is a map: targets hold one row of coordinates for each view of an image."""
    if store.readouts[readout].grid is not None:
        raise ArtefactError(
            f"readout {readout} of {store.path} is a map, and targets hold one vector an image; fit to a readout such as avg."
        )


def row_vectors(store: Store, readout: str, resident_bytes: int = RESIDENT_BYTES) -> "RowVectors":
    """One vector for each row of `store`: of its first view, averaged over the positions of a map."""
    view = None if store.manifest.plan.views is None else 0
    return RowVectors(store.features(readout, resident_bytes, view=view))


class RowVectors:
    """(N, D): one vector a row, the average over the positions of a map. Reads like `cache.Features`."""

    def __init__(self, features: Features | JoinedFeatures) -> None:
        """`features` of one view: (N, D) or (N, H, W, D)."""
        self._features = features
        self.shape = (len(features), features.shape[-1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: NDArray[np.int64]) -> Vectors:
        """Rows by number, (B, D): as stored, or the float32 mean of a map."""
        rows_B = np.asarray(index)
        if len(self._features.shape) == 2:
            return self._features[rows_B]
        size = max(1, BLOCK_VALUES // int(np.prod(self._features.shape[1:])))
        parts = [_average(self._features[rows_B[start : start + size]]) for start in range(0, len(rows_B), size)]
        return np.concatenate(parts) if parts else np.empty((0, self.shape[1]), np.float32)

    def blocks(self, rows: int = 8192) -> Iterator[tuple[int, Vectors]]:
        """All rows in order, `rows` at a time, each block with the number of its first row."""
        for start in range(0, len(self), rows):
            yield start, self[np.arange(start, min(start + rows, len(self)))]


class EveryVector:
    """(M, D): every position of every view of every row, in that order. Reads like `cache.Features`."""

    def __init__(self, features: Features | JoinedFeatures) -> None:
        """`features` of any shape (N, ..., D)."""
        self._features = features
        self._each = int(np.prod(features.shape[1:-1]))
        self.shape = (len(features) * self._each, features.shape[-1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: NDArray[np.int64]) -> Vectors:
        """Vectors by number, (B, D)."""
        rows_B, places_B = np.divmod(np.asarray(index), self._each)
        found = self._features[rows_B].reshape(len(rows_B), self._each, self.shape[1])
        vectors_BD: Vectors = found[np.arange(len(rows_B)), places_B]
        return vectors_BD

    def blocks(self, rows: int = 8192) -> Iterator[tuple[int, Vectors]]:
        """All vectors in order, about `rows` at a time (whole rows of the store), each block with its first number."""
        for start, block in self._features.blocks(max(1, rows // self._each)):
            yield start * self._each, block.reshape(-1, self.shape[1])


class ReadsRows(Protocol):
    """What rows can be read from by number."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D)."""

    def __getitem__(self, index: NDArray[np.int64], /) -> Vectors:
        """Rows by number, (B, D)."""


class ChosenVectors:
    """(n, D): the rows `rows_n` of a matrix, in that order. Reads like `cache.Features`."""

    def __init__(self, vectors: ReadsRows, rows_n: NDArray[np.int64]) -> None:
        """`rows_n` are row numbers of `vectors`."""
        self._vectors, self._rows_n = vectors, rows_n
        self.shape = (len(rows_n), vectors.shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: NDArray[np.int64]) -> Vectors:
        """Chosen rows by their place among them, (B, D)."""
        return self._vectors[self._rows_n[index]]

    def blocks(self, rows: int = 8192) -> Iterator[tuple[int, Vectors]]:
        """All chosen rows in order, `rows` at a time, each block with the place of its first row."""
        for start in range(0, len(self), rows):
            yield start, self._vectors[self._rows_n[start : start + rows]]


class WeighedVectors:
    """(N, D) float32: the rows of a matrix, each column times its weight. Reads like `cache.Features`."""

    def __init__(self, vectors: ReadsRows, weights_D: NDArray[np.float64]) -> None:
        """`weights_D` is as wide as `vectors`."""
        self._vectors, self._weights_D = vectors, weights_D.astype(np.float32)
        self.shape = vectors.shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: NDArray[np.int64]) -> Vectors:
        """Rows by number, (B, D)."""
        return np.asarray(self._vectors[index], np.float32) * self._weights_D

    def blocks(self, rows: int = 8192) -> Iterator[tuple[int, Vectors]]:
        """All rows in order, `rows` at a time, each block with the number of its first row."""
        for start in range(0, len(self), rows):
            yield start, self[np.arange(start, min(start + rows, len(self)))]


def mapped_rows(vectors: ChosenVectors, transform: Callable[[Vectors], Vectors], width: int) -> NDArray[np.float32]:
    """`transform` of every row, (n, K) float32 for K = `width`, block by block: the features are never held at once."""
    mapped_nK = np.empty((len(vectors), width), np.float32)
    for start, block_BD in vectors.blocks():
        mapped_nK[start : start + len(block_BD)] = transform(block_BD)
    return mapped_nK


def stored_rows(vectors: ChosenVectors) -> Vectors:
    """Every row (n, D) as it is stored, gathered block by block: half the memory of float32 where features are float16."""
    rows_nD = np.empty(vectors.shape, vectors[np.arange(0)].dtype)
    for start, block_BD in vectors.blocks():
        rows_nD[start : start + len(block_BD)] = block_BD
    return rows_nD


def _average(maps_BHWD: Vectors) -> Vectors:
    average_BD: Vectors = maps_BHWD.mean(axis=(1, 2), dtype=np.float32)
    return average_BD
