"""Ridge with an exact leave-one-out penalty, against refits one row at a time and against scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier

from tcs.errors import DataError
from tcs.probes.ridge import RELATIVE_PENALTIES, SubsetFits, balanced_folds, fit_ridge, fit_ridge_targets, knn_accuracy


def problem(rows, dims, classes=3, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    centres = generator.normal(size=(classes, dims))
    spread = np.linspace(2.0, 0.2, dims)
    return centres[labels] + spread * generator.normal(size=(rows, dims)) + 5.0, labels


def one_hot(labels, classes):
    return 2.0 * np.eye(classes)[labels] - 1.0


def brute_force_penalty(x, y):
    """Refit without each row in turn, at every penalty of the grid."""
    centred = x - x.mean(0)
    grid = RELATIVE_PENALTIES * (centred**2).sum() / x.shape[1]
    errors = []
    for penalty in grid:
        error = 0.0
        for row in range(len(x)):
            kept = np.arange(len(x)) != row
            model = Ridge(alpha=penalty, solver="svd").fit(x[kept], y[kept])
            error += ((y[row] - model.predict(x[row : row + 1])[0]) ** 2).sum()
        errors.append(error)
    return grid[int(np.argmin(errors))], errors


@pytest.mark.parametrize(("rows", "dims"), [(12, 30), (40, 6), (15, 15), (60, 2)])
def test_penalty_and_weights_equal_leave_one_out_refits(rows, dims):
    x, labels = problem(rows, dims)
    penalty, errors = brute_force_penalty(x, one_hot(labels, 3))
    assert 0 < int(np.argmin(errors)) < len(errors) - 1  # a real choice
    probe = fit_ridge(x, labels, 3)
    assert probe.penalty == pytest.approx(penalty, rel=1e-9)
    model = Ridge(alpha=penalty, solver="svd").fit(x, one_hot(labels, 3))
    np.testing.assert_allclose(probe.weight_CK, model.coef_, rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose(probe.logits(x), model.predict(x), rtol=1e-6, atol=1e-9)


def test_rows_read_in_blocks_give_the_same_probe(monkeypatch):
    x, labels = problem(50, 7)
    whole = fit_ridge(x, labels, 3)
    monkeypatch.setattr("tcs.probes.ridge.BLOCK_ROWS", 8)
    blocks = fit_ridge(x, labels, 3)
    assert blocks.penalty == pytest.approx(whole.penalty, rel=1e-12)
    np.testing.assert_allclose(blocks.weight_CK, whole.weight_CK, rtol=1e-9)
    assert blocks.accuracy(x, labels) == whole.accuracy(x, labels)


def test_the_penalty_of_many_rows_is_chosen_on_some_of_them(monkeypatch):
    x, labels = problem(400, 6)
    x += np.random.default_rng(1).normal(size=x.shape) * 3
    exact = fit_ridge(x, labels, 3)
    monkeypatch.setattr("tcs.probes.gram.LOO_ROWS", 100)
    sampled = fit_ridge(x, labels, 3)
    assert sampled.penalty == pytest.approx(exact.penalty, rel=10.1)
    model = Ridge(alpha=sampled.penalty, solver="svd").fit(x, one_hot(labels, 3))
    np.testing.assert_allclose(sampled.weight_CK, model.coef_, rtol=1e-9)


def test_half_precision_rows_far_from_the_origin():
    x, labels = problem(60, 5)
    stored = (x + 40).astype(np.float16)
    probe, reference = fit_ridge(stored, labels, 3), fit_ridge(stored.astype(np.float64), labels, 3)
    np.testing.assert_allclose(probe.weight_CK, reference.weight_CK, rtol=1e-10)


def test_accuracy_is_a_percentage_counted_by_hand():
    x = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    probe = fit_ridge(x, np.array([0, 0, 1, 1]), 2)
    assert probe.accuracy(x, np.array([0, 0, 1, 1])) == 100
    assert probe.accuracy(x, np.array([0, 1, 1, 1])) == 75


def test_constant_columns_and_rows_get_no_weight():
    x, labels = problem(20, 4)
    x[:, 2] = 7.0
    assert np.abs(fit_ridge(x, labels, 3).weight_CK[:, 2]).max() < 1e-12
    flat = fit_ridge(np.ones((6, 2)), np.array([0, 0, 0, 0, 1, 1]), 2)
    np.testing.assert_array_equal(flat.weight_CK, 0)
    np.testing.assert_allclose(flat.bias_C, [1 / 3, -1 / 3])


def test_one_shot_per_class_still_separates():
    x, labels = problem(3, 20)
    assert fit_ridge(x, labels, 3).accuracy(x, labels) == 100


def test_a_class_without_rows_is_never_predicted():
    x, labels = problem(30, 4)
    probe = fit_ridge(x, labels, 5)
    assert set(probe.logits(x).argmax(1)) <= {0, 1, 2}


@pytest.mark.parametrize("rows", [12, 60])
def test_multi_output_regression_matches_scikit_learn(rows):
    generator = np.random.default_rng(3)
    x = generator.normal(size=(rows, 20)) + 3
    y = x @ generator.normal(size=(20, 8)) + generator.normal(size=(rows, 8))
    weight, bias = fit_ridge_targets(x, y)
    penalty, _ = brute_force_penalty(x, y)
    model = Ridge(alpha=penalty, solver="svd").fit(x, y)
    np.testing.assert_allclose(weight, model.coef_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(bias, model.intercept_, rtol=1e-6, atol=1e-9)


def test_folds_are_seeded_and_balanced():
    _, labels = problem(60, 5)
    folds = balanced_folds(labels, 5, 0)
    assert folds.tolist() == balanced_folds(labels, 5, 0).tolist()
    assert len({tuple(balanced_folds(labels, 5, seed)) for seed in range(5)}) == 5
    counts = np.array([np.bincount(folds[labels == name], minlength=5) for name in range(3)])
    assert (counts.max(1) - counts.min(1) <= 1).all()


@pytest.mark.parametrize("rows", [12, 60])
def test_fits_of_subsets_are_those_of_the_columns_alone(rows):
    """12 rows are fewer than some of the subsets have coordinates: both ways are taken."""
    x, labels = problem(rows, 20, seed=4)
    fits = SubsetFits(x, labels, 3)
    np.testing.assert_allclose(fits.variances, x.var(0))
    generator = np.random.default_rng(1)
    for size in (1, 5, 11, 20):
        active, scales = generator.permutation(20)[:size], generator.uniform(0.2, 3, size)
        for found, columns in (
            (fits.fit(active), x[:, active]),
            (fits.fit(active, scales), x[:, active] * scales),
        ):
            expected = fit_ridge(columns, labels, 3)
            assert found.penalty == pytest.approx(expected.penalty, rel=1e-9)
            np.testing.assert_allclose(found.weight_CK, expected.weight_CK, rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(found.bias_C, expected.bias_C, rtol=1e-6, atol=1e-9)


def test_nearest_neighbours_agree_with_scikit_learn():
    x, labels = problem(300, 6)
    x -= 5

    def vote(distances):
        return np.exp(-distances / 0.07)

    model = KNeighborsClassifier(20, metric="cosine", weights=vote, algorithm="brute").fit(x[:200], labels[:200])
    expected = 100 * model.score(x[200:], labels[200:])
    assert knn_accuracy(x[:200], labels[:200], x[200:], labels[200:]) == pytest.approx(expected)
    assert knn_accuracy(x[:3], labels[:3], x[:3], labels[:3]) == 100  # fewer rows than k


def test_bad_inputs_are_refused_by_name():
    x, labels = problem(10, 3)
    with pytest.raises(DataError, match=r"labels run from 0 to 2; they must lie in 0..1"):
        fit_ridge(x, labels, 2)
    with pytest.raises(DataError, match="ridge regression of 1 targets on 1 rows"):
        fit_ridge(x[:1], labels[:1], 3)
    with pytest.raises(DataError, match="9 targets on 10 rows"):
        fit_ridge_targets(x, x[:9])
    x[3, 1] = np.nan
    with pytest.raises(DataError, match="not finite"):
        fit_ridge(x, labels, 3)
    with pytest.raises(DataError, match="not finite"):
        SubsetFits(x, labels, 3).fit(np.arange(2))
    with pytest.raises(DataError, match=r"labels run from 0 to 2; they must lie in 0..1"):
        SubsetFits(x, labels, 2)
    with pytest.raises(DataError, match="k-NN over 0 rows for 10 rows"):
        knn_accuracy(x[:0], labels[:0], x, labels)


def test_a_least_penalty_bounds_the_weights():
    generator = np.random.default_rng(3)
    x = generator.normal(size=(60, 20))
    y = x @ generator.normal(size=(20, 8))
    mean_square = ((x - x.mean(0)) ** 2).sum() / 20
    free, _ = fit_ridge_targets(x, y)
    bounded, bias = fit_ridge_targets(x, y, least_penalty=1.0)
    model = Ridge(alpha=mean_square, solver="svd").fit(x, y)  # exact targets: the least allowed penalty is the best
    np.testing.assert_allclose(bounded, model.coef_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(bias, model.intercept_, rtol=1e-6, atol=1e-9)
    assert np.linalg.norm(bounded) < 0.8 * np.linalg.norm(free)
