"""Reference rows of a few-shot grid: the frozen teacher's cached features with the labels of a split, and no student.

`teacher-probe` is a ridge probe of unit features, `teacher-knn` a vote of the nearest rows by cosine, and `ibm2` the cosine
head on noisy copies of tcs.probes.ibm2, by its published recipe: 200 copies of each labelled row, 35 to 45 s of one processor core
for 10 classes x 16 shots x 512 dims, in proportion to all three.

`teacher-transductive` spreads the labels over the pool of the cell (tcs.pool_labels), in the first 128 principal axes of that
pool: what a student of the same rows is to be measured against. Seconds for 10,000 rows. All of them read several teachers' vectors side
by side, each of length 1.

Legend: N labelled rows, P rows of the pool, M scored rows, D teacher dims, K coordinates, C classes.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

import cache
from tcs.coordinates.build import fit_coordinates
from tcs.coordinates.vectors import ChosenVectors, mapped_rows, row_vectors
from tcs.metrics import accuracy, are_known, match_classes
from tcs.pool_labels.options import PoolLabelOptions
from tcs.pool_labels.spread import spread_labels
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


def score_transductive(
    train: cache.Store,
    test: cache.Store,
    rows_N: NDArray[np.int64],
    pool_P: NDArray[np.int64],
    seed: int,
    device: str,
) -> dict[str, float]:
    """`score_reference` of `teacher-transductive`, whose head sees the features of the rows `pool_P` of `train` as well.

    `pool_P` is sorted and holds `rows_N`. Images that score are left out of it, unless they are among `rows_N`. A line says so
    where a check fell back to the ridge probe of the labelled rows. DataError for labels that cannot be spread.
    """
    scored_M = np.flatnonzero(test.labels_N >= 0)
    scores_P = are_known(train.hashes_N16[pool_P], test.hashes_N16[scored_M])
    pool_P = pool_P[~scores_P | np.isin(pool_P, rows_N)]
    readout = next(iter(train.readouts))
    vectors = ChosenVectors(row_vectors(train, readout), pool_P)
    widths = train.widths(readout)
    system = fit_coordinates(vectors, components=min(POOL_COMPONENTS, vectors.shape[1]), widths=widths)
    found = spread_labels(
        mapped_rows(vectors, system.transform, system.components),
        np.searchsorted(pool_P, rows_N),
        train.labels_N[rows_N],
        len(train.classes),
        PoolLabelOptions(seed=seed),
        device=device,
    )
    if found.fell_back:
        say(f"teacher-transductive is the ridge probe of the labelled rows here: {found.reason}.")
    z_MK = system.transform(row_vectors(test, readout)[scored_M])
    return _ranked(found.scores(z_MK), match_classes(test, train.classes)[scored_M])


REFERENCE_SCORES: Mapping[str, Callable[[Shots], dict[str, float]]] = {
    "teacher-probe": _ridge,
    "teacher-knn": _knn,
    "ibm2": _ibm2,
}


def _ranked(logits_MC: NDArray[np.float64], truth_M: NDArray[np.int64]) -> dict[str, float]:
    metrics = accuracy(logits_MC, truth_M)
    return {name: metrics[name] for name in ("top1", "top1_err", "top5")}
