"""Reference rows of a few-shot grid: the frozen teacher's cached features with the labels of a split, and no student.

`teacher-probe` is a ridge probe of unit features, `teacher-knn` a vote of the nearest rows by cosine, and `ibm2` the cosine
head on noisy copies of tcs.probes.ibm2, by its published recipe: 200 copies of each labelled row, 35 to 45 s of one processor core
for 10 classes x 16 shots x 512 dims, in proportion to all three.

Legend: N labelled rows, M scored rows, D teacher dims, C classes.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

import cache
from tcs.coordinates.vectors import row_vectors
from tcs.metrics import accuracy, match_classes
from tcs.probes.ibm2 import fit_ibm2
from tcs.probes.ridge import fit_ridge, knn_accuracy, unit_rows
from tcs.runtime import say

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


REFERENCE_SCORES: Mapping[str, Callable[[Shots], dict[str, float]]] = {
    "teacher-probe": _ridge,
    "teacher-knn": _knn,
    "ibm2": _ibm2,
}


def _ranked(logits_MC: NDArray[np.float64], truth_M: NDArray[np.int64]) -> dict[str, float]:
    metrics = accuracy(logits_MC, truth_M)
    return {name: metrics[name] for name in ("top1", "top1_err", "top5")}
