"""The probe that stands in for a teacher's head, against a slow fit of the same objective. N rows, D dims, C classes."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from tcs.errors import DataError
from tcs.probes.logistic import INVERSE_PENALTIES, fit_logistic, require_finite
from tcs.probes.ridge import balanced_folds
from tcs.training import head_rows
from tcs.training.head_rows import Logits, logits_of


def problem(rows=90, classes=3, dims=8, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    labels_N = np.arange(rows) % classes
    centres_CD = 2 * np.random.default_rng(7).standard_normal((classes, dims))
    return centres_CD[labels_N] + spread * rng.standard_normal((rows, dims)) + 5, labels_N


def probe_logits(fit_ND, labels_N, score_ND, n_classes, seed, views=1):
    """(N, C) float32, as a run holds them."""
    probe = fit_logistic(fit_ND, labels_N, n_classes, seed, views)
    return logits_of(probe, torch.from_numpy(score_ND), torch.device("cpu")).numpy()


def softmax(logits_nC):
    shifted = np.exp(logits_nC - logits_nC.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def test_the_logits_are_calibrated_on_rows_it_has_not_seen():
    fit_ND, labels_N = problem(spread=3.0)
    score_ND, truth_N = problem(rows=600, seed=1, spread=3.0)
    probabilities = softmax(probe_logits(fit_ND, labels_N, score_ND, 3, 0))
    loss = -np.log(probabilities[np.arange(600), truth_N]).mean()
    assert (probabilities.argmax(1) == truth_N).mean() > 0.6
    assert loss < 0.9 * np.log(3)
    assert abs(probabilities.max(1).mean() - (probabilities.argmax(1) == truth_N).mean()) < 0.12


def test_the_fit_has_no_gradient_left_at_one_of_the_penalties():
    fit_ND, labels_N = problem()
    logits_NC = probe_logits(fit_ND, labels_N, fit_ND, 3, 0).astype(np.float64)
    centred_ND = fit_ND - fit_ND.mean(0)
    x_ND = centred_ND / np.sqrt(np.square(centred_ND).mean() * 8)
    weight_CD = np.linalg.lstsq(np.c_[x_ND, np.ones(90)], logits_NC, rcond=None)[0][:-1].T
    weight_CD -= weight_CD.mean(0)
    error_NC = softmax(logits_NC) - np.eye(3)[labels_N]
    gradient_CD = error_NC.T @ x_ND
    residuals = [
        np.abs(penalty * gradient_CD + weight_CD).max() / np.abs(weight_CD).max() for penalty in INVERSE_PENALTIES
    ]
    assert min(residuals) < 0.1 < 5 * sorted(residuals)[1]


def test_two_classes_give_two_logits_and_an_absent_class_the_smallest():
    fit_ND, labels_N = problem(classes=2, rows=20)
    logits_NC = probe_logits(fit_ND, labels_N * 2, fit_ND, 4, 0)
    assert logits_NC.shape == (20, 4)
    assert logits_NC.dtype == np.float32
    assert (logits_NC[np.arange(20), labels_N * 2] == logits_NC.max(1)).all()
    np.testing.assert_array_equal(logits_NC[:, 1], logits_NC.min(1))
    np.testing.assert_allclose(logits_NC[:, 0], -logits_NC[:, 2], atol=1e-6)


def test_one_row_a_class_is_enough_and_one_class_is_not():
    fit_ND, labels_N = problem(rows=3)
    assert np.isfinite(probe_logits(fit_ND, labels_N, fit_ND, 3, 0)).all()
    with pytest.raises(DataError, match="the labelled rows hold 1 class; teacher logits need 2 or more"):
        probe_logits(fit_ND, np.zeros(3, np.int64), fit_ND, 3, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("check", [lambda x: fit_logistic(x, np.arange(90) % 3, 3, 0), require_finite])
def test_features_that_are_not_finite_are_refused(value, check):
    fit_ND, _ = problem()
    fit_ND[3, 2] = value
    with pytest.raises(DataError, match="teacher's probe met features that are not finite"):
        check(fit_ND)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_logits_of_blocks_and_of_batches_are_those_of_all_rows_at_once(monkeypatch, dtype):
    fit_ND, labels_N = problem(spread=3.0)
    x_ND, device = fit_ND.astype(dtype), torch.device("cpu")
    probe = fit_logistic(x_ND, 2 * (labels_N % 2), 4, 0)  # classes 1 and 3 have no row
    whole_NC = x_ND.astype(np.float64) @ probe.weight_CK.T + probe.bias_C
    whole_NC[:, [1, 3]] = whole_NC[:, [0, 2]].min(axis=1, keepdims=True)
    monkeypatch.setattr(head_rows, "BLOCK_ROWS", 7)
    held_NC = logits_of(probe, torch.from_numpy(x_ND), device)
    np.testing.assert_allclose(held_NC, whole_NC, rtol=1e-6)
    views_NVC = logits_of(probe, torch.from_numpy(x_ND.reshape(45, 2, -1)), device)
    assert torch.equal(views_NVC, held_NC.reshape(45, 2, 4))
    monkeypatch.setattr(head_rows, "is_held", lambda *_: False)
    computed = logits_of(probe, torch.from_numpy(x_ND), device)
    assert isinstance(computed, Logits)
    assert computed.head.z_nK.dtype == torch.from_numpy(x_ND).dtype
    found_BC = computed.at(torch.arange(90), None)
    assert found_BC.dtype == torch.float32
    np.testing.assert_allclose(found_BC, whole_NC, rtol=1e-4, atol=1e-4)


def test_weights_of_the_regression_give_its_logits():
    generator = np.random.default_rng(4)
    labels = np.array([0, 2] * 15)  # class 1 has no row
    x = generator.normal(size=(30, 5)) + 7 + 2 * np.eye(3, 5)[labels]
    probe = fit_logistic(x, labels, 3, 0)
    weight, bias = probe.weight_CK, probe.bias_C
    logits = probe_logits(x, labels, x, 3, 0)
    np.testing.assert_allclose((x @ weight.T + bias)[:, [0, 2]], logits[:, [0, 2]], rtol=1e-4, atol=1e-4)
    assert bias[1] == -np.inf
    assert not weight[1].any()


def test_views_of_an_image_lie_in_one_fold_by_a_slow_search() -> None:
    rng = np.random.default_rng(4)
    images, views, dims = 18, 3, 4
    labels_I = np.arange(images) % 2
    base_ID = rng.normal(size=(images, dims)) + 0.4 * labels_I[:, None]
    x_ND = (base_ID[:, None] + 0.05 * rng.normal(size=(images, views, dims))).reshape(-1, dims)
    labels_N = np.repeat(labels_I, views)
    scaled_ND = (x_ND - x_ND.mean(0)) / np.sqrt(((x_ND - x_ND.mean(0)) ** 2).sum() / len(x_ND))
    order = np.random.default_rng(9).permutation(images)
    folds_I = balanced_folds(labels_I[order], 5, 9)

    def loss(penalty: float) -> float:
        parts = []
        for fold in range(5):
            held = np.isin(np.repeat(np.arange(images), views), order[folds_I == fold])
            model = LogisticRegression(C=penalty, max_iter=1000).fit(scaled_ND[~held], labels_N[~held])
            parts.append(log_loss(labels_N[held], model.predict_proba(scaled_ND[held])))
        return float(np.mean(parts))

    best = min(INVERSE_PENALTIES, key=loss)
    model = LogisticRegression(C=best, max_iter=1000).fit(scaled_ND, labels_N)
    found_NC = probe_logits(x_ND, labels_N, x_ND, 2, 9, views)
    assert np.allclose(found_NC[:, 1] - found_NC[:, 0], model.decision_function(scaled_ND), atol=1e-3)
    ungrouped_NC = probe_logits(x_ND, labels_N, x_ND, 2, 9)
    assert np.abs(found_NC - ungrouped_NC).max() > 0.1  # leaking views choose another penalty
