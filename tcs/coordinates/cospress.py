"""Axes learned from rows: a linear compression of the feature space that keeps the cosines between rows.

After CosPress (Mannix and Bondell, TMLR 2025, arXiv 2411.15239). Principal axes keep squared lengths, so rows far from the mean
decide them; here every pair of rows counts alike. What is minimised over P (D x K) is the mean over pairs of rows of

    (cos(x_i - o, x_j - o) - cos((x_i - o) P, (x_j - o) P))^2,

o the mean: about the origin, cosines of self-supervised features all lie near 1. The distance, squared, is this toolkit's: the
text at hand names none. Adam on batches of rows that are drawn from the store, so that memory is O(D K + B D) for any number of rows.

Legend: N rows, B rows of a batch, D features, K coordinates. Products of rows are float32, the axes float64.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tcs.coordinates.axes import principal_axes, with_fixed_signs
from tcs.coordinates.vectors import ReadsRows
from tcs.runtime import progress_bar, seed_for

STEPS = 300
BATCH_ROWS = 512
RATE = (
    0.003  # of Adam, falling to 0; at 0.02 axes that were good already (192 dims to 64) left their start for worse ones
)
MOMENTS = (0.9, 0.99)
SMALLEST = 1e-12
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


def cospress_axes(features: ReadsRows, mean_D: F64, covariance_DD: F64, components: int, seed: int) -> tuple[F64, F64]:
    """Axes (D, D) and the variances (D,) along them; the first K are the compression, the rest complete them.

    It starts at the first K principal axes. A rotation of the coordinates changes no cosine: they are turned so that their
    covariance is diagonal and falls. Columns have a mean squared length of 1 and are not orthonormal; the same seed gives the
    same bits on one machine.
    """
    axes_DK = principal_axes(covariance_DD)[0][:, :components].copy()
    first_DK, second_DK = np.zeros_like(axes_DK), np.zeros_like(axes_DK)
    origin_D = mean_D.astype(np.float32)
    with progress_bar(STEPS, "cosine axes", "steps") as bar:
        for step, rows_B in enumerate(_batches(features.shape[0], seed), start=1):
            centred_BD = np.asarray(features[rows_B], np.float32) - origin_D
            value, gradient_DK = cosine_error(axes_DK, centred_BD)
            first_DK += (1 - MOMENTS[0]) * (gradient_DK - first_DK)
            second_DK += (1 - MOMENTS[1]) * (gradient_DK**2 - second_DK)
            scale_DK = np.sqrt(second_DK / (1 - MOMENTS[1] ** step)) + SMALLEST
            rate = RATE * (1 - (step - 1) / STEPS) / (1 - MOMENTS[0] ** step)
            axes_DK -= rate * first_DK / scale_DK
            bar.advance(1, f"error of a cosine {value**0.5:.3f}")
    basis_DD = _completed(axes_DK, covariance_DD)
    return basis_DD, np.einsum("dk,dk->k", basis_DD, covariance_DD @ basis_DD).clip(0)


def cosine_error(axes_DK: F64, centred_BD: F32) -> tuple[float, F64]:
    """The mean over pairs of different rows of the squared change of their cosine, and its gradient (D, K)."""
    pairs = max(1, len(centred_BD) * (len(centred_BD) - 1))
    z_BK = centred_BD @ axes_DK.astype(np.float32)
    length_B1 = np.maximum(np.linalg.norm(z_BK, axis=1, keepdims=True), SMALLEST)
    unit_BK, whole_BD = z_BK / length_B1, _unit(centred_BD)
    error_BB = unit_BK @ unit_BK.T - whole_BD @ whole_BD.T
    np.fill_diagonal(error_BB, 0)
    slope_BK = (4 / pairs) * (error_BB @ unit_BK)
    along_B1 = (slope_BK * unit_BK).sum(axis=1, keepdims=True)
    gradient_DK = centred_BD.T @ ((slope_BK - along_B1 * unit_BK) / length_B1)
    return float(np.square(error_BB, dtype=np.float64).sum() / pairs), gradient_DK.astype(np.float64)


def _unit(x_BD: F32) -> F32:
    unit_BD: F32 = x_BD / np.maximum(np.linalg.norm(x_BD, axis=1, keepdims=True), SMALLEST)
    return unit_BD


def _batches(n_rows: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """STEPS batches of different rows, rising: through an order of all rows that is drawn anew when it is used up."""
    generator = np.random.default_rng(seed_for(seed, "cosine axes"))
    size = min(BATCH_ROWS, n_rows)
    left_n = np.empty(0, np.int64)
    for _ in range(STEPS):
        if len(left_n) < size:
            left_n = generator.permutation(n_rows)
        batch_B, left_n = left_n[:size], left_n[size:]
        yield np.sort(batch_B)


def _completed(axes_DK: F64, covariance_DD: F64) -> F64:
    """The axes turned, signed and scaled, and behind them an orthonormal basis of what is orthogonal to all of them."""
    turn_KK, _ = principal_axes(axes_DK.T @ covariance_DD @ axes_DK)
    axes_DK = axes_DK @ turn_KK
    axes_DK *= np.sqrt(axes_DK.shape[1]) / max(float(np.linalg.norm(axes_DK)), SMALLEST)
    rest_Dr = np.linalg.qr(axes_DK, mode="complete")[0][:, axes_DK.shape[1] :]
    return with_fixed_signs(np.concatenate([axes_DK, rest_Dr], axis=1))
