"""Axes of a feature space and their scales, from a covariance: principal, random or the features themselves.

Shapes: D features, K coordinates. Axes are columns; arithmetic is float64.
"""

import numpy as np
from numpy.typing import NDArray

from tcs.errors import ConfigError, DataError
from tcs.runtime import seed_for

SPECTRUM_FLOOR = 1e-3  # times lambda_1: keeps directions that are mostly noise from being blown up when power > 0

F64 = NDArray[np.float64]


def make_axes(covariance_DD: F64, method: str, seed: int) -> tuple[F64, F64]:
    """Orthonormal axes (D, D) and the variances (D,) along them; `method` is pca, random or identity."""
    if method == "pca":
        return principal_axes(covariance_DD)
    if method == "random":
        basis_DD = random_axes(len(covariance_DD), seed)
        return basis_DD, np.einsum("dk,dk->k", basis_DD, covariance_DD @ basis_DD).clip(0)
    if method == "identity":
        return np.eye(len(covariance_DD)), np.diag(covariance_DD).copy()
    raise ConfigError(f"--method is '{method}'; it must be one of pca, random, identity.")


def principal_axes(covariance_DD: F64) -> tuple[F64, F64]:
    """Eigenvectors as columns (D, D), largest entry positive, and eigenvalues (D,) >= 0, falling."""
    spectrum_D, basis_DD = np.linalg.eigh(covariance_DD)
    return _with_fixed_signs(basis_DD[:, ::-1]), spectrum_D[::-1].clip(0)


def random_axes(dims: int, seed: int) -> F64:
    """Orthonormal columns (D, D), uniform over rotations (and reflections): Q of a Gaussian matrix, signs fixed."""
    generator = np.random.default_rng(seed_for(seed, "random axes"))
    return _with_fixed_signs(np.linalg.qr(generator.standard_normal((dims, dims)))[0])


def axis_scales(spectrum_D: NDArray[np.floating], components: int, power: float) -> NDArray[np.float32]:
    """Scales (K,) of the first `components` axes, float32; DataError where those axes have no variance at all."""
    variances_K = np.asarray(spectrum_D[:components], np.float64)
    if variances_K.max() <= 0:
        raise DataError(
            f"the features do not vary along the first {components} axes; check the store's images and readout."
        )
    scales_K = (variances_K + SPECTRUM_FLOOR * float(np.max(spectrum_D))) ** (-power / 2)
    scales_K /= np.sqrt(np.mean(scales_K**2 * variances_K))
    return scales_K.astype(np.float32)


def _with_fixed_signs(basis_DK: F64) -> F64:
    largest_K = np.abs(basis_DK).argmax(axis=0)
    signs_K = np.where(basis_DK[largest_K, np.arange(basis_DK.shape[1])] < 0, -1.0, 1.0)
    signed_DK: F64 = basis_DK * signs_K
    return signed_DK
