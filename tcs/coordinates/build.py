"""Coordinate systems made of features: moments, axes of every method, and several teachers' blocks weighed alike.

Legend: N rows, D features, K coordinates.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tcs.coordinates.axes import axis_scales, block_weights, make_axes, weighed
from tcs.coordinates.cospress import cospress_axes
from tcs.coordinates.moments import Blocks, streaming_moments
from tcs.coordinates.system import CoordinateSystem, resolve_components
from tcs.coordinates.vectors import ReadsRows, WeighedVectors


def fit_coordinates(
    features: Blocks | NDArray[np.floating],
    *,
    method: str = "pca",
    components: int | None = None,
    power: float = 0.0,
    seed: int = 0,
    store_identity: str = "",
    teacher_identity: str = "",
    readout: str = "",
    widths: Sequence[int] = (),
) -> CoordinateSystem:
    """Fit to every row of `features` (N, D); `components` None means min(256, D). `widths`: of the blocks of columns that are to
    weigh the same, those of `Store.widths`.

    ConfigError where `components` exceeds D; DataError where the features are not finite or do not vary.
    """
    mean_D, covariance_DD = streaming_moments(features)
    system = build_coordinates(
        mean_D, covariance_DD, features.shape[0], method, components, power, seed, widths, features
    )
    return dataclasses.replace(
        system, store_identity=store_identity, teacher_identity=teacher_identity, readout=readout
    )


def build_coordinates(
    mean_D: NDArray[np.float64],
    covariance_DD: NDArray[np.float64],
    rows_fitted: int,
    method: str,
    components: int | None,
    power: float,
    seed: int,
    widths: Sequence[int] = (),
    features: ReadsRows | None = None,
) -> CoordinateSystem:
    """The coordinate system of features with these moments (float64), without its parents; `cospress` reads `features` (N, D) too."""
    components = resolve_components(components, len(mean_D))
    if len(widths) > 1:
        weights_D = block_weights(covariance_DD, widths)
        read = None if features is None else WeighedVectors(features, weights_D)
        weighed_DD = weighed(covariance_DD, weights_D)
        basis_DD, spectrum_D = _axes(weights_D * mean_D, weighed_DD, method, components, seed, read)
        basis_DD = weights_D[:, None] * basis_DD
    else:
        basis_DD, spectrum_D = _axes(mean_D, covariance_DD, method, components, seed, features)
    return CoordinateSystem(
        method=method,
        power=power,
        origin_D=mean_D.astype(np.float32),
        basis_DK=np.ascontiguousarray(basis_DD[:, :components], np.float32),
        scales_K=axis_scales(spectrum_D, components, power),
        spectrum_D=spectrum_D.astype(np.float32),
        rows_fitted=rows_fitted,
        seed=seed,
    )


def _axes(
    mean_D: NDArray[np.float64],
    covariance_DD: NDArray[np.float64],
    method: str,
    components: int,
    seed: int,
    features: ReadsRows | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if method != "cospress":
        return make_axes(covariance_DD, method, seed, components)
    assert features is not None
    return cospress_axes(features, mean_D, covariance_DD, components, seed)
