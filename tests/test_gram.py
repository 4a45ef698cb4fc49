"""One Gram matrix against ridge regressions of the projected rows themselves. N rows, K coordinates, C classes."""

import numpy as np
import pytest

from tcs.coordinates.selection import rank_coordinates, rank_from_gram
from tcs.errors import DataError
from tcs.probes.gram import RELATIVE_PENALTIES, gather_gram
from tcs.probes.leave_one_out import add_loo_errors
from tcs.probes.ridge import fit_ridge
from tcs.probes.targets import DenseTargets, signed_targets


def rows(count=90, dims=12, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    x = generator.normal(size=(count, dims)) * np.linspace(2, 0.3, dims) + 40
    x[:, :3] += 1.5 * np.eye(3)[labels]
    return x, labels


def gram_of(x, labels, block=32):
    targets = signed_targets(labels, 3)
    blocks = ((x[at : at + block], targets[at : at + block]) for at in range(0, len(x), block))
    return gather_gram(blocks, len(x))


def test_sums_in_blocks_are_those_of_all_rows_at_once():
    x, labels = rows()
    gram, targets = gram_of(x, labels), signed_targets(labels, 3)
    centred = x - x.mean(0)
    np.testing.assert_allclose(gram.mean_K, x.mean(0))
    np.testing.assert_allclose(gram.scatter_KK, centred.T @ centred, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(gram.cross_KC, centred.T @ (targets - targets.mean(0)), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(gram.variances, x.var(0))
    np.testing.assert_allclose(gram.sample_MK, centred, atol=1e-9)


@pytest.mark.parametrize("count", [90, 9])
def test_a_head_on_projected_rows_needs_the_projected_sums_only(count):
    """9 rows are fewer than the 12 coordinates, where fit_ridge takes another way altogether."""
    x, labels = rows(count)
    axes = np.random.default_rng(5).normal(size=(12, 10 if count == 9 else 5))
    expected = fit_ridge(x @ axes, labels, 3)
    weight, bias, penalty = gram_of(x, labels).mapped(axes).ridge()
    assert penalty == pytest.approx(expected.penalty, rel=1e-6)
    np.testing.assert_allclose(weight, expected.weight_CK, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(bias, expected.bias_C, rtol=1e-5)


def test_kept_coordinates_are_those_columns():
    x, labels = rows()
    kept = np.array([0, 3, 7])
    weight, bias, _ = gram_of(x, labels).kept(kept).ridge()
    expected = fit_ridge(x[:, kept], labels, 3)
    np.testing.assert_allclose(weight, expected.weight_CK, rtol=1e-8)
    np.testing.assert_allclose(bias, expected.bias_C, rtol=1e-8)


def test_elimination_from_sums_keeps_what_elimination_of_rows_keeps():
    x, labels = rows()
    by_rows, by_sums = rank_coordinates(x, labels, 3, (3, 6)), rank_from_gram(gram_of(x, labels), (3, 6))
    assert {size: active.tolist() for size, active in by_sums.items()} == {
        size: active.tolist() for size, active in by_rows.items()
    }
    assert set(by_sums) == {3, 6}


def test_rows_without_sense_are_refused():
    x, labels = rows(6)
    x[4, 2] = np.inf
    with pytest.raises(DataError, match="not finite"):
        gram_of(x, labels)
    with pytest.raises(DataError, match="has 1 rows; it needs two or more"):
        gather_gram([], 1)
    with pytest.raises(DataError, match=r"labels run from 0 to 3; they must lie in 0\.\.2"):
        signed_targets(np.array([0, 3]), 3)


@pytest.mark.parametrize("outputs", [2, 40])
@pytest.mark.parametrize("count", [13, 200])
def test_leave_one_out_errors_are_those_of_rows_left_out(count, outputs):
    """40 outputs of 12 coordinates are summed by products; 13 rows are nearly reproduced, where products would lose digits."""
    generator = np.random.default_rng(2)
    x, y = generator.normal(size=(count, 12)), generator.normal(size=(count, outputs))
    x_NK, y_NC = x - x.mean(0), y - y.mean(0)
    squares, v = np.linalg.eigh(x_NK.T @ x_NK)
    penalties = RELATIVE_PENALTIES * squares.mean()
    found = np.zeros(len(penalties))
    for block in (slice(0, 7), slice(7, None)):
        shrink = 1 / (squares + penalties[:, None])
        add_loo_errors(found, x_NK[block] @ v, shrink, v.T @ x_NK.T @ y_NC, DenseTargets(y_NC[block]), count)
    for penalty, error in zip(penalties, found, strict=True):
        expected = 0.0
        for row in range(count):
            rest = np.delete(np.arange(count), row)
            mean_x, mean_y = x[rest].mean(0), y[rest].mean(0)
            centred = x[rest] - mean_x
            weight = np.linalg.solve(centred.T @ centred + penalty * np.eye(12), centred.T @ (y[rest] - mean_y))
            expected += float(((y[row] - mean_y - (x[row] - mean_x) @ weight) ** 2).sum())
        assert error == pytest.approx(expected, rel=1e-7)
