"""Ridge regression from sums over rows, gathered in one pass: one Gram matrix serves every linear map of the rows.

With centred rows X, targets Y and scatter S = X'X, the rows X R have the scatter R'S R and the cross products R'X'Y, so a
head on projected rows needs the projected sums and never the projected rows. The penalty is that of the least leave-one-out error
(tcs.probes.leave_one_out); above LOO_ROWS rows the residuals of that many evenly spaced rows choose it, and those rows are kept with
the sums.

Legend: N rows, K coordinates (J after a map, A kept), C outputs, P penalties, B rows of a block, M rows that choose the
penalty. All arithmetic is float64.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcs.errors import DataError
from tcs.probes.leave_one_out import least_error
from tcs.probes.targets import ClassTargets, DenseTargets, Targets

Array = NDArray[np.floating]
F64 = NDArray[np.float64]

# Times the mean of the K eigenvalues of X'X, that is n times the mean variance of a coordinate.
RELATIVE_PENALTIES = 10.0 ** np.arange(-6, 4.25, 0.5)
LOO_ROWS = 8192
LOO_BLOCK = 4096


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Gram:
    """Sums of N rows (K) and their targets (C), all about the mean, and M of the rows themselves with their targets. All float64."""

    n_rows: int
    mean_K: F64
    mean_C: F64
    scatter_KK: F64
    cross_KC: F64
    sample_MK: F64
    sample_targets: Targets

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
        is_first = np.array_equal(active_A, np.arange(len(active_A)))  # those of the rows are then not copied
        return dataclasses.replace(
            self,
            mean_K=self.mean_K[active_A],
            scatter_KK=self.scatter_KK[np.ix_(active_A, active_A)],
            cross_KC=self.cross_KC[active_A],
            sample_MK=self.sample_MK[:, : len(active_A)] if is_first else self.sample_MK[:, active_A],
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
        shrink_PK = 1 / (squares_K + penalties_P[:, None])
        slices = (slice(start, start + LOO_BLOCK) for start in range(0, len(self.sample_MK), LOO_BLOCK))
        blocks = [(self.sample_MK[rows] @ v_KK, self.sample_targets.at(rows)) for rows in slices]
        penalty = float(penalties_P[least_error(blocks, shrink_PK, projected_KC, self.n_rows)])
        weight_CK: F64 = (v_KK @ (projected_KC / (squares_K + penalty)[:, None])).T
        return weight_CK, self.mean_C - weight_CK @ self.mean_K, penalty


def gather_gram(blocks: Iterable[tuple[Array, Array | ClassTargets]], n_rows: int) -> Gram:
    """The sums of `n_rows` rows, given as blocks of rows (B, K) and their targets (B, C): numbers, or classes.

    Products are taken about the mean of the first block, so that a mean far from zero costs no digits. DataError for fewer
    than two rows, or values that are not finite.
    """
    if n_rows < 2:
        raise DataError(f"ridge regression has {n_rows} rows; it needs two or more.")
    sampled_M = np.linspace(0, n_rows - 1, min(n_rows, LOO_ROWS)).astype(np.int64)
    sums: list[F64] = []
    samples: list[tuple[F64, Any]] = []
    start = 0
    for x_BK, given in blocks:
        targets = given if isinstance(given, ClassTargets) else DenseTargets(given)
        if not sums:
            origin_K: F64 = x_BK.mean(axis=0, dtype=np.float64)
            width, outputs = x_BK.shape[1], targets.outputs
            sums = [np.zeros(width), np.zeros(outputs), np.zeros((width, width)), np.zeros((width, outputs))]
        with np.errstate(invalid="ignore"):  # told below
            block_BK: F64 = x_BK - origin_K
            parts = (block_BK.sum(axis=0), targets.sums(), block_BK.T @ block_BK, targets.cross(block_BK))
            for total, part in zip(sums, parts, strict=True):
                total += part
        inside_M = sampled_M[(sampled_M >= start) & (sampled_M < start + len(x_BK))] - start
        samples.append((block_BK[inside_M], targets.at(inside_M)))
        start += len(x_BK)
    assert start == n_rows
    if not np.isfinite(sums[0]).all() or not np.isfinite(sums[1]).all():
        raise DataError("ridge regression met values that are not finite (NaN or Inf); remove those rows or columns.")
    shift_K, mean_C = sums[0] / n_rows, sums[1] / n_rows
    first, *others = (targets for _, targets in samples)
    return Gram(
        n_rows=n_rows,
        mean_K=origin_K + shift_K,
        mean_C=mean_C,
        scatter_KK=sums[2] - n_rows * np.outer(shift_K, shift_K),
        cross_KC=sums[3] - n_rows * np.outer(shift_K, mean_C),
        sample_MK=np.concatenate([x_MK for x_MK, _ in samples]) - shift_K,
        sample_targets=first.joined(others).about(mean_C),
    )


def penalties_of(mean_square: float, relative_P: F64) -> F64:
    """Penalties (P,) for rows whose scatter has eigenvalues of this mean."""
    scale = mean_square if mean_square > 0 else 1.0  # constant rows: any penalty gives weight zero
    return relative_P * scale
