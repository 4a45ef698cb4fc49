"""Test images that a cell was trained or fitted on: exact copies by content hash, and near ones by the cosine of teacher features.

Legend: M scored test images, N rows of the training store, n images that a cell has seen, D teacher dims, B rows of a block.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

import cache
from tcs.coordinates.vectors import row_vectors
from tcs.metrics import are_known
from tcs.probes.ridge import unit_rows

BLOCK_ROWS = 2048  # on both sides: a block of cosines is 16 MiB

Bools = NDArray[np.bool_]
Hashes = NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Copies:
    """Which test images are copies of what a cell has seen: to the byte `exact_M`, or, of the others, `near_M`."""

    exact_M: Bools
    near_M: Bools

    @property
    def clean(self) -> Bools:
        """The images that are neither."""
        clean_M: Bools = ~(self.exact_M | self.near_M)
        return clean_M


class CopyFinder:
    """Finds copies of the rows `scored_M` of `test` among rows of `train`; `near` is a cosine from which images count as near copies,
    None looks for exact ones alone."""

    def __init__(self, train: cache.Store, test: cache.Store, scored_M: NDArray[np.int64], near: float | None) -> None:
        self._train, self._hashes_M16 = train, test.hashes_N16[scored_M]
        self._near_pairs = None if near is None else np.concatenate([*_near_pairs(train, test, scored_M, near)], axis=1)

    def among(self, known_n16: Hashes) -> Copies:
        """The copies of the images with these content hashes, (n, 16). Near ones are looked for in the training store only."""
        exact_M = are_known(self._hashes_M16, known_n16)
        near_M = np.zeros(len(exact_M), np.bool_)
        if self._near_pairs is not None:
            seen_N = are_known(self._train.hashes_N16, known_n16)
            image, row = self._near_pairs
            near_M[image[seen_N[row]]] = True
        return Copies(exact_M=exact_M, near_M=near_M & ~exact_M)


def _near_pairs(
    train: cache.Store, test: cache.Store, scored_M: NDArray[np.int64], near: float
) -> Iterator[NDArray[np.int64]]:
    """Blocks of pairs (2, ...) int64: a scored image and a row of `train` whose features have a cosine of `near` or more."""
    readout = next(iter(train.readouts))
    known, scored = row_vectors(train, readout), row_vectors(test, readout)
    yield np.empty((2, 0), np.int64)
    for first in range(0, len(train), BLOCK_ROWS):
        block_B = np.arange(first, min(first + BLOCK_ROWS, len(train)))
        known_BD = unit_rows(known[block_B].astype(np.float32))
        for start in range(0, len(scored_M), BLOCK_ROWS):
            scored_BD = unit_rows(scored[scored_M[start : start + BLOCK_ROWS]].astype(np.float32))
            images, rows = np.nonzero(scored_BD @ known_BD.T >= near)
            yield np.stack([images + start, rows + first])
