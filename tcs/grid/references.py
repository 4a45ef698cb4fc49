"""Reference rows of a few-shot grid: the frozen teacher's cached features with the labels of a split, and no student.

`teacher-probe` is a ridge probe of unit features, `teacher-knn` a vote of the nearest rows by cosine, `teacher-centroids` the nearest
class mean by cosine, `teacher-all-labels` the probe of every label there is (what no number of shots can beat), and `ibm2` the cosine
head on noisy copies of tcs.probes.ibm2, by its published recipe: 200 copies of each labelled row, 35 to 45 s of one processor core
for 10 classes x 16 shots x 512 dims, in proportion to all three.

`teacher-transductive` spreads the labels over the pool of the cell (tcs.pool_labels), in the first 128 principal axes of that
pool: what a student of the same rows is to be measured against. Seconds for 10,000 rows. All of them read several teachers' vectors side
by side, each of length 1; but where the grid's methods average the soft labels of each teacher, so does `teacher-transductive`.

Legend: N labelled rows, P rows of the pool, M scored rows, D teacher dims, K coordinates, C classes.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

import cache
from tcs.config.pool import EACH, JOINED
from tcs.coordinates.build import fit_coordinates
from tcs.coordinates.system import CoordinateSystem
from tcs.coordinates.vectors import ChosenVectors, mapped_rows, row_vectors
from tcs.grid.answers import Answers
from tcs.grid.recipe import Cell, Grid, cell_config, method_of
from tcs.metrics import are_known, match_classes
from tcs.pool_labels.options import PoolLabelOptions
from tcs.pool_labels.spread import PoolLabels, spread_labels
from tcs.probes.ibm2 import fit_ibm2
from tcs.probes.ridge import fit_ridge, knn_classes, unit_rows
from tcs.runtime import say

POOL_COMPONENTS = 128  # as many as the settings of PoolLabelOptions were chosen with

Float32 = NDArray[np.float32]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Shots:
    """Features (N, D) float32 and labels of a split, and the features (M, D) of the rows to score."""

    x_ND: Float32
    labels_N: NDArray[np.int64]
    n_classes: int
    test_MD: Float32
    seed: int
    device: str


def answer_reference(
    name: str, train: cache.Store, test: cache.Store, rows_N: NDArray[np.int64], seed: int, device: str
) -> Answers:
    """What a reference of the teacher says of the labelled rows of `test`.

    The head sees the labels of the rows `rows_N` of `train`. `seed` and `device` matter to `ibm2` only.
    """
    readout = next(iter(train.readouts))
    scored_M = np.flatnonzero(test.labels_N >= 0)
    shots = Shots(
        x_ND=row_vectors(train, readout)[rows_N].astype(np.float32),
        labels_N=train.labels_N[rows_N],
        n_classes=len(train.classes),
        test_MD=row_vectors(test, readout)[scored_M].astype(np.float32),
        seed=seed,
        device=device,
    )
    return REFERENCE_ANSWERS[name](shots)


def score_reference(
    name: str, train: cache.Store, test: cache.Store, rows_N: NDArray[np.int64], seed: int, device: str
) -> dict[str, float]:
    """top1 and top1_err (and top5, where classes are ranked) of `answer_reference` in percent."""
    truth_M = match_classes(test, train.classes)[test.labels_N >= 0]
    return answer_reference(name, train, test, rows_N, seed, device).accuracies(truth_M)


def _ridge(shots: Shots) -> Answers:
    probe = fit_ridge(unit_rows(shots.x_ND), shots.labels_N, shots.n_classes)
    return Answers.of_scores(probe.logits(unit_rows(shots.test_MD)))


def _knn(shots: Shots) -> Answers:
    counts_C = np.bincount(shots.labels_N, minlength=shots.n_classes)
    k = min(20, max(int(counts_C.min()), 1))
    return Answers(top1_M=knn_classes(shots.x_ND, shots.labels_N, shots.test_MD, k=k))


def _centroids(shots: Shots) -> Answers:
    """By the cosine to the mean of each class's unit rows; a class without rows is never the nearest."""
    means_CD = np.zeros((shots.n_classes, shots.x_ND.shape[1]), np.float64)
    np.add.at(means_CD, shots.labels_N, unit_rows(shots.x_ND).astype(np.float64))
    cosines_MC = unit_rows(shots.test_MD).astype(np.float64) @ unit_rows(means_CD).T
    cosines_MC[:, np.bincount(shots.labels_N, minlength=shots.n_classes) == 0] = -2.0
    return Answers.of_scores(cosines_MC)


