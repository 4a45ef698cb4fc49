"""Reference rows of a few-shot grid: the frozen teacher's cached features with the labels of a split, and no student.

`teacher-probe` is a ridge probe of unit features, `teacher-knn` a vote of the nearest rows by cosine, and `ibm2` the cosine
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
from tcs.grid.recipe import Cell, Grid, cell_config, method_of
from tcs.metrics import accuracy, are_known, match_classes
from tcs.pool_labels.options import PoolLabelOptions
from tcs.pool_labels.spread import PoolLabels, spread_labels
from tcs.probes.ibm2 import fit_ibm2
from tcs.probes.ridge import fit_ridge, knn_accuracy, unit_rows
from tcs.runtime import say

POOL_COMPONENTS = 128  # as many as the settings of PoolLabelOptions were chosen with

Float32 = NDArray[np.float32]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Shots:
    """Features (N, D) float32 and labels of a split, and the features (M, D) and classes of the rows to score."""

    x_ND: Float32
    labels_N: NDArray[np.int64]
    n_classes: int
    test_MD: Float32
    truth_M: NDArray[np.int64]
    seed: int
    device: str


def score_reference(
    name: str, train: cache.Store, test: cache.Store, rows_N: NDArray[np.int64], seed: int, device: str
) -> dict[str, float]:
    """top1 and top1_err (and top5, where classes are ranked) in percent, on the labelled rows of `test`.

    The head sees the labels of the rows `rows_N` of `train`. `seed` and `device` matter to `ibm2` only.
    """
    readout = next(iter(train.readouts))
    scored_M = np.flatnonzero(test.labels_N >= 0)
    shots = Shots(
        x_ND=row_vectors(train, readout)[rows_N].astype(np.float32),
        labels_N=train.labels_N[rows_N],
        n_classes=len(train.classes),
        test_MD=row_vectors(test, readout)[scored_M].astype(np.float32),
        truth_M=match_classes(test, train.classes)[scored_M],
        seed=seed,
        device=device,
    )
    return dict(REFERENCE_SCORES[name](shots))


def _ridge(shots: Shots) -> dict[str, float]:
    probe = fit_ridge(unit_rows(shots.x_ND), shots.labels_N, shots.n_classes)
    return _ranked(probe.logits(unit_rows(shots.test_MD)), shots.truth_M)


def _knn(shots: Shots) -> dict[str, float]:
    least = int(np.bincount(shots.labels_N, minlength=shots.n_classes).min())
    k = min(20, max(least, 1))
    top1 = round(knn_accuracy(shots.x_ND, shots.labels_N, shots.test_MD, shots.truth_M, k=k), 4)
    return {"top1": top1, "top1_err": round(100 - top1, 4)}


def _ibm2(shots: Shots) -> dict[str, float]:
    head = fit_ibm2(shots.x_ND, shots.labels_N, shots.n_classes, seed=shots.seed, device=shots.device)
    say(
        f"ibm2: noise level {head.search.epsilon:.2f}, the most that leaves {100 * head.search.threshold:.0f} % of noisy"
        f" support right ({len(head.search.tried)} trainings)."
    )
    return _ranked(shots.test_MD.astype(np.float64) @ head.weight_CD.T, shots.truth_M)


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


def score_transductive(
    train: cache.Store,
    test: cache.Store,
    rows_N: NDArray[np.int64],
    pool_P: NDArray[np.int64],
    seed: int,
    device: str,
    pool_teachers: str = JOINED,
) -> dict[str, float]:
    """`score_reference` of `teacher-transductive`, whose head sees the features of the rows `pool_P` of `train` as well.

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
        found.append(labels.soft_labels(z_MK) if is_averaged else labels.scores(z_MK))
    return _ranked(np.mean(found, axis=0, dtype=np.float64), match_classes(test, train.classes)[scored_M])


REFERENCE_SCORES: Mapping[str, Callable[[Shots], dict[str, float]]] = {
    "teacher-probe": _ridge,
    "teacher-knn": _knn,
    "ibm2": _ibm2,
}


def _ranked(logits_MC: NDArray[np.float64], truth_M: NDArray[np.int64]) -> dict[str, float]:
    metrics = accuracy(logits_MC, truth_M)
    return {name: metrics[name] for name in ("top1", "top1_err", "top5")}
