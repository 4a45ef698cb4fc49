"""How likely the label of a row is an error: an out-of-fold probe and the row's neighbours against the label.

Both give every class a share: the probe (ridge regression of class indicators, Hoerl and Kennard 1970, each row by the fit on the
other folds) about 1 for the class it sees, neighbours the part of them that carries the class. `score` is the weighted
share of the likeliest other class less that of the label, from about -1 (surely right) to 1 (surely wrong). A regression's shares add
up to 1 but are not held between 0 and 1, so a score may lie a little beyond.

Legend: N rows of a store, L labelled ones, C classes, K coordinates, k neighbours.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from tcs.runtime import seed_for

FOLDS, PENALTY, NEIGHBOUR_WEIGHT = 5, 0.3, 0.2  # halves did worse than the probe alone on CIFAR-10

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, eq=False)
class Suspicion:
    """Of every labelled row: rows_L, suggested_L (the likeliest other class), scores_L float64, predicted_L (the probe's class)."""

    rows_L: Ints
    suggested_L: Ints
    scores_L: F64
    predicted_L: Ints


def suspect_labels(points_NK: F32, labels_N: Ints, groups_N: Ints, near_Nk: Ints, classes: int) -> Suspicion:
    """Judge every label of -1 <= labels_N < `classes`, of which two or more occur. Exact copies (`groups_N`) share a fold."""
    rows_L = np.flatnonzero(labels_N >= 0)
    labels_L = labels_N[rows_L]
    probe_LC = out_of_fold(points_NK[rows_L], labels_L, _folds(labels_L, groups_N[rows_L]), classes)
    votes_LC = _votes(near_Nk[rows_L], labels_N, classes)
    shares_LC = (1 - NEIGHBOUR_WEIGHT) * probe_LC + NEIGHBOUR_WEIGHT * votes_LC
    places_L = np.arange(len(rows_L))
    own_L = shares_LC[places_L, labels_L]
    shares_LC[places_L, labels_L] = -np.inf
    shares_LC[:, np.bincount(labels_L, minlength=classes) == 0] = -np.inf  # a class without an image is no suggestion
    suggested_L = shares_LC.argmax(axis=1)
    return Suspicion(
        rows_L=rows_L,
        suggested_L=suggested_L,
        scores_L=shares_LC[places_L, suggested_L] - own_L,
        predicted_L=probe_LC.argmax(axis=1),
    )


def out_of_fold(points_LK: F32, labels_L: Ints, folds_L: Ints, classes: int) -> F64:
    """Shares (L, C) of the ridge probe of the other folds; the penalty is PENALTY times the mean variance of the points."""
    shares_LC = np.zeros((len(labels_L), classes))
    indicators_LC = np.eye(classes)[labels_L]
    for fold in np.unique(folds_L):
        is_fitted_L = folds_L != fold
        if not is_fitted_L.any():  # all rows are copies of one image
            continue
        fitted_lK = points_LK[is_fitted_L].astype(np.float64)
        mean_K, base_C = fitted_lK.mean(axis=0), indicators_LC[is_fitted_L].mean(axis=0)
        fitted_lK -= mean_K
        gram_KK = fitted_lK.T @ fitted_lK
        gram_KK[np.diag_indices_from(gram_KK)] += PENALTY * np.trace(gram_KK) / len(gram_KK) + 1e-12
        weights_KC = np.linalg.solve(gram_KK, fitted_lK.T @ (indicators_LC[is_fitted_L] - base_C))
        shares_LC[~is_fitted_L] = (points_LK[~is_fitted_L] - mean_K) @ weights_KC + base_C
    return shares_LC


def _folds(labels_L: Ints, groups_L: Ints) -> Ints:
    """A fold for every row: classes are dealt out evenly, in an order drawn once; copies follow the first of them."""
    order_L = np.random.default_rng(seed_for(0, "audit folds")).permutation(len(labels_L))
    folds_L = np.empty(len(labels_L), np.int64)
    by_class_L = order_L[np.argsort(labels_L[order_L], kind="stable")]
    folds_L[by_class_L] = np.arange(len(labels_L)) % FOLDS
    _, first_L, group_L = np.unique(groups_L, return_index=True, return_inverse=True)
    copied_L: Ints = folds_L[first_L[group_L]]
    return copied_L


def _votes(near_Lk: Ints, labels_N: Ints, classes: int) -> F64:
    """The part of the labelled neighbours that carries each class, (L, C); zeros where no neighbour has a label."""
    labels_Lk = np.where(near_Lk >= 0, labels_N[near_Lk], -1)
    votes_LC = np.stack([(labels_Lk == label).sum(axis=1) for label in range(classes)], axis=1).astype(np.float64)
    shares_LC: F64 = votes_LC / np.maximum(votes_LC.sum(axis=1, keepdims=True), 1)
    return shares_LC
