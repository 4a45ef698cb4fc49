"""How far the probabilities of a classifier can be believed: a temperature fitted on labelled images, and the error that is left.

Dividing logits by one temperature (Guo et al. 2017, arXiv 1706.04599, section 4.2) changes no decision, only how sure it is said to
be. No torch is needed.

Legend: N images, n those of a block, C classes, M bins.
"""

import math

import numpy as np
from numpy.typing import NDArray

LEAST_ROWS = 100  # below it a temperature says more of the draw than of the student
LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.05, 50.0
PRECISION = 1e-6
BLOCK_VALUES = (
    1 << 22
)  # of logits at once: a thousand classes of a hundred thousand images need no more memory than a few
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
    would be called infinitely sure. The loss is convex in 1 / temperature: Newton's steps, kept inside a bracket of its minimum
    that every step narrows, until it is a millionth wide or the step is.
    """
    classes = logits_NC.shape[1]
    if classes < 2:
        return 1.0
    low, high, inverse = 1 / MOST_TEMPERATURE, 1 / LEAST_TEMPERATURE, 1.0
    wanted = _target_logits(logits_NC, labels_N)
    while high / low > 1 + PRECISION:
        mean, variance = _moments(logits_NC, inverse)
        slope = mean - wanted  # of the loss by 1 / temperature; its derivative is the variance
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        step = inverse - slope / variance if variance > 0 else low
        step = step if low < step < high else math.sqrt(low * high)
        if abs(step / inverse - 1) < PRECISION:
            break
        inverse = step
    return round(1 / inverse, 4)


def _target_logits(logits_NC: Floats, labels_N: NDArray[np.int64]) -> float:
    """The mean over images of sum_c target_c logit_c."""
    images, classes = logits_NC.shape
    smoothing = 1.0 / (images + 2)
    own = float(np.mean(logits_NC[np.arange(images), labels_N], dtype=np.float64))
    others = (float(np.sum(logits_NC, dtype=np.float64)) / images - own) / (classes - 1)
    return float((1 - smoothing) * own + smoothing * others)


def _moments(logits_NC: Floats, inverse: float) -> tuple[float, float]:
    """The means over images of an image's mean logit and variance of logits under its own probabilities at 1 / temperature."""
    images, classes = logits_NC.shape
    mean = variance = 0.0
    for start in range(0, images, rows := max(1, BLOCK_VALUES // classes)):
        block_nC = np.asarray(logits_NC[start : start + rows], np.float64)
        shares_nC = probabilities(block_nC, 1 / inverse)
        means_n = (shares_nC * block_nC).sum(axis=1)
        mean += float(means_n.sum())
        variance += float((shares_nC * (block_nC - means_n[:, None]) ** 2).sum())
    return mean / images, variance / images


def calibration_error(probabilities_NC: Floats, labels_N: NDArray[np.int64]) -> float:
    """The expected calibration error (Guo et al. 2017, equation 3), in percent: sum over bins of n_m / N * |hits_m - sure_m|."""
    sure_N = probabilities_NC.max(axis=1)
    hits_N = probabilities_NC.argmax(axis=1) == labels_N
    bins_N = np.clip(np.ceil(sure_N * BINS).astype(np.int64) - 1, 0, BINS - 1)  # (m / M, (m + 1) / M]
    gaps_M = np.bincount(bins_N, weights=hits_N - sure_N, minlength=BINS)
    return round(100 * float(np.abs(gaps_M).sum()) / len(labels_N), 4)
