"""Temperature and calibration error against slow, independent arithmetic. N images, C classes."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from tcs.calibration import BINS, calibration_error, fit_temperature, probabilities


def drawn(temperature: float, images: int = 600, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, C) and labels that follow softmax(logits / temperature)."""
    rng = np.random.default_rng(0)
    logits_NC = rng.standard_normal((images, classes)) * 3
    shares_NC = np.exp(logits_NC / temperature - logsumexp(logits_NC / temperature, axis=1, keepdims=True))
    return logits_NC, np.array([rng.choice(classes, p=shares_C) for shares_C in shares_NC])


def test_probabilities_are_the_softmax_of_scaled_logits_however_large() -> None:
    logits_NC = np.array([[1.0, 2.0, 4.0], [1000.0, 0.0, 999.0]])
    for temperature in (None, 0.5, 3.0):
        scaled_NC = logits_NC / (temperature or 1)
        expected_NC = np.exp(scaled_NC - logsumexp(scaled_NC, axis=1, keepdims=True))
        assert np.allclose(probabilities(logits_NC, temperature), expected_NC, rtol=1e-12, atol=0)
    assert probabilities(logits_NC.astype(np.float32)).dtype == np.float64


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.5])
def test_a_fitted_temperature_is_that_of_the_least_cross_entropy(temperature: float) -> None:
    logits_NC, labels_N = drawn(temperature)

    def loss(log_temperature: float) -> float:
        """Platt's targets, written out image by image."""
        total, smoothing = 0.0, 1 / (len(labels_N) + 2)
        for logits_C, label in zip(logits_NC / math.exp(log_temperature), labels_N, strict=True):
            logs_C = logits_C - logsumexp(logits_C)
            others = (logs_C.sum() - logs_C[label]) / (len(logs_C) - 1)
            total -= (1 - smoothing) * logs_C[label] + smoothing * others
        return total / len(labels_N)

    found = fit_temperature(logits_NC, labels_N)
    best = math.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"maxiter": 40}).x)
    assert found == pytest.approx(best, rel=2e-3)
    assert found == pytest.approx(temperature, rel=0.25)


def test_a_classifier_without_a_mistake_is_not_called_infinitely_sure() -> None:
    logits_NC = np.tile(np.eye(3), (40, 1))
    found = fit_temperature(logits_NC, np.tile(np.arange(3), 40))
    assert 0.05 < found < 0.3
    assert probabilities(logits_NC, found).max() < 1 - 1e-3 / 120
    assert fit_temperature(np.zeros((5, 1)), np.zeros(5, np.int64)) == 1.0  # one class: nothing to fit
    assert fit_temperature(-logits_NC, np.tile(np.arange(3), 40)) == pytest.approx(50, rel=1e-3)  # worse than chance


def test_calibration_error_is_summed_over_bins_by_hand() -> None:
    logits_NC, labels_N = drawn(2.0, images=500)
    shares_NC = probabilities(logits_NC)
    error = 0.0
    for bin_ in range(BINS):
        low, high = bin_ / BINS, (bin_ + 1) / BINS
        inside = [n for n in range(500) if low < shares_NC[n].max() <= high]
        if inside:
            hits = np.mean([shares_NC[n].argmax() == labels_N[n] for n in inside])
            error += len(inside) / 500 * abs(hits - np.mean([shares_NC[n].max() for n in inside]))
    assert calibration_error(shares_NC, labels_N) == pytest.approx(100 * error, abs=1e-4)
    assert calibration_error(np.array([[1.0, 0.0]]), np.array([1])) == 100.0
    assert calibration_error(np.array([[1.0, 0.0]]), np.array([0])) == 0.0
