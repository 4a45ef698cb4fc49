"""Closed-form heads on cached features: ridge regression with a leave-one-out penalty, and k nearest neighbours.

Ridge with a free intercept on centred X = U S V' predicts with the hat matrix 1/n + U diag(s^2 / (s^2 + p)) U'. The
exact leave-one-out residual of row i is (y_i - yhat_i) / (1 - h_ii) (Allen's PRESS; generalised cross-validation,
which replaces h_ii by its mean, was refused: with few shots rows differ much). One decomposition serves all penalties:
of the n x n Gram matrix where n < K, else of the K x K scatter matrix with rows read in blocks (tcs.probes.gram).

Legend: N rows, K coordinates (S where they are a student's; A kept), C outputs or classes, P penalties, B rows of a block.
All arithmetic is float64.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tcs.errors import DataError
from tcs.probes.gram import RELATIVE_PENALTIES, Gram, gather_gram, penalties_of
from tcs.probes.leave_one_out import least_error
from tcs.probes.targets import ClassTargets, DenseTargets, one_hot
from tcs.runtime import seed_for

Array = NDArray[np.floating]
Float = TypeVar("Float", bound=np.floating[Any])
Labels = NDArray[np.integer]
BLOCK_ROWS = 4096
VOTE_TEMPERATURE = 0.07  # of the similarity-weighted vote, as usual for k-NN evaluation of self-supervised features


@dataclasses.dataclass(frozen=True, kw_only=True)
class RidgeProbe:
    """A linear classifier: `weight_CK` and `bias_C` (float64), and the penalty that leave-one-out chose."""

    weight_CK: NDArray[np.float64]
    bias_C: NDArray[np.float64]
    penalty: float

    def logits(self, x_NK: Array) -> NDArray[np.float64]:
        """Class scores (N, C), float64."""
        scores_NC: NDArray[np.float64] = np.asarray(x_NK, np.float64) @ self.weight_CK.T + self.bias_C
        return scores_NC

    def accuracy(self, x_NK: Array, labels_N: Labels) -> float:
        """Top-1 accuracy in percent."""
        hits = [
            self.logits(x_NK[rows]).argmax(1) == np.asarray(labels_N[rows]) for rows in _slices(len(x_NK), BLOCK_ROWS)
        ]
        return float(100 * np.concatenate(hits).mean())


def fit_ridge(x_NK: Array, labels_N: Labels, n_classes: int) -> RidgeProbe:
    """Ridge regression of +-1 one-hot targets on the rows; argmax of the outputs is the class.

    The penalty minimises the leave-one-out squared error over RELATIVE_PENALTIES. Labels lie in 0..n_classes-1;
    DataError where they do not, where fewer than two rows are given, or where the rows are not finite.
    """
    weight_CK, bias_C, penalty = _ridge(x_NK, one_hot(labels_N, n_classes, x_NK.shape[1]))
    return RidgeProbe(weight_CK=weight_CK, bias_C=bias_C, penalty=penalty)


class SubsetFits:
    """`fit_ridge` of the same rows (N, K) and labels on several subsets of the coordinates, A of them: their sums are gathered once,
    and a fit that is asked for again is not made again.

    DataError as in `fit_ridge`.
    """

    def __init__(self, x_NK: Array, labels_N: Labels, n_classes: int) -> None:
        self._x_NK, self._targets_NC = x_NK, one_hot(labels_N, n_classes, x_NK.shape[1])
        self._made: dict[tuple[bytes, bytes], RidgeProbe] = {}

    def fit(self, active_A: Labels, scales_A: Array | None = None) -> RidgeProbe:
        """The probe of the coordinates `active_A`, each times its scale, in whose terms its weights are."""
        scales_A = None if scales_A is None or (scales_A == 1).all() else scales_A
        asked = (np.asarray(active_A, np.int64).tobytes(), b"" if scales_A is None else scales_A.tobytes())
        if asked not in self._made:
            self._made[asked] = self._fitted(active_A, scales_A)
        return self._made[asked]

    def _fitted(self, active_A: Labels, scales_A: Array | None) -> RidgeProbe:
        if len(self._x_NK) < max(2, len(active_A)):  # fewer rows than coordinates: another way altogether
            x_NA = self._x_NK[:, active_A] * (1 if scales_A is None else scales_A)
            weight_CA, bias_C, penalty = _ridge(x_NA, self._targets_NC)
        else:
            gram = self._gram.kept(active_A)
            weight_CA, bias_C, penalty = (gram if scales_A is None else gram.scaled(scales_A)).ridge()
        return RidgeProbe(weight_CK=weight_CA, bias_C=bias_C, penalty=penalty)

    @functools.cached_property
    def variances(self) -> NDArray[np.float64]:
        """Variance of every coordinate, biased."""
        variances_K: NDArray[np.float64] = np.var(self._x_NK, axis=0, dtype=np.float64)
        return variances_K

    @functools.cached_property
    def _gram(self) -> Gram:
        return _gathered(self._x_NK, self._targets_NC)


def fit_ridge_targets(
    x_NS: Array, y_NK: Array, least_penalty: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weight (K, S) and bias (K,), float64, of the ridge regression of y on x, one leave-one-out penalty for all K.

    `least_penalty` drops the smaller entries of RELATIVE_PENALTIES: it bounds the weights, at some cost in fit.
    """
    weight_KS, bias_K, _ = _ridge(x_NS, y_NK, RELATIVE_PENALTIES[least_penalty <= RELATIVE_PENALTIES])
    return weight_KS, bias_K


