"""Logits of the frozen teacher without a teacher head: a logistic probe of cached features, fitted on the run's own labels.

Up to MANY_VALUES rows x classes scikit-learn fits it, with the penalty of least log-loss over all folds. Beyond, that takes minutes and
ends far from the optimum: tcs.probes.softmax fits it, and one held-out fold of a sample with as many images of each class chooses the
penalty, along the path from the strongest on.

Legend: N rows with a label, B rows to score, I labelled images (N of one view each), D = K teacher dims, J = D + 1, C classes.
"""

import dataclasses
import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcs.errors import DataError
from tcs.probes.ridge import balanced_folds
from tcs.probes.softmax import SoftmaxFits, mean_log_loss

# Inverse penalties of scikit-learn, on features centred and divided by their one root mean square.
INVERSE_PENALTIES = tuple(10.0**power for power in range(-4, 3))
FEW_SHOT_PENALTY = 0.1  # below two rows a class there is nothing to cross-validate
CHOICE_ROWS = 4096
MOST_FOLDS = 5
MAX_ITERATIONS = 1000
MANY_VALUES = 1 << 20  # rows x classes: 256 classes of 16 images
ENOUGH_HELD_OUT = 512  # rows of the sample that choose a penalty, where there are many values


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LogisticProbe:
    """`weight_CK` (C, D) and `bias_C`, float64, for features as they are; a class without a row has bias -inf."""

    weight_CK: NDArray[np.float64]
    bias_C: NDArray[np.float64]
    sharpness: float = 1.0  # its scores are logits as they stand

    def scores(self, x_BD: NDArray[np.floating]) -> NDArray[np.float64]:
        """Logits (B, C) float64."""
        scores_BC: NDArray[np.float64] = np.asarray(x_BD, np.float64) @ self.weight_CK.T + self.bias_C
        return scores_BC


def fit_logistic(
    fit_ND: NDArray[np.floating],
    labels_N: NDArray[np.int64],
    n_classes: int,
    seed: int,
    views: int = 1,
    device: torch.device | str = "cpu",
) -> LogisticProbe:
    """A multinomial logistic regression of the labels on the features.

    The penalty has the least cross-validated log-loss, so that the probabilities, not only their order, are fit to be
    distilled. Each `views` rows that follow each other are of one image, and lie in one fold. `device` is where more than MANY_VALUES
    rows x classes are fitted. DataError where only one class has labels, or features are not finite.
    """
    present_c, weight_cD, bias_c = _fit_present(fit_ND, labels_N, seed, views, device)
    weight_CD, bias_C = np.zeros((n_classes, fit_ND.shape[1])), np.full(n_classes, -np.inf)
    weight_CD[present_c], bias_C[present_c] = weight_cD, bias_c
    return LogisticProbe(weight_CK=weight_CD, bias_C=bias_C)


