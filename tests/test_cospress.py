"""Axes learned to keep cosines: against finite differences, a plain loop over pairs, and principal axes.

Legend: N rows, B rows of a batch, D features, K coordinates.
"""

import numpy as np
import pytest
from artefacts import make_store

from tcs.config.coordinates import FitConfig, TargetsConfig
from tcs.coordinates.build import fit_coordinates
from tcs.coordinates.ceiling import curve_dims
from tcs.coordinates.cospress import cosine_error, cospress_axes
from tcs.coordinates.described import describe
from tcs.coordinates.fit import fit
from tcs.coordinates.moments import streaming_moments
from tcs.coordinates.system import load_coordinates
from tcs.coordinates.targets import fit_targets, open_targets
from tcs.coordinates.vectors import EveryVector

N, D, K = 700, 24, 4


def features(seed=0):
    """Rows of very different lengths, whose directions spread over more axes than K: principal axes follow the long ones."""
    generator = np.random.default_rng(seed)
    directions = generator.standard_normal((N, D)) * np.geomspace(1.5, 0.3, D)
    lengths = np.exp(generator.standard_normal((N, 1)))
    directions[:, :2] *= np.where(lengths > 2, 4.0, 0.2)  # long rows lie along two axes
    return (lengths * directions + 3.0).astype(np.float32)


def error_by_hand(x, axes):
    """The root mean squared change of a cosine, a pair at a time."""

    def cosine(a, b):
        return a @ b / np.sqrt((a @ a) * (b @ b))

    centred = (x - x.mean(0)).astype(float)
    pairs = [(i, j) for i in range(len(x)) for j in range(len(x)) if i != j]
    return np.sqrt(
        np.mean(
            [(cosine(centred[i], centred[j]) - cosine(centred[i] @ axes, centred[j] @ axes)) ** 2 for i, j in pairs]
        )
    )


def test_the_error_is_that_of_a_loop_over_pairs():
    x, axes = features()[:40], np.random.default_rng(1).standard_normal((D, K))
    value, _ = cosine_error(axes, (x - x.mean(0)).astype(np.float32))
    assert np.sqrt(value) == pytest.approx(error_by_hand(x, axes), rel=1e-5)


def test_the_gradient_is_that_of_finite_differences():
    x = (features()[:30] - features()[:30].mean(0)).astype(np.float64)
    generator = np.random.default_rng(1)
    axes, step = generator.standard_normal((D, K)), generator.standard_normal((D, K))
    _, gradient = cosine_error(axes, x)
    ahead, behind = (cosine_error(axes + sign * 1e-2 * step, x)[0] for sign in (1, -1))
    assert (gradient * step).sum() == pytest.approx((ahead - behind) / 2e-2, rel=2e-2)


def test_learned_axes_keep_cosines_of_other_rows_better_than_principal_ones():
    train, other = features(), features(seed=1)[:80]
    errors = {
        method: error_by_hand(other, fit_coordinates(train, method=method, components=K).basis_DK)
        for method in ("pca", "cospress")
    }
    assert errors["cospress"] < 0.9 * errors["pca"]  # 0.84: 4 coordinates cannot hold 24 directions


def test_axes_are_a_function_of_the_seed():
    moments = streaming_moments(features())
    first, again, other = (cospress_axes(features(), *moments, K, seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-6


def test_coordinates_are_uncorrelated_fall_in_variance_and_are_signed_and_scaled():
    mean, covariance = streaming_moments(features())
    basis, spectrum = cospress_axes(features(), mean, covariance, K, 3)
    assert basis.shape == (D, D)
    inside = basis[:, :K].T @ covariance @ basis[:, :K]
    np.testing.assert_allclose(inside, np.diag(spectrum[:K]), atol=1e-8 * spectrum[0])
    assert (np.diff(spectrum[:K]) <= 0).all()
    assert np.square(basis[:, :K]).sum() == pytest.approx(K)
    assert (basis[np.abs(basis).argmax(0), np.arange(D)] > 0).all()
    rest = basis[:, K:]
    np.testing.assert_allclose(rest.T @ rest, np.eye(D - K), atol=1e-10)
    np.testing.assert_allclose(rest.T @ basis[:, :K], 0, atol=1e-10)
    z = fit_coordinates(features(), method="cospress", components=K, seed=3).transform(features())
    assert z.var(axis=0, ddof=1).mean() == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("rows", [2, 30])
def test_few_or_equal_rows_are_finite(rows):
    x = features()[:rows].copy()
    x[-1] = x[0]
    x[: rows // 2] = x.mean(0)
    assert np.isfinite(
        fit_coordinates(np.concatenate([x, features()[:2]]), method="cospress", components=2).basis_DK
    ).all()


@pytest.mark.parametrize("shape", [{}, {"grid": (2, 3)}, {"views": 2}])
def test_a_store_is_fitted_as_its_rows_in_memory_are(tmp_path, shape):
    store = make_store(tmp_path / "a.store", **shape)
    config = FitConfig(
        store=str(tmp_path / "a.store"),
        out=str(tmp_path / "c.safetensors"),
        method="cospress",
        components=5,
        ceiling_shots=(4,),
    )
    system = fit(config)
    vectors = EveryVector(store.features())
    whole = vectors[np.arange(len(vectors))]
    np.testing.assert_allclose(
        system.basis_DK,
        fit_coordinates(whole.astype(np.float32), method="cospress", components=5, seed=42).basis_DK,
        atol=1e-4,
    )
    assert load_coordinates(tmp_path / "c.safetensors").identity == system.identity
    cells = {(row["shots"], row["axes"], row["components"]): row for row in system.ceiling["rows"]}
    own = [cell for cell in cells if cell[1] == "cospress"]
    assert own == [(4, "cospress", 5), (None, "cospress", 5)]
    assert {row["n"] for row in system.ceiling["rows"] if row["shots"] == 4} == {5}
    assert set(cells) >= {(4, "pca", size) for size in (5, *curve_dims(24))}
    line = next(line for line in describe(system).splitlines() if line.startswith("4      cospress"))
    assert line.split()[3:] == [f"{cells[own[0]]['accuracy']:.1f}", "-", "-"]


def test_targets_and_coordinates_in_those_axes(tmp_path):
    store = make_store(tmp_path / "a.store")
    path = str(tmp_path / "c.safetensors")
    fit(FitConfig(store=str(tmp_path / "a.store"), out=path, method="cospress", components=5, ceiling_shots=()))
    wanted = TargetsConfig(store=str(tmp_path / "a.store"), coordinates=path, out=str(tmp_path / "t.h5"), bits=16)
    targets = open_targets(fit_targets(wanted))
    expected = load_coordinates(path).transform(store.features()[:])
    np.testing.assert_allclose(targets.coordinates_rows(np.arange(60)), expected, atol=1e-5)