def balanced_folds(labels_N: Labels, folds: int, seed: int) -> NDArray[np.int64]:
    """A fold (int64) for every row: each class is shuffled and dealt out, going on where the class before stopped."""
    generator = np.random.default_rng(seed_for(seed, "folds"))
    order_N = np.lexsort((generator.random(len(labels_N)), labels_N))
    fold_N = np.empty(len(labels_N), np.int64)
    fold_N[order_N] = np.arange(len(labels_N)) % folds
    return fold_N


def knn_accuracy(train_x: Array, train_y: Labels, test_x: Array, test_y: Labels, k: int = 20) -> float:
    """Top-1 accuracy in percent of the k nearest rows by cosine, each voting with exp(similarity / 0.07)."""
    hits = int((knn_classes(train_x, train_y, test_x, k) == np.asarray(test_y)).sum())
    return 100 * hits / len(test_x)


def knn_classes(train_x: Array, train_y: Labels, test_x: Array, k: int = 20) -> NDArray[np.int64]:
    """The class (int64) of each of `test_x` by the k nearest rows by cosine, each voting with exp(similarity / 0.07)."""
    if len(train_x) == 0 or len(test_x) == 0:
        raise DataError(f"k-NN over {len(train_x)} rows for {len(test_x)} rows; both sides need at least one.")
    k = min(k, len(train_x))
    train_y = np.asarray(train_y)
    known_NK, n_classes = unit_rows(np.asarray(train_x, np.float32)), int(train_y.max()) + 1
    found = []
    for rows in _slices(len(test_x), 512):
        similar_BN = unit_rows(np.asarray(test_x[rows], np.float32)) @ known_NK.T
        near_Bk = np.argpartition(-similar_BN, k - 1, axis=1)[:, :k]
        weights_Bk = np.exp((np.take_along_axis(similar_BN, near_Bk, 1) - 1) / VOTE_TEMPERATURE)
        votes_BC = np.zeros((len(near_Bk), n_classes))
        np.add.at(votes_BC, (np.arange(len(near_Bk))[:, None], train_y[near_Bk]), weights_Bk)
        found.append(votes_BC.argmax(1))
    return np.concatenate(found)


def _ridge(
    x_NK: Array, y_NC: Array | ClassTargets, relative_P: NDArray[np.float64] = RELATIVE_PENALTIES
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    if len(x_NK) < 2 or len(x_NK) != len(y_NC):
        raise DataError(
            f"ridge regression of {len(y_NC)} targets on {len(x_NK)} rows; it needs two rows or more, one a target."
        )
    if len(x_NK) >= x_NK.shape[1]:
        return _gathered(x_NK, y_NC).ridge(relative_P)
    y_NC = y_NC.dense() if isinstance(y_NC, ClassTargets) else y_NC  # fewer rows than coordinates: few numbers
    mean_K: NDArray[np.float64] = np.mean(x_NK, axis=0, dtype=np.float64)
    mean_C: NDArray[np.float64] = np.mean(y_NC, axis=0, dtype=np.float64)
    if not np.isfinite(mean_K).all() or not np.isfinite(mean_C).all():
        raise DataError("ridge regression met values that are not finite (NaN or Inf); remove those rows or columns.")
    weight_CK, penalty = _dual(x_NK, mean_K, y_NC - mean_C, relative_P)
    return weight_CK, mean_C - weight_CK @ mean_K, penalty


def _gathered(x_NK: Array, y_NC: Array | ClassTargets) -> Gram:
    parts = (slice(start, start + BLOCK_ROWS) for start in range(0, len(x_NK), BLOCK_ROWS))
    blocks = ((x_NK[rows], y_NC.at(rows) if isinstance(y_NC, ClassTargets) else y_NC[rows]) for rows in parts)
    return gather_gram(blocks, len(x_NK))


def _dual(
    x_NK: Array, mean_K: Array, y_NC: Array, relative_P: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Fewer rows than coordinates: eigenvectors U of the Gram matrix; no K x K matrix is formed."""
    x_NK = np.asarray(x_NK, np.float64) - mean_K
    squares_N, u_NN = np.linalg.eigh(x_NK @ x_NK.T)
    squares_N = squares_N.clip(0)
    penalties_P = penalties_of(squares_N.sum() / x_NK.shape[1], relative_P)
    projected_NC = np.asarray(u_NN.T @ y_NC, np.float64)
    shrink_PN = squares_N / (squares_N + penalties_P[:, None])
    penalty = float(penalties_P[least_error([(u_NN, DenseTargets(y_NC))], shrink_PN, projected_NC, len(x_NK))])
    dual_NC = u_NN @ (projected_NC / (squares_N + penalty)[:, None])
    weight_CK: NDArray[np.float64] = dual_NC.T @ x_NK
    return weight_CK, penalty


def unit_rows(x_ND: NDArray[Float]) -> NDArray[Float]:
    """Rows of length 1, in the dtype given (float32 or float64); rows that are 0 stay 0, equally far from all."""
    lengths_N1 = np.linalg.norm(x_ND, axis=1, keepdims=True)
    unit_ND: NDArray[Float] = np.divide(x_ND, lengths_N1, out=np.zeros_like(x_ND), where=lengths_N1 > 0)
    return unit_ND


def _slices(rows: int, block: int) -> Iterator[slice]:
    return (slice(start, start + block) for start in range(0, rows, block))
