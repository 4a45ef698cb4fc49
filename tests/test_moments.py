"""Streaming mean and covariance against numpy's, in float64 and in one piece. N rows, D features."""

import numpy as np
import pytest
from artefacts import make_store

from tcs.coordinates.moments import streaming_moments
from tcs.errors import DataError


def spread_rows(rows=500, dims=12, offset=3.0, seed=0):
    generator = np.random.default_rng(seed)
    mixing = np.linalg.qr(generator.normal(size=(dims, dims)))[0] * np.geomspace(2, 0.05, dims)
    return generator.normal(size=(rows, dims)) @ mixing.T + offset


def assert_moments(found, rows, tolerance):
    mean, covariance = found
    assert mean.dtype == covariance.dtype == np.float64
    np.testing.assert_allclose(mean, rows.mean(0), atol=tolerance * np.abs(rows).max())
    np.testing.assert_allclose(covariance, np.cov(rows.T), atol=tolerance * np.cov(rows.T).max())


@pytest.mark.parametrize("block_rows", [1, 7, 499, 500, 5000])
def test_any_block_size_gives_the_moments_of_numpy(block_rows):
    rows = spread_rows().astype(np.float32)
    assert_moments(streaming_moments(rows, block_rows), rows.astype(np.float64), 1e-6)


def test_a_mean_a_thousand_times_the_spread_loses_nothing():
    rows = spread_rows(offset=2000.0).astype(np.float32)
    assert_moments(streaming_moments(rows, 64), rows.astype(np.float64), 1e-6)


def test_rows_sorted_by_far_apart_classes():
    # The first block's mean is then far from the others: the provisional origin is a poor one.
    rows = (spread_rows() + np.repeat([0.0, 50.0, -80.0, 20.0], 125)[:, None]).astype(np.float32)
    assert_moments(streaming_moments(rows, 50), rows.astype(np.float64), 1e-6)


def test_half_precision_rows_are_taken_as_stored():
    rows = spread_rows().astype(np.float16)
    assert_moments(streaming_moments(rows, 100), rows.astype(np.float64), 1e-6)


def test_a_store_gives_the_moments_of_its_array(tmp_path):
    features = make_store(tmp_path / "a.store").features()
    assert_moments(streaming_moments(features), features[:].astype(np.float64), 1e-6)


def test_fitting_changes_nothing_and_repeats():
    rows = spread_rows().astype(np.float32)
    before = rows.copy()
    first, second = streaming_moments(rows), streaming_moments(rows)
    np.testing.assert_array_equal(rows, before)
    np.testing.assert_array_equal(first[1], second[1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_named(bad):
    rows = spread_rows().astype(np.float16)
    rows[123, 4] = bad
    with pytest.raises(DataError, match=r"row 123 of the features holds NaN or Inf \(1 such rows in its block\)"):
        streaming_moments(rows, 50)


def test_infinities_of_both_signs_in_the_first_block_are_named():
    rows = spread_rows().astype(np.float32)
    rows[[3, 9], 4] = [np.inf, -np.inf]
    with pytest.raises(DataError, match=r"row 3 of the features holds NaN or Inf \(2 such rows"):
        streaming_moments(rows, 50)


def test_values_too_large_for_float32_products_are_refused():
    rows = spread_rows().astype(np.float32)
    rows[200:210] = 1e30
    with pytest.raises(DataError, match="features near row 200 are too large for float32 products"):
        streaming_moments(rows, 100)


def test_one_row_is_too_few():
    with pytest.raises(DataError, match="the store has 1 rows; a mean and covariance need two or more"):
        streaming_moments(np.ones((1, 3), np.float32))
