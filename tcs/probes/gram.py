"""Ridge regression from sums over rows, gathered in one pass: one Gram matrix serves every linear map of the rows.

With centred rows X, targets Y and scatter S = X'X, the rows X R have the scatter R'S R and the cross products R'X'Y, so a
head on projected rows needs the projected sums and never the projected rows. The exact leave-one-out residual of row i is
(y_i - yhat_i) / (1 - h_ii) (Allen's PRESS); above LOO_ROWS rows the residuals of that many evenly spaced rows choose the
penalty, and those rows are kept with the sums.

Legend: N rows, K coordinates (J after a map, A kept), C outputs, P penalties, B rows of a block, M rows that choose the
penalty. All arithmetic is float64.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tcs.errors import DataError

Array = NDArray[np.floating]
F64 = NDArray[np.float64]

# Times the mean of the K eigenvalues of X'X, that is n times the mean variance of a coordinate.
RELATIVE_PENALTIES = 10.0 ** np.arange(-6, 4.25, 0.5)
LOO_ROWS = 8192
LOO_BLOCK = 4096
FEW_OUTPUTS = 0.5  # of J; below it a residual for each output is the cheaper way
LEAST_FREE = 1e-2  # of 1 - h: a row that is nearly reproduced has a residual that differences of squares would lose


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Gram:
    """Sums of N rows (K) and their targets (C), all about the mean, and M of the rows themselves. All float64."""

    n_rows: int
    mean_K: F64
    mean_C: F64
    scatter_KK: F64
    cross_KC: F64
    sample_MK: F64
    sample_MC: F64

    @property
    def variances(self) -> F64:
        """Variance of every coordinate (K,), biased."""
        return np.diag(self.scatter_KK) / self.n_rows

    def mapped(self, axes_KJ: Array) -> "Gram":
        """The sums of the rows X R, for R = `axes_KJ`."""
        axes_KJ = np.asarray(axes_KJ, np.float64)
        return dataclasses.replace(
            self,
            mean_K=self.mean_K @ axes_KJ,
            scatter_KK=axes_KJ.T @ self.scatter_KK @ axes_KJ,
            cross_KC=axes_KJ.T @ self.cross_KC,
            sample_MK=self.sample_MK @ axes_KJ,
        )

    def kept(self, active_A: NDArray[np.integer]) -> "Gram":
        """The sums of the coordinates `active_A` alone."""
        return dataclasses.replace(
            self,
            mean_K=self.mean_K[active_A],
            scatter_KK=self.scatter_KK[np.ix_(active_A, active_A)],
            cross_KC=self.cross_KC[active_A],
            sample_MK=self.sample_MK[:, active_A],
        )

    def scaled(self, scales_K: Array) -> "Gram":
        """The sums of the rows with every coordinate times its scale."""
        scales_K = np.asarray(scales_K, np.float64)
        return dataclasses.replace(
            self,
            mean_K=self.mean_K * scales_K,
            scatter_KK=self.scatter_KK * np.outer(scales_K, scales_K),
            cross_KC=self.cross_KC * scales_K[:, None],
            sample_MK=self.sample_MK * scales_K,
        )

    def ridge(self, relative_P: F64 = RELATIVE_PENALTIES) -> tuple[F64, F64, float]:
        """Weight (C, K), bias (C,) and the penalty of least leave-one-out squared error among `relative_P` (times the scale)."""
        squares_K, v_KK = np.linalg.eigh(self.scatter_KK)
        squares_K = squares_K.clip(0)
        penalties_P = penalties_of(float(squares_K.mean()), relative_P)
        projected_KC = v_KK.T @ self.cross_KC
        errors_P = np.zeros(len(penalties_P))
        shrink_PK = 1 / (squares_K + penalties_P[:, None])
        for start in range(0, len(self.sample_MK), LOO_BLOCK):
            rows = slice(start, start + LOO_BLOCK)
            add_loo_errors(
                errors_P, self.sample_MK[rows] @ v_KK, shrink_PK, projected_KC, self.sample_MC[rows], self.n_rows
            )
        penalty = float(penalties_P[errors_P.argmin()])
        weight_CK: F64 = (v_KK @ (projected_KC / (squares_K + penalty)[:, None])).T
        return weight_CK, self.mean_C - weight_CK @ self.mean_K, penalty


def gather_gram(blocks: Iterable[tuple[Array, Array]], n_rows: int) -> Gram:
    """The sums of `n_rows` rows, given as blocks of rows (B, K) and their targets (B, C).

    Products are taken about the mean of the first block, so that a mean far from zero costs no digits. DataError for fewer
    than two rows, or values that are not finite.
    """
    if n_rows < 2:
        raise DataError(f"ridge regression has {n_rows} rows; it needs two or more.")
    sampled_M = np.linspace(0, n_rows - 1, min(n_rows, LOO_ROWS)).astype(np.int64)
    sums: list[F64] = []
    samples: list[tuple[F64, F64]] = []
    start = 0
    for x_BK, y_BC in blocks:
        if not sums:
            origin_K: F64 = x_BK.mean(axis=0, dtype=np.float64)
            width, outputs = x_BK.shape[1], y_BC.shape[1]
            sums = [np.zeros(width), np.zeros(outputs), np.zeros((width, width)), np.zeros((width, outputs))]
        with np.errstate(invalid="ignore"):  # told below
            block_BK: F64 = x_BK - origin_K
            for total, part in zip(sums, _sums(block_BK, y_BC), strict=True):
                total += part
        inside_M = sampled_M[(sampled_M >= start) & (sampled_M < start + len(x_BK))] - start
        samples.append((block_BK[inside_M], np.asarray(y_BC[inside_M], np.float64)))
        start += len(x_BK)
    assert start == n_rows
    if not np.isfinite(sums[0]).all() or not np.isfinite(sums[1]).all():
        raise DataError("ridge regression met values that are not finite (NaN or Inf); remove those rows or columns.")
    shift_K, mean_C = sums[0] / n_rows, sums[1] / n_rows
    return Gram(
        n_rows=n_rows,
        mean_K=origin_K + shift_K,
        mean_C=mean_C,
        scatter_KK=sums[2] - n_rows * np.outer(shift_K, shift_K),
        cross_KC=sums[3] - n_rows * np.outer(shift_K, mean_C),
        sample_MK=np.concatenate([x_MK for x_MK, _ in samples]) - shift_K,
        sample_MC=np.concatenate([y_MC for _, y_MC in samples]) - mean_C,
    )


def _sums(x_BK: F64, y_BC: Array) -> tuple[F64, F64, F64, F64]:
    return x_BK.sum(axis=0), y_BC.sum(axis=0, dtype=np.float64), x_BK.T @ x_BK, x_BK.T @ y_BC


def signed_targets(labels_N: NDArray[np.integer], n_classes: int) -> F64:
    """+-1 one-hot targets (N, C), float64. DataError where a label lies outside 0..n_classes-1."""
    if len(labels_N) and (labels_N.min() < 0 or labels_N.max() >= n_classes):
        raise DataError(f"labels run from {labels_N.min()} to {labels_N.max()}; they must lie in 0..{n_classes - 1}.")
    targets_NC = np.full((len(labels_N), n_classes), -1.0)
    targets_NC[np.arange(len(labels_N)), labels_N] = 1.0
    return targets_NC


def penalties_of(mean_square: float, relative_P: F64) -> F64:
    """Penalties (P,) for rows whose scatter has eigenvalues of this mean."""
    scale = mean_square if mean_square > 0 else 1.0  # constant rows: any penalty gives weight zero
    return relative_P * scale


def add_loo_errors(errors_P: F64, basis_BJ: Array, shrink_PJ: Array, projected_JC: Array, y_BC: Array, n: int) -> None:
    """Add the squared leave-one-out errors of a block of rows; predictions yhat are basis * shrink * projected.

    Of many outputs |y - yhat|^2 is |y|^2 - 2 y.yhat + |yhat|^2, which no B x C matrix a penalty is needed for: y.yhat is one product
    for all penalties, and |yhat|^2 reads the J x J matrix of the outputs' products.
    """
    free_BP = 1 - (1 / n + (basis_BJ**2) @ shrink_PJ.T)
    by_products = y_BC.shape[1] >= FEW_OUTPUTS * basis_BJ.shape[1]
    outer_JJ = projected_JC @ projected_JC.T if by_products else None
    shared_BJ = basis_BJ * (y_BC @ projected_JC.T) if by_products else None
    lengths_B = np.einsum("bc,bc->b", y_BC, y_BC)
    for index, shrink_J in enumerate(shrink_PJ):
        free_B = free_BP[:, index]
        if outer_JJ is None or shared_BJ is None or np.abs(free_B).min() < LEAST_FREE:
            residual_BC = y_BC - basis_BJ @ (shrink_J[:, None] * projected_JC)
            squares_B = np.einsum("bc,bc->b", residual_BC, residual_BC)
        else:
            scaled_BJ = basis_BJ * shrink_J
            fitted_B = np.einsum("bj,bj->b", scaled_BJ @ outer_JJ, scaled_BJ)
            squares_B = lengths_B - 2 * (shared_BJ @ shrink_J) + fitted_B
        errors_P[index] += float((squares_B / free_B**2).sum())
