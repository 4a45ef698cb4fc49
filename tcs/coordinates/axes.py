"""Axes of a feature space and their scales, from a covariance: principal, random, learned, or the features themselves.

Legend: D features, K coordinates. Axes are columns; arithmetic is float64.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tcs.errors import ConfigError, DataError, did_you_mean
from tcs.runtime import seed_for

SPECTRUM_FLOOR = 1e-3  # times lambda_1: keeps directions that are mostly noise from being blown up when power > 0
F64 = NDArray[np.float64]
METHODS = ("pca", "random", "jl", "autoencoder", "identity")
AUTOENCODER_STEPS, AUTOENCODER_RATE = 1000, 0.03


def make_axes(covariance_DD: F64, method: str, seed: int, components: int | None = None) -> tuple[F64, F64]:
    """Axes (D, D) and the variances (D,) along them; `method` is one of METHODS.

    They are orthonormal but for `jl`. `components` (None: D) is how wide the bottleneck of `autoencoder` is: its span fills
    the first columns, the rest completes them.
    """
    if method not in METHODS:
        raise ConfigError(
            f"--method is '{method}'; it must be one of {', '.join(METHODS)}.{did_you_mean(method, METHODS)}"
        )
    if method == "pca":
        return principal_axes(covariance_DD)
    dims = len(covariance_DD)
    if method == "random":
        basis_DD = random_axes(dims, seed)
    elif method == "jl":
        basis_DD = gaussian_axes(dims, seed)
    elif method == "autoencoder":
        basis_DD = autoencoder_axes(covariance_DD, dims if components is None else components, seed)
    else:
        basis_DD = np.eye(dims)
    return basis_DD, np.einsum("dk,dk->k", basis_DD, covariance_DD @ basis_DD).clip(0)


def block_weights(covariance_DD: F64, widths: Sequence[int]) -> F64:
    """Weights (D,) by which blocks of `widths` columns (several teachers' features side by side) come to the same total variance.

    DataError where a block does not vary.
    """
    totals = [float(part.sum()) for part in np.split(covariance_DD.diagonal(), np.cumsum(widths)[:-1])]
    if min(totals) <= 0:
        raise DataError(
            f"the features of store {1 + totals.index(min(totals))} of {len(totals)} do not vary; check its images and readout, or "
            "leave it out."
        )
    return np.repeat([(len(totals) * total) ** -0.5 for total in totals], widths)


def weighed(covariance_DD: F64, weights_D: F64) -> F64:
    """The covariance of columns that are multiplied by `weights_D`."""
    return np.asarray(weights_D[:, None] * covariance_DD * weights_D)


def principal_axes(covariance_DD: F64) -> tuple[F64, F64]:
    """Eigenvectors as columns (D, D), largest entry positive, and eigenvalues (D,) >= 0, falling."""
    spectrum_D, basis_DD = np.linalg.eigh(covariance_DD)
    return with_fixed_signs(basis_DD[:, ::-1]), spectrum_D[::-1].clip(0)


def random_axes(dims: int, seed: int) -> F64:
    """Orthonormal columns (D, D), uniform over rotations (and reflections): Q of a Gaussian matrix, signs fixed."""
    generator = np.random.default_rng(seed_for(seed, "random axes"))
    return with_fixed_signs(np.linalg.qr(generator.standard_normal((dims, dims)))[0])


def gaussian_axes(dims: int, seed: int) -> F64:
    """Columns (D, D) of independent N(0, 1/D): a Johnson-Lindenstrauss projection. Not orthonormal; scales come later."""
    generator = np.random.default_rng(seed_for(seed, "gaussian axes"))
    gaussian_DD: F64 = generator.standard_normal((dims, dims)) / np.sqrt(dims)
    return gaussian_DD


def jl_projection(dims: int, components: int, seed: int) -> F64:
    """R (D, K) of independent N(0, 1/K), so that |R'f|^2 is |f|^2 on average: the first K columns of `gaussian_axes`, rescaled."""
    projection_DK: F64 = gaussian_axes(dims, seed)[:, :components] * np.sqrt(dims / components)
    return projection_DK


def autoencoder_axes(covariance_DD: F64, components: int, seed: int) -> F64:
    """Orthonormal columns (D, D), the first K spanning the encoder of a trained linear auto-encoder (RdimKD-A).

    Encoder and decoder, K wide, start at random and take AUTOENCODER_STEPS Adam steps on the mean squared reconstruction
    error, whose gradient needs the covariance alone. Orthonormalised, so that a loss in these axes weighs as in others.
    """
    dims = len(covariance_DD)
    covariance_DD = covariance_DD / max(float(np.trace(covariance_DD)), np.finfo(np.float64).tiny)
    generator = np.random.default_rng(seed_for(seed, "auto-encoder"))
    encoder_DK = generator.standard_normal((dims, components)) / np.sqrt(dims)
    decoder_KD = generator.standard_normal((components, dims)) / np.sqrt(dims)
    parts = [encoder_DK, decoder_KD]
    first, second = ([np.zeros_like(part) for part in parts] for _ in range(2))
    for step in range(1, AUTOENCODER_STEPS + 1):
        error_DD = covariance_DD @ (encoder_DK @ decoder_KD - np.eye(dims))  # C (E D - I), of tr (ED - I)' C (ED - I)
        gradients = [2 * error_DD @ decoder_KD.T, 2 * encoder_DK.T @ error_DD]
        rate = AUTOENCODER_RATE * (1 - (step - 1) / AUTOENCODER_STEPS)
        for i, (part, gradient) in enumerate(zip(parts, gradients, strict=True)):
            first[i] = 0.9 * first[i] + 0.1 * gradient
            second[i] = 0.999 * second[i] + 0.001 * gradient**2
            part -= rate * (first[i] / (1 - 0.9**step)) / (np.sqrt(second[i] / (1 - 0.999**step)) + 1e-12)
    return with_fixed_signs(np.linalg.qr(encoder_DK, mode="complete")[0])


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


def effective_rank(spectrum_D: NDArray[np.floating]) -> float:
    """exp of the entropy of the normalised spectrum (Roy and Vetterli, EUSIPCO 2007): D where all variances are equal, 1 of a single one
    and where there is none."""
    positive_A = spectrum_D[spectrum_D > 0].astype(np.float64)
    if not len(positive_A):
        return 1.0
    shares_A = positive_A / positive_A.sum()
    return float(np.exp(-(shares_A * np.log(shares_A)).sum()))


def with_fixed_signs(basis_DK: F64) -> F64:
    """The same axes, each with its largest entry positive."""
    largest_K = np.abs(basis_DK).argmax(axis=0)
    signs_K = np.where(basis_DK[largest_K, np.arange(basis_DK.shape[1])] < 0, -1.0, 1.0)
    signed_DK: F64 = basis_DK * signs_K
    return signed_DK