def _ibm2(shots: Shots) -> Answers:
    head = fit_ibm2(shots.x_ND, shots.labels_N, shots.n_classes, seed=shots.seed, device=shots.device)
    say(
        f"ibm2: noise level {head.search.epsilon:.2f}, the most that leaves {100 * head.search.threshold:.0f} % of noisy"
        f" support right ({len(head.search.tried)} trainings)."
    )
    return Answers.of_scores(shots.test_MD.astype(np.float64) @ head.weight_CD.T)


def pool_teachers_of(grid: Grid) -> str:
    """How `teacher-transductive` reads several teachers: as the methods that distil spread labels do where all of them agree, else
    joined."""
    found = set()
    for row in grid.methods if grid.also else ():
        for pool in grid.pixel_pools[:1]:
            cell = Cell(model=grid.students[0], method=row, shots=grid.shots[0], seed=grid.seeds[0], unlabelled=pool)
            config = cell_config(grid, cell, out="", device="cpu")
            if "pool" in method_of(config).needs:
                found.add(config.pool.pool_teachers)
    return EACH if found == {EACH} else JOINED


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Spreading:
    """Labels (N,) of the rows `rows_N`, to be spread over the rows `pool_P` (sorted; these among them) of a store."""

    rows_N: NDArray[np.int64]
    labels_N: NDArray[np.int64]
    n_classes: int
    pool_P: NDArray[np.int64]
    seed: int
    device: str

    def spread(self, train: cache.Store, readout: str) -> tuple[CoordinateSystem, PoolLabels]:
        """The pool's first principal axes, and the head in them."""
        vectors, widths = ChosenVectors(row_vectors(train, readout), self.pool_P), train.widths(readout)
        system = fit_coordinates(vectors, components=min(POOL_COMPONENTS, vectors.shape[1]), widths=widths)
        z_PK = mapped_rows(vectors, system.transform, system.components)
        places_N, options = np.searchsorted(self.pool_P, self.rows_N), PoolLabelOptions(seed=self.seed)
        return system, spread_labels(z_PK, places_N, self.labels_N, self.n_classes, options, device=self.device)


def answer_transductive(
    train: cache.Store,
    test: cache.Store,
    rows_N: NDArray[np.int64],
    pool_P: NDArray[np.int64],
    seed: int,
    device: str,
    pool_teachers: str = JOINED,
) -> Answers:
    """`answer_reference` of `teacher-transductive`, whose head sees the features of the rows `pool_P` of `train` as well.

    `pool_P` is sorted and holds `rows_N`. Images that score are left out of it, unless they are among `rows_N`. With `pool_teachers`
    "each" labels are spread in the coordinates of each part of joined stores, and the soft labels averaged. A line says so where a
    check fell back to the ridge probe of the labelled rows. DataError for labels that cannot be spread.
    """
    scored_M = np.flatnonzero(test.labels_N >= 0)
    scores_P = are_known(train.hashes_N16[pool_P], test.hashes_N16[scored_M])
    spreading = Spreading(
        rows_N=rows_N,
        labels_N=train.labels_N[rows_N],
        n_classes=len(train.classes),
        pool_P=pool_P[~scores_P | np.isin(pool_P, rows_N)],
        seed=seed,
        device=device,
    )
    readout, is_averaged = next(iter(train.readouts)), pool_teachers == EACH
    found = []
    for own, scored in zip(train.parts, test.parts, strict=True) if is_averaged else [(train, test)]:
        system, labels = spreading.spread(own, readout)
        if labels.fell_back:
            by = f" by {own.path}" if is_averaged else ""
            say(f"teacher-transductive is the ridge probe of the labelled rows here{by}: {labels.reason}.")
        z_MK = system.transform(row_vectors(scored, readout)[scored_M])
        if not is_averaged:
            scores_MC = labels.scores(z_MK)
            return dataclasses.replace(Answers.of_logits(labels.sharpness * scores_MC), scores_MC=scores_MC)
        found.append(labels.soft_labels(z_MK))
    return Answers.of_probabilities(np.mean(found, axis=0, dtype=np.float64))


REFERENCE_ANSWERS: Mapping[str, Callable[[Shots], Answers]] = {
    "teacher-probe": _ridge,
    "teacher-knn": _knn,
    "teacher-centroids": _centroids,
    "ibm2": _ibm2,
    "teacher-all-labels": _ridge,  # of other rows: all that have a label
}
