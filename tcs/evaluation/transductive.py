"""The head `transductive` of `tcs probe`: the labels of a split, spread over all rows of the training store.

Its pool is the training store's: the rows of the split and every other row, whose label is not read. An image that scores is in no
pool: where the training store holds it as well, its row is left out, unless the split names it.

Legend: N rows of the pool (of the store, where it is told which score), M labelled rows, D features, K coordinates.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcs.coordinates.vectors import ChosenVectors, RowVectors, Vectors, mapped_rows, stored_rows
from tcs.errors import DataError
from tcs.evaluation.probe_stores import ProbedStores
from tcs.metrics import are_known
from tcs.pool_labels.options import PoolLabelOptions
from tcs.pool_labels.spread import spread_labels
from tcs.probes.heads import HeadOptions, LinearHead
from tcs.splits.shots import Split


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SplitPool:
    """The pool of one split: its features (N, D), and which of its rows are labelled and with what, int64."""

    vectors: ChosenVectors
    labelled_M: NDArray[np.int64]
    labels_M: NDArray[np.int64]
    n_classes: int


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TransductiveHead:
    """A linear head of the projected rows, and how it came about: `estimator` is "ridge", for the reason given, where it fell back."""

    head: LinearHead
    estimator: str
    reason: str | None
    pool_rows: int


def pools_of(stores: ProbedStores, splits: Iterable[Split]) -> dict[str, SplitPool]:
    """The pool of every split, by its digest.

    DataError where a class of the store has no row in a split, or where no row is left without a label.
    """
    vectors = stores.vectors(stores.train)
    scores_N = are_known(stores.train.hashes_N16, stores.test.hashes_N16[stores.scored_M])
    return {split.digest: _pool_of(stores, split, vectors, scores_N) for split in splits}


def _pool_of(stores: ProbedStores, split: Split, vectors: RowVectors, scores_N: NDArray[np.bool_]) -> SplitPool:
    """All rows but those of images that score; rows of the split stay."""
    train, scores_N = stores.train, scores_N.copy()
    scores_N[split.rows_n] = False
    rows_N, labelled_M = np.flatnonzero(~scores_N), np.sort(split.rows_n)
    labels_M = train.labels_N[labelled_M].astype(np.int64)
    missing = np.setdiff1d(np.arange(len(train.classes)), labels_M)
    if len(missing):
        raise DataError(
            f"class '{train.classes[missing[0]]}' of {train.path} has no labelled row ({len(missing)} of {len(train.classes)} classes"
            " have none), and labels are spread from one a class at least; label one, or use --head ridge."
        )
    if len(rows_N) == len(labelled_M):
        raise DataError(
            f"all {len(rows_N):,} rows of {train.path} that do not score have a label in use, so there is no row to spread labels to;"
            " give --shots or --split-file, or use --head ridge."
        )
    return SplitPool(
        vectors=ChosenVectors(vectors, rows_N),
        labelled_M=np.searchsorted(rows_N, labelled_M),
        labels_M=labels_M,
        n_classes=len(train.classes),
    )


def fit_transductive(pool: SplitPool, axes_DK: NDArray[np.float64], options: HeadOptions) -> TransductiveHead:
    """Spread the labels over the projected rows R'f, for R = `axes_DK`. DataError for rows that are not finite."""
    z_NK = _projected(pool.vectors, axes_DK)
    found = spread_labels(
        z_NK,
        pool.labelled_M,
        pool.labels_M,
        pool.n_classes,
        PoolLabelOptions(seed=options.seed),
        device=options.device,
    )
    head = LinearHead(weight_CK=found.weight_CK, bias_C=found.bias_C)
    return TransductiveHead(head=head, estimator=found.estimator, reason=found.reason, pool_rows=len(z_NK))


def _projected(vectors: ChosenVectors, axes_DK: NDArray[np.float64]) -> Vectors:
    """R'f (N, K) of every row, float32; the rows as they are stored where R is the identity, whose products would be they again."""
    dims, components = axes_DK.shape
    if dims == components and np.array_equal(axes_DK, np.eye(dims)):
        return stored_rows(vectors)
    axes_f32_DK = axes_DK.astype(np.float32)
    return mapped_rows(vectors, lambda block_BD: block_BD.astype(np.float32) @ axes_f32_DK, components)


def spreading_recipe() -> dict[str, Any]:
    """What decides how labels are spread, but for the seed, which is the head's."""
    options = dataclasses.asdict(PoolLabelOptions())
    del options["seed"]
    return options
