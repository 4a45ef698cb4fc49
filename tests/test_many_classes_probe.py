"""The logistic probe of many classes, against scikit-learn run to its end and a slow search. N rows, D dims, C classes, J = D + 1."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from tcs.errors import DataError
from tcs.probes import logistic, softmax
from tcs.probes.logistic import FEW_SHOT_PENALTY, INVERSE_PENALTIES, fit_logistic
from tcs.probes.ridge import balanced_folds
from tcs.probes.softmax import SoftmaxFits, mean_log_loss


def problem(images=8, classes=12, dims=6, seed=0, spread=1.0):
    """`images` of each class, shuffled; small dims spread a hundredth of what large ones do."""
    generator = np.random.default_rng(seed)
    labels_N = generator.permutation(np.arange(images * classes) % classes)
    centres_CD = np.random.default_rng(7).standard_normal((classes, dims))
    x_ND = spread * generator.standard_normal((len(labels_N), dims)) + centres_CD[labels_N]
    return x_ND * np.geomspace(1, 0.01, dims), labels_N


def standardised(x_ND):
    centred_ND = x_ND - x_ND.mean(0)
    return centred_ND / np.sqrt(np.square(centred_ND).mean() * x_ND.shape[1])


def exact(x_ND, labels_N, penalty):
    return LogisticRegression(C=penalty, max_iter=100_000, tol=1e-9).fit(x_ND, labels_N)


@pytest.fixture
def many(monkeypatch):
    """As if a hundred values were many."""
    monkeypatch.setattr(logistic, "MANY_VALUES", 100)


@pytest.mark.parametrize("penalty", [0.01, 1.0, 100.0])
def test_a_fit_is_the_optimum_of_scikit_learn(penalty, monkeypatch):
    monkeypatch.setattr(softmax, "BLOCK_ROWS", 13)
    monkeypatch.setattr(softmax, "LEAST_GAIN", 1e-9)
    x_ND, labels_N = problem()
    x_ND, model = standardised(x_ND), exact(standardised(x_ND), labels_N, penalty)
    fits = SoftmaxFits(x_ND, labels_N, 12, "cpu")
    head_CJ = fits.fit(penalty)
    found_NC = x_ND @ head_CJ[:, :-1].numpy().T + head_CJ[:, -1].numpy()
    probabilities_NC = model.predict_proba(x_ND)
    np.testing.assert_allclose(torch.softmax(torch.as_tensor(found_NC), 1), probabilities_NC, atol=2e-3)
    assert mean_log_loss(head_CJ, x_ND, labels_N) == pytest.approx(log_loss(labels_N, probabilities_NC), abs=1e-3)
    again_CJ = fits.fit(penalty, fits.fit(10 * penalty))
    torch.testing.assert_close(again_CJ @ torch.ones(7, 1), head_CJ @ torch.ones(7, 1), atol=0.05, rtol=0.02)


def test_steps_are_few_where_dims_are_unlike(monkeypatch):
    """A plain gradient needs the square of a hundred times as many; so do the steps of L-BFGS in the dims as they are."""
    x_ND, labels_N = problem(images=20)
    calls = []
    plain = SoftmaxFits._log_loss
    monkeypatch.setattr(SoftmaxFits, "_log_loss", lambda self, head: (calls.append(1), plain(self, head))[1])
    SoftmaxFits(standardised(x_ND), labels_N, 12, "cpu").fit(10.0)
    assert 3 < len(calls) < 30


def test_the_penalty_is_that_of_a_slow_search_over_the_same_sample(many, monkeypatch):
    monkeypatch.setattr(logistic, "CHOICE_ROWS", 60)
    monkeypatch.setattr(logistic, "ENOUGH_HELD_OUT", 20)
    for seed in range(3):
        x_ND, labels_N = problem(images=9, spread=1.5, seed=seed)
        sample_n = np.array([], int)
        drawn = np.random.default_rng(seed).permutation(len(labels_N))
        for label in range(12):
            sample_n = np.r_[sample_n, drawn[labels_N[drawn] == label][:5]]
        sample_n = np.sort(sample_n)
        z_ND, y_n = standardised(x_ND), labels_N[sample_n]
        held_n = balanced_folds(y_n, 5, seed) < 2  # 12 rows a fold: two hold 20
        losses = []
        for penalty in INVERSE_PENALTIES:
            model = exact(z_ND[sample_n[~held_n]], y_n[~held_n], penalty)
            losses.append(log_loss(y_n[held_n], model.predict_proba(z_ND[sample_n[held_n]]), labels=range(12)))
        best = INVERSE_PENALTIES[int(np.argmin(losses))]
        assert INVERSE_PENALTIES[0] < best < INVERSE_PENALTIES[-1]
        found = fit_logistic(x_ND, labels_N, 12, seed).scores(x_ND)
        expected = exact(z_ND, labels_N, best).predict_proba(z_ND)
        np.testing.assert_allclose(torch.softmax(torch.as_tensor(found), 1), expected, atol=0.02)


def test_the_path_ends_where_the_loss_has_risen(many, monkeypatch):
    tried = []
    plain = SoftmaxFits.fit
    monkeypatch.setattr(
        SoftmaxFits, "fit", lambda self, p, s=None: (tried.append((p, s is None)), plain(self, p, s))[1]
    )
    losses = iter([3.0, 2.0, 2.5])
    monkeypatch.setattr(logistic, "mean_log_loss", lambda *_: next(losses))
    x_ND, labels_N = problem()
    fit_logistic(x_ND, labels_N, 12, 0)
    assert [penalty for penalty, _ in tried] == [*INVERSE_PENALTIES[:3], INVERSE_PENALTIES[1]]
    assert [is_cold for _, is_cold in tried] == [True, False, False, False]


def test_few_values_and_two_classes_are_left_to_scikit_learn(monkeypatch):
    monkeypatch.setattr(logistic, "SoftmaxFits", None)
    x_ND, labels_N = problem()
    fit_logistic(x_ND, labels_N, 12, 0)
    monkeypatch.setattr(logistic, "MANY_VALUES", 96 * 12 - 1)
    with pytest.raises(TypeError):
        fit_logistic(x_ND, labels_N, 12, 0)
    monkeypatch.setattr(logistic, "MANY_VALUES", 1)
    fit_logistic(x_ND, labels_N % 2, 12, 0)


def test_one_image_of_some_class_has_nothing_to_choose_by(many, monkeypatch):
    x_ND, labels_N = problem()
    lone_N = np.r_[np.flatnonzero(labels_N == 3)[:1], np.flatnonzero(labels_N != 3)]
    tried = []
    plain = SoftmaxFits.fit
    monkeypatch.setattr(SoftmaxFits, "fit", lambda self, p, s=None: (tried.append(p), plain(self, p, s))[1])
    probe = fit_logistic(x_ND[lone_N], labels_N[lone_N], 14, 0)
    assert tried == [FEW_SHOT_PENALTY]
    assert np.isneginf(probe.bias_C[12:]).all()
    assert np.isfinite(probe.bias_C[:12]).all()


def test_views_of_an_image_lie_on_one_side(many, monkeypatch):
    x_ND, labels_I = problem(images=6)
    x_ND, labels_N = np.repeat(x_ND, 3, axis=0), np.repeat(labels_I, 3)
    fitted, held = [], []

    class Spy(SoftmaxFits):
        def __init__(self, x_nD, *rest):
            fitted.append({row.tobytes() for row in x_nD})
            super().__init__(x_nD, *rest)

    plain = mean_log_loss
    monkeypatch.setattr(logistic, "SoftmaxFits", Spy)
    monkeypatch.setattr(logistic, "ENOUGH_HELD_OUT", 40)
    monkeypatch.setattr(
        logistic, "mean_log_loss", lambda head, x, y: (held.append({row.tobytes() for row in x}), plain(head, x, y))[1]
    )
    fit_logistic(x_ND, labels_N, 12, 0, views=3)
    chosen, whole = fitted
    assert len(held[0]) + len(chosen) == len(whole) == 72
    assert not held[0] & chosen
    assert len(held[0]) >= 40 / 3


def test_a_sample_has_as_many_of_each_class_as_it_may():
    labels_I = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [2, 5, 9]))
    sample_i = logistic._stratified(labels_I, 4, 1)
    assert np.bincount(labels_I[sample_i]).tolist() == [2, 4, 4]
    assert (np.diff(sample_i) > 0).all()
    assert sample_i.tolist() != logistic._stratified(labels_I, 4, 2).tolist()
    np.testing.assert_array_equal(logistic._stratified(labels_I, 9, 1), np.arange(16))


def test_folds_that_are_held_out_are_never_all(monkeypatch):
    monkeypatch.setattr(logistic, "ENOUGH_HELD_OUT", 6)
    fold_i = np.arange(12) % 4
    assert logistic._held_out(fold_i, 1).tolist() == (fold_i < 2).tolist()
    assert logistic._held_out(fold_i, 2).tolist() == (fold_i < 1).tolist()
    assert logistic._held_out(np.arange(4) % 2, 1).tolist() == [True, False] * 2


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(many, value):
    x_ND, labels_N = problem()
    x_ND[3, 2] = value
    with pytest.raises(DataError, match="teacher's probe met features that are not finite"):
        fit_logistic(x_ND, labels_N, 12, 0)
