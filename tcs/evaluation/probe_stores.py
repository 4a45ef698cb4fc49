"""Two stores of one teacher for `tcs probe`: rows to fit heads on, and rows to score them on.

Legend: N labelled rows of a split, M scored rows, B rows of a block, D features, C classes.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

import cache
from tcs.artefact import teacher_identity_of, tell_other_rules
from tcs.config.evaluate import ProbeConfig
from tcs.coordinates.vectors import RowVectors, row_vectors
from tcs.errors import ArtefactError, DataError
from tcs.metrics import count_known, match_classes
from tcs.probes.gram import gather_gram
from tcs.probes.heads import LinearHead, SplitRows
from tcs.probes.targets import ClassTargets, one_hot
from tcs.runtime import progress_bar
from tcs.splits.relabelling import relabelled
from tcs.splits.shots import Split

BLOCK_ROWS = 2048
MOST_RANKED = 5  # top-5 accuracy


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ProbedStores:
    """Both stores, open and checked against each other; `truth_M` numbers classes as the training store does."""

    train: cache.Store
    test: cache.Store
    readout: str
    dims: int

    scored_M: NDArray[np.int64]
    truth_M: NDArray[np.int64]

    @property
    def seen(self) -> int:
        """How many of the scored images are, by content, among the rows of the training store."""
        return count_known(self.test.hashes_N16[self.scored_M], self.train.hashes_N16)

    def vectors(self, store: cache.Store) -> RowVectors:
        """The readout of one of the two, one vector (D) a row."""
        return row_vectors(store, self.readout)


def open_stores(config: ProbeConfig) -> ProbedStores:
    """Both stores of the options, checked against each other.

    Raises DataError for one store given twice, a store without labels or with views, or classes that the training store
    lacks; ArtefactError for stores of two teachers or widths; SchemaError for a readout that is not there.
    """
    train = relabelled(cache.open(pathlib.Path(config.store)), config.split_file)
    test = cache.open(pathlib.Path(config.test))
    if train.identity == test.identity:
        raise DataError(f"train and test are both store {config.store}; score on images that nothing was fitted on.")
    train.features(config.readout)  # refuses an unknown name, or none among several
    readout = config.readout if config.readout is not None else next(iter(train.readouts))
    test.features(readout)
    for store in (train, test):
        if not store.is_labelled:
            raise DataError(
                f"store {store.path} has no labels, and a head needs them; extract it from class folders, without --labels none."
            )
        views = store.manifest.plan.views
        if views is not None:
            raise DataError(
                f"store {store.path} holds {views.count} augmented views of each image, and a head is probed on the clean"
                " one; extract without --views for it."
            )
    if teacher_identity_of(train, readout) != teacher_identity_of(test, readout):
        raise ArtefactError(
            f"stores {train.path} and {test.path} are of different teachers or preprocessing for the readout {readout};"
            " extract both with the same options."
        )
    tell_other_rules(train, test)
    widths = [store.readouts[readout].dims for store in (train, test)]
    if widths[0] != widths[1]:
        raise ArtefactError(
            f"{train.path} has {widths[0]} dims of the readout {readout} and {test.path} has {widths[1]}; extract both with the"
            " same options."
        )
    return ProbedStores(
        train=train,
        test=test,
        readout=readout,
        dims=train.readouts[readout].dims,
        scored_M=np.flatnonzero(test.labels_N >= 0),
        truth_M=match_classes(test, train.classes, "that the training store lacks")[test.labels_N >= 0],
    )


def read_rows(stores: ProbedStores, split: Split, keep: bool) -> SplitRows:
    """The sums of a split in one pass; the rows themselves where `keep`."""
    vectors, rows_N = stores.vectors(stores.train), np.sort(split.rows_n)
    labels_N, n_classes = stores.train.labels_N[rows_N], len(stores.train.classes)
    kept: list[NDArray[np.float32]] = []

    def blocks() -> Iterator[tuple[NDArray[np.floating], NDArray[np.float64] | ClassTargets]]:
        with progress_bar(len(rows_N), "reading features", "rows") as bar:
            for start in range(0, len(rows_N), BLOCK_ROWS):
                at = slice(start, start + BLOCK_ROWS)
                block_BD = vectors[rows_N[at]]
                if keep:
                    kept.append(block_BD.astype(np.float32))
                yield block_BD, one_hot(labels_N[at], n_classes, stores.dims)
                bar.advance(len(block_BD))

    gram = gather_gram(blocks(), len(rows_N))
    x_ND = np.concatenate(kept) if keep else None
    return SplitRows(gram=gram, x_ND=x_ND, labels_N=labels_N, n_classes=n_classes)


def count_hits(stores: ProbedStores, heads: Sequence[LinearHead]) -> NDArray[np.int64]:
    """Right answers (H, 2), top-1 and top-5, of H heads on the M scored rows; the test store is read once."""
    vectors, hits_H2 = stores.vectors(stores.test), np.zeros((len(heads), 2), np.int64)
    with progress_bar(len(stores.scored_M), "scoring", "rows") as bar:
        for start in range(0, len(stores.scored_M), BLOCK_ROWS):
            at = slice(start, start + BLOCK_ROWS)
            block_BD = vectors[stores.scored_M[at]].astype(np.float32)
            for index, head in enumerate(heads):
                rank_B = _ranks(head.logits(block_BD), stores.truth_M[at])
                hits_H2[index] += (rank_B == 0).sum(), (rank_B < MOST_RANKED).sum()
            bar.advance(len(block_BD))
    return hits_H2


def _ranks(logits_BC: NDArray[np.floating], truth_B: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of the true class among the scores, from 0; of equal scores the lower class comes first."""
    true_B1 = np.take_along_axis(logits_BC, truth_B[:, None], axis=1)
    ties_BC = (logits_BC == true_B1) & (np.arange(logits_BC.shape[1]) < truth_B[:, None])
    ranks_B: NDArray[np.int64] = (logits_BC > true_B1).sum(axis=1) + ties_BC.sum(axis=1)
    return ranks_B
