"""How far the probabilities of a classifier can be believed: a temperature fitted on labelled images, and the error that is left.

Dividing logits by one temperature (Guo et al. 2017, arXiv 1706.04599, section 4.2) changes no decision, only how sure it is said to
be. No torch is needed.

Legend: N images, C classes, M bins.
"""

import math

import numpy as np
from numpy.typing import NDArray

LEAST_ROWS = 100  # below it a temperature says more of the draw than of the student
LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.05, 50.0
BINS = 15  # of equal width, as in the paper

Floats = NDArray[np.floating]


def probabilities(logits_NC: Floats, temperature: float | None = None) -> NDArray[np.float64]:
    """softmax(logits / temperature), (N, C) float64; None stands for 1."""
    scaled_NC = np.asarray(logits_NC, np.float64) / (temperature or 1.0)
    powers_NC = np.exp(scaled_NC - scaled_NC.max(axis=1, keepdims=True))
    return np.asarray(powers_NC / powers_NC.sum(axis=1, keepdims=True))


def fit_temperature(logits_NC: Floats, labels_N: NDArray[np.int64]) -> float:
    """The temperature of the least cross-entropy with the labels (int64, 0 to C - 1), between 0.05 and 50.

    The targets are smoothed by 1 / (N + 2), as Platt (1999, section 2.2) has them: else a classifier that has every image right
    would be called infinitely sure. The loss is convex in 1 / temperature, so a bracket around its minimum is closed until it is
    0.01 % wide.
    """
    scores_NC = np.asarray(logits_NC, np.float64)
    images, classes = scores_NC.shape
    if classes < 2:
        return 1.0
    smoothing = 1.0 / (images + 2)
    targets_NC = np.full_like(scores_NC, smoothing / (classes - 1))
    targets_NC[np.arange(images), labels_N] = 1.0 - smoothing

    def slope(inverse: float) -> float:
        """The derivative of the loss by 1 / temperature: mean of sum_c (p_c - t_c) logit_c."""
        return float(((probabilities(scores_NC * inverse) - targets_NC) * scores_NC).sum(axis=1).mean())

    low, high = 1 / MOST_TEMPERATURE, 1 / LEAST_TEMPERATURE
    while high / low > 1.0001:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return round(1 / math.sqrt(low * high), 4)


def calibration_error(probabilities_NC: Floats, labels_N: NDArray[np.int64]) -> float:
    """The expected calibration error (Guo et al. 2017, equation 3), in percent: sum over bins of n_m / N * |hits_m - sure_m|."""
    sure_N = probabilities_NC.max(axis=1)
    hits_N = probabilities_NC.argmax(axis=1) == labels_N
    bins_N = np.clip(np.ceil(sure_N * BINS).astype(np.int64) - 1, 0, BINS - 1)  # (m / M, (m + 1) / M]
    gaps_M = np.bincount(bins_N, weights=hits_N - sure_N, minlength=BINS)
    return round(100 * float(np.abs(gaps_M).sum()) / len(labels_N), 4)
