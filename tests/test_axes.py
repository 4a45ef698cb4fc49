"""Axes and scales against numpy's SVD and their own definitions. D features, K coordinates."""

import numpy as np
import pytest

from tcs.coordinates.axes import axis_scales, jl_projection, make_axes, principal_axes, random_axes
from tcs.errors import ConfigError, DataError


def covariance(dims=10, seed=0):
    generator = np.random.default_rng(seed)
    basis = np.linalg.qr(generator.normal(size=(dims, dims)))[0]
    return (basis * np.geomspace(9, 0.01, dims)) @ basis.T


def test_principal_axes_diagonalise_and_fall():
    matrix = covariance()
    basis, spectrum = principal_axes(matrix)
    np.testing.assert_allclose(basis.T @ matrix @ basis, np.diag(spectrum), atol=1e-12)
    np.testing.assert_allclose(spectrum, np.geomspace(9, 0.01, 10), rtol=1e-9)


@pytest.mark.parametrize("method", ["pca", "random", "autoencoder", "identity"])
def test_axes_are_orthonormal_signed_and_carry_their_variances(method):
    matrix = covariance()
    basis, spectrum = make_axes(matrix, method, 5)
    np.testing.assert_allclose(basis.T @ basis, np.eye(10), atol=1e-12)
    np.testing.assert_allclose(spectrum, np.diag(basis.T @ matrix @ basis), atol=1e-12)
    assert (basis[np.abs(basis).argmax(0), np.arange(10)] > 0).all()


def test_signs_do_not_depend_on_the_decomposition():
    matrix = covariance()
    flipped = np.diag([1, -1] * 5)
    np.testing.assert_allclose(
        np.abs(principal_axes(flipped @ matrix @ flipped)[0]), np.abs(principal_axes(matrix)[0]), atol=1e-9
    )
    left = np.linalg.svd(matrix)[0]
    left = left * np.sign(left[np.abs(left).argmax(0), np.arange(10)])
    np.testing.assert_allclose(principal_axes(matrix)[0], left, atol=1e-9)


def test_random_axes_follow_the_seed():
    np.testing.assert_array_equal(random_axes(6, 1), random_axes(6, 1))
    assert np.abs(random_axes(6, 1) - random_axes(6, 2)).max() > 0.1


def test_a_jl_projection_has_entries_of_variance_one_over_its_width():
    r_DK = jl_projection(400, 25, seed=3)
    assert r_DK.shape == (400, 25)
    assert r_DK.var() == pytest.approx(1 / 25, rel=0.05)
    assert abs(r_DK.mean()) < 0.01
    rows_ND = np.random.default_rng(0).standard_normal((200, 400))
    assert np.square(rows_ND @ r_DK).sum(1).mean() == pytest.approx(np.square(rows_ND).sum(1).mean(), rel=0.1)
    assert np.allclose(jl_projection(400, 50, seed=3)[:, :25] * np.sqrt(2), r_DK)


def test_gaussian_axes_keep_squared_lengths_on_average():
    basis, spectrum = make_axes(covariance(200), "jl", 3)
    np.testing.assert_array_equal(basis, make_axes(covariance(200), "jl", 3)[0])
    x = np.random.default_rng(0).normal(size=(50, 200))
    ratios = ((x @ basis) ** 2).sum(1) / (x**2).sum(1)
    assert ratios.mean() == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(spectrum, np.diag(basis.T @ covariance(200) @ basis), rtol=1e-9)


def reconstruction(matrix, basis):
    """Share of the variance inside the span of orthonormal columns."""
    return np.trace(basis.T @ matrix @ basis) / np.trace(matrix)


def test_a_linear_autoencoder_learns_nearly_the_principal_subspace():
    matrix = covariance(20)
    best = reconstruction(matrix, principal_axes(matrix)[0][:, :4])
    learned = reconstruction(matrix, make_axes(matrix, "autoencoder", 1, 4)[0][:, :4])
    chance = reconstruction(matrix, make_axes(matrix, "random", 1)[0][:, :4])
    assert chance < 0.7 * best
    assert 0.98 * best < learned <= best + 1e-9


def test_rounding_never_makes_a_variance_negative():
    variances = principal_axes(np.ones((5, 5)))[1]
    assert variances[0] == pytest.approx(5)
    assert variances[1:] == pytest.approx(0, abs=1e-12)
    assert (variances >= 0).all()


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_scales_follow_the_formula_and_give_mean_variance_one(power):
    spectrum = np.array([8.0, 2.0, 0.5, 0.0])
    scales = axis_scales(spectrum, 3, power).astype(np.float64)
    assert np.mean(scales**2 * spectrum[:3]) == pytest.approx(1)
    ratio = ((8 + 8e-3) / (0.5 + 8e-3)) ** (power / 2)
    assert scales[2] / scales[0] == pytest.approx(ratio)


def test_axes_without_variance_get_a_finite_scale_beside_others():
    assert np.isfinite(axis_scales(np.array([1.0, 0.0]), 2, 1.0)).all()


def test_no_variance_at_all_is_refused():
    with pytest.raises(DataError, match="the features do not vary along the first 2 axes"):
        axis_scales(np.array([0.0, 0.0, 3.0]), 2, 0.0)


def test_an_unknown_method_is_refused():
    with pytest.raises(
        ConfigError,
        match=r"--method is 'pcb'; it must be one of pca, random, jl, autoencoder, identity.* Did you mean pca",
    ):
        make_axes(covariance(), "pcb", 0)
