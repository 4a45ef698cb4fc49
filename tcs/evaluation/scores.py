"""What is told of a classifier on labelled images: accuracies with intervals, classes one by one, what is taken for what, calibration.

Legend: N images, C classes, R resamples.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcs.calibration import calibration_error, fit_temperature, probabilities
from tcs.metrics import accuracy
from tcs.runtime import seed_for

Z = 1.959963984540054  # of the normal distribution, for 95 %
RESAMPLES = 2000
RESAMPLED_CELLS = 1 << 22  # at once, so that many classes need no more memory


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson 1927), in percent; 0 to 100 where nothing was counted."""
    if count == 0:
        return 0.0, 100.0
    share, spread = hits / count, Z * Z / count
    middle = (share + spread / 2) / (1 + spread)
    half = Z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return round(100 * max(0.0, middle - half), 4), round(100 * min(1.0, middle + half), 4)


def bootstrap_balanced(hits_C: NDArray[np.int64], counts_C: NDArray[np.int64]) -> tuple[float, float]:
    """The 95 % percentile interval (Efron 1979) of the mean recall, in percent, over RESAMPLES draws of N images with replacement.

    An image matters by its class and by whether it is right, so a draw is one of a multinomial over those 2 C kinds. Classes that
    a draw does not show are left out of its mean. A pure function of the counts.
    """
    seen_C = counts_C > 0
    hits, counts = hits_C[seen_C], counts_C[seen_C]
    kinds, total = np.concatenate([hits, counts - hits]), int(counts.sum())
    generator = np.random.default_rng(seed_for(0, "balanced accuracy"))
    means: list[NDArray[np.float64]] = []
    for start in range(0, RESAMPLES, most := max(1, RESAMPLED_CELLS // len(kinds))):
        drawn_RK = generator.multinomial(total, kinds / total, size=min(most, RESAMPLES - start))
        right_RC, wrong_RC = np.split(drawn_RK, 2, axis=1)
        shown_RC = right_RC + wrong_RC
        recalls_RC = np.where(shown_RC > 0, right_RC / np.maximum(shown_RC, 1), np.nan)
        means.append(np.nanmean(recalls_RC, axis=1))
    low, high = np.percentile(np.concatenate(means), (2.5, 97.5))
    return round(100 * float(low), 4), round(100 * float(high), 4)


def confusion_of(logits_NC: NDArray[np.floating[Any]], labels_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """(C, C): how many images of class i (rows) are taken for class j (columns); of equal logits the first counts."""
    classes = logits_NC.shape[1]
    pairs_N = labels_N * classes + logits_NC.argmax(axis=1)
    return np.bincount(pairs_N, minlength=classes**2).reshape(classes, classes)


def score(
    logits_NC: NDArray[np.float32],
    labels_N: NDArray[np.int64],
    classes: Sequence[str],
    temperature: float | None = None,
    *,
    has_probabilities: bool = True,
) -> dict[str, Any]:
    """The columns of one student on N labelled images; accuracies in percent, with the ends of 95 % intervals.

    `top1`, `top5` (Wilson), `balanced` (mean recall of the classes that have images; bootstrap), `ece` at `temperature` and the
    `best_temperature` for these images (None without probabilities), then `classes`, a mapping each, and the `confusion` matrix.
    """
    found = accuracy(logits_NC, labels_N)
    confusion_CC = confusion_of(logits_NC, labels_N)
    hits_C, counts_C = confusion_CC.diagonal(), confusion_CC.sum(axis=1)
    shown_C = counts_C > 0
    scores: dict[str, Any] = {**found}
    for name in ("top1", "top5"):
        scores[f"{name}_low"], scores[f"{name}_high"] = wilson(round(found[name] * len(labels_N) / 100), len(labels_N))
    scores["balanced"] = round(100 * float((hits_C[shown_C] / counts_C[shown_C]).mean()), 4)
    scores["balanced_low"], scores["balanced_high"] = bootstrap_balanced(hits_C, counts_C)
    shares_NC = probabilities(logits_NC, temperature)
    scores["temperature"] = temperature
    scores["ece"] = calibration_error(shares_NC, labels_N) if has_probabilities else None
    scores["best_temperature"] = fit_temperature(logits_NC, labels_N) if has_probabilities else None
    scores["classes"] = [_class(number, name, confusion_CC) for number, name in enumerate(classes)]
    scores["confusion"] = confusion_CC.tolist()
    return scores


def _class(number: int, name: str, confusion_CC: NDArray[np.int64]) -> dict[str, Any]:
    """One class: its images, how many of them are found, how many of those that are taken for it are it. None: of no images."""
    hits = int(confusion_CC[number, number])
    rows, taken = int(confusion_CC[number].sum()), int(confusion_CC[:, number].sum())
    low, high = wilson(hits, rows)
    return {
        "class": name,
        "rows": rows,
        "recall": _percent(hits, rows),
        "recall_low": low if rows else None,
        "recall_high": high if rows else None,
        "precision": _percent(hits, taken),
    }


def _percent(hits: int, count: int) -> float | None:
    return None if count == 0 else round(100 * hits / count, 4)


def confusions(row: dict[str, Any]) -> list[tuple[int, str, str]]:
    """(images, their class, what they are taken for) of a row of `score`, the most frequent first, then in the order of the classes."""
    names = [item["class"] for item in row["classes"]]
    pairs = [
        (count, names[i], names[j])
        for i, counts in enumerate(row["confusion"])
        for j, count in enumerate(counts)
        if i != j and count
    ]
    return sorted(pairs, key=lambda pair: -pair[0])
