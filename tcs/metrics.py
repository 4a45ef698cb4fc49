"""Scores of a classifier on a store: classes matched by name, accuracy, and images known from training. No torch is needed.

Legend: N rows of the store, n known images, C classes.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cache
from tcs.array_files import BROKEN, array_in
from tcs.config.names import finder
from tcs.errors import ArtefactError, DataError
from tcs.ordinary import read_ordinary

HASH_BYTES = 16


def match_classes(
    store: cache.Store, known: Sequence[str], lacking: str = "that the student was not trained on"
) -> NDArray[np.int64]:
    """Labels of the store as `known` numbers the classes, matched by name; DataError names those that are not `known`."""
    if not store.is_labelled:
        raise DataError(f"store {store.path} has no labels, so nothing can be scored; extract it from class folders.")
    used = {store.classes[label] for label in np.unique(store.labels_N) if label >= 0}
    find = finder(known)
    strangers = sorted(name for name in used if find(name) is None)
    if strangers:
        raise DataError(f"store {store.path} has classes {lacking}: {', '.join(strangers[:5])}.")
    number_of: dict[str | None, int] = {name: number for number, name in enumerate(known)} | {None: -1}
    numbers = np.array([number_of[find(name)] for name in store.classes] + [-1], np.int64)
    return numbers[store.labels_N]


def accuracy(logits_NC: NDArray[np.floating[Any]], labels_N: NDArray[np.int64]) -> dict[str, float]:
    """top1, top1_err, top5, top5_err in percent (timm's column names); top5 counts min(5, C) classes."""
    order_NC = np.argsort(-logits_NC, axis=1, kind="stable")
    hits_NC = order_NC == labels_N[:, None]
    top1, top5 = (round(100 * float(hits_NC[:, :k].any(axis=1).mean()), 4) for k in (1, 5))
    return {"top1": top1, "top1_err": round(100 - top1, 4), "top5": top5, "top5_err": round(100 - top5, 4)}


def balanced_accuracy(top1_N: NDArray[np.integer], labels_N: NDArray[np.int64]) -> float:
    """The mean, over the classes that have images, of the share of their images that are found, in percent."""
    counts_C = np.bincount(labels_N)
    hits_C = np.bincount(labels_N[top1_N == labels_N], minlength=len(counts_C))
    return round(100 * float((hits_C[counts_C > 0] / counts_C[counts_C > 0]).mean()), 4)


def log_shares(logits_NC: NDArray[np.floating[Any]], temperature: float | None = None) -> NDArray[np.float64]:
    """log softmax(logits / temperature), (N, C) float64; None stands for 1."""
    scaled_NC = np.asarray(logits_NC, np.float64) / (temperature or 1.0)
    scaled_NC = scaled_NC - scaled_NC.max(axis=1, keepdims=True)
    return np.asarray(scaled_NC - np.log(np.exp(scaled_NC).sum(axis=1, keepdims=True)))


def known_hashes(path: pathlib.Path) -> NDArray[np.uint8]:
    """Content hashes (n, 16) of the images that a student was trained or fitted on."""
    try:
        known_n16: NDArray[np.uint8] = array_in(read_ordinary(path))
        if known_n16.dtype != np.uint8 or known_n16.ndim != 2 or known_n16.shape[1] != HASH_BYTES:
            raise ValueError(f"it holds {known_n16.dtype} of shape {known_n16.shape}")
    except (OSError, *BROKEN) as error:
        raise ArtefactError(f"file {path} is missing or broken; train the student again with --overwrite.") from error
    return known_n16


def are_known(hashes_N16: NDArray[np.uint8], known_n16: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which of the content hashes are among the known ones, (N,)."""
    known_N: NDArray[np.bool_] = np.isin(_as_keys(hashes_N16), _as_keys(known_n16))
    return known_N


def count_known(hashes_N16: NDArray[np.uint8], known_n16: NDArray[np.uint8]) -> int:
    """How many of the content hashes are among the known ones."""
    return int(are_known(hashes_N16, known_n16).sum())


def _as_keys(hashes_N16: NDArray[np.uint8]) -> NDArray[np.void]:
    return np.ascontiguousarray(hashes_N16).view(np.dtype((np.void, 16))).ravel()