def _fit_present(
    fit_ND: NDArray[np.floating], labels_N: NDArray[np.int64], seed: int, views: int, device: torch.device | str
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """The classes that have rows, and their weights and biases for features as they are."""
    require_finite(fit_ND)
    present_c, places_N = np.unique(labels_N, return_inverse=True)
    if len(present_c) < 2:
        raise DataError(
            f"the labelled rows hold {len(present_c)} class; teacher logits need 2 or more: use more labels."
        )
    origin_D = fit_ND.mean(axis=0, dtype=np.float64)
    centred_ND = fit_ND.astype(np.float64) - origin_D
    spread = max(float(np.sqrt(np.square(centred_ND).mean() * centred_ND.shape[1])), 1e-12)
    x_ND = centred_ND / spread
    if len(present_c) > 2 and len(x_ND) * len(present_c) > MANY_VALUES:
        weight_cD, bias_c = _fitted_to_many(x_ND, places_N, seed, views, device)
    else:
        weight_cD, bias_c = _fitted(x_ND, places_N, _chosen_penalty(x_ND, places_N, seed, views))
    return present_c, weight_cD / spread, bias_c - weight_cD @ (origin_D / spread)


def require_finite(features_ND: NDArray[np.floating]) -> None:
    """DataError for NaN or Inf in features that a probe is fitted to, or scores."""
    if not np.isfinite(features_ND).all():
        raise DataError(
            "the teacher's probe met features that are not finite (NaN or Inf); check the teacher's output."
        )


def _chosen_penalty(x_ND: NDArray[np.float64], labels_N: NDArray[np.int64], seed: int, views: int) -> float:
    """By cross-validation over images: with a view on either side of a fold any penalty would look too strong."""
    labels_I = labels_N[::views]
    folds = min(MOST_FOLDS, int(np.bincount(labels_I).min()))
    if folds < 2:
        return FEW_SHOT_PENALTY
    chosen = np.random.default_rng(seed).permutation(len(labels_I))[: max(1, CHOICE_ROWS // views)]
    if np.bincount(labels_I[chosen], minlength=labels_I.max() + 1).min() >= folds:
        x_ND, labels_I = x_ND.reshape(-1, views, x_ND.shape[1])[chosen].reshape(-1, x_ND.shape[1]), labels_I[chosen]
    labels_N, fold_N = np.repeat(labels_I, views), np.repeat(balanced_folds(labels_I, folds, seed), views)
    losses = [
        np.mean([_held_out_loss(x_ND, labels_N, fold_N == fold, penalty) for fold in range(folds)])
        for penalty in INVERSE_PENALTIES
    ]
    return INVERSE_PENALTIES[int(np.argmin(losses))]


def _held_out_loss(
    x_ND: NDArray[np.float64], labels_N: NDArray[np.int64], held_N: NDArray[np.bool_], penalty: float
) -> float:
    """Mean log-loss of the held-out rows."""
    weight_CD, bias_C = _fitted(x_ND[~held_N], labels_N[~held_N], penalty)
    scores_nC = x_ND[held_N] @ weight_CD.T + bias_C
    top_n = scores_nC.max(axis=1)
    total_n = top_n + np.log(np.exp(scores_nC - top_n[:, None]).sum(axis=1))
    return float((total_n - scores_nC[np.arange(len(scores_nC)), labels_N[held_N]]).mean())


def _fitted(
    x_ND: NDArray[np.float64], labels_N: NDArray[np.int64], penalty: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weight (C, D) and bias (C,), two classes as two rows; an unfinished fit is used as it stands."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=penalty, max_iter=MAX_ITERATIONS).fit(x_ND, labels_N)
    if len(model.classes_) > 2:
        return model.coef_, model.intercept_
    return np.concatenate([-model.coef_, model.coef_]) / 2, np.concatenate([-model.intercept_, model.intercept_]) / 2


def _fitted_to_many(
    x_ND: NDArray[np.float64], labels_N: NDArray[np.int64], seed: int, views: int, device: torch.device | str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weight (C, D) and bias (C,) under the penalty that the path chooses."""
    classes = int(labels_N.max()) + 1
    penalty, start_CJ = _chosen_on_path(x_ND, labels_N, classes, seed, views, device)
    head_CJ = SoftmaxFits(x_ND, labels_N, classes, device).fit(penalty, start_CJ).double().cpu().numpy()
    return head_CJ[:, :-1], head_CJ[:, -1]


def _chosen_on_path(
    x_ND: NDArray[np.float64],
    labels_N: NDArray[np.int64],
    classes: int,
    seed: int,
    views: int,
    device: torch.device | str,
) -> tuple[float, Tensor | None]:
    """The penalty, and the head (C, J) that was fitted under it, to begin from.

    Each fit begins where the one under the next stronger penalty ended, and the path ends where the held-out log-loss has risen: from
    there on the probabilities only grow more certain.
    """
    labels_I = labels_N[::views]
    sample_i = _stratified(labels_I, max(2, CHOICE_ROWS // (views * classes)), seed)
    folds = min(MOST_FOLDS, int(np.bincount(labels_I[sample_i]).min()))
    if folds < 2:
        return FEW_SHOT_PENALTY, None
    held_i = _held_out(balanced_folds(labels_I[sample_i], folds, seed), views)
    rows_IV = np.arange(len(x_ND)).reshape(-1, views)
    fitted_n, held_m = (rows_IV[sample_i[chosen]].ravel() for chosen in (~held_i, held_i))
    fits = SoftmaxFits(x_ND[fitted_n], labels_N[fitted_n], classes, device)
    best: tuple[float, float, Tensor] | None = None
    head_CJ: Tensor | None = None
    for penalty in INVERSE_PENALTIES:
        head_CJ = fits.fit(penalty, head_CJ)
        loss = mean_log_loss(head_CJ, x_ND[held_m], labels_N[held_m])
        if best is not None and loss >= best[0]:
            break
        best = loss, penalty, head_CJ
    assert best is not None
    return best[1], best[2]


def _stratified(labels_I: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """Positions of at most `most` images of each class, drawn by the seed and rising."""
    drawn_I = np.random.default_rng(seed).permutation(len(labels_I))
    by_class_I = drawn_I[np.argsort(labels_I[drawn_I], kind="stable")]
    counts_C = np.bincount(labels_I)
    rank_I = np.arange(len(labels_I)) - np.repeat(np.cumsum(counts_C) - counts_C, counts_C)
    return np.sort(by_class_I[rank_I < most])


def _held_out(fold_i: NDArray[np.int64], views: int) -> NDArray[np.bool_]:
    """Which images are kept from the fits: the first folds that hold ENOUGH_HELD_OUT rows, but never all."""
    held = views * np.cumsum(np.bincount(fold_i))
    folds = min(1 + int(np.searchsorted(held, ENOUGH_HELD_OUT)), len(held) - 1)
    return fold_i < folds
