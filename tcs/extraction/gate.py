"""A quick check after extraction: is this teacher sane? Nearest neighbours and a linear probe on held-out rows.

Legend: N rows sampled, n all rows of the store, D teacher dims, C classes.
"""

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cache
from tcs.coordinates.axes import effective_rank
from tcs.coordinates.vectors import row_vectors
from tcs.probes.ridge import fit_ridge, knn_accuracy
from tcs.runtime import say, seed_for

MAX_ROWS = 10_000
HELD_OUT_SHARE = 0.2
MIN_ROWS, MIN_CLASSES = 10, 2  # of a probe
SEED = 0

# A guesser that always names the largest class would make as few errors as the better of both heads with at least this
# probability: then the heads have found nothing. Below MIN_JUDGED held-out rows nothing is said.
NEAR_CHANCE = 0.01
MIN_JUDGED = 20


def add_gate(path: str | os.PathLike[str]) -> None:
    """Run the gate on every readout of a closed store, print it, and record it in the manifest; once per store."""
    store = cache.open(path)
    if store.manifest.gate is not None:
        return
    results = {name: gate(store, name, SEED) for name in store.readouts}
    for name, result in results.items():
        say(gate_line(name, result))
    cache.set_gate(path, results)


def gate(store: cache.Store, readout: str, seed: int) -> dict[str, Any]:
    """Statistics of a readout, and with two classes or more the held-out accuracy of k-NN (k = 20) and a ridge probe.

    Of a map it sees the average over positions, of several views the first.
    At most 10,000 labelled rows are sampled, a fifth of them held out. Keys: rows, constant_dims, effective_rank; and
    where there is a probe fitted_rows, held_out_rows, classes, chance, knn_top1, probe_top1 (percent), and where there is
    none labelled_rows and labelled_classes, which say why.
    """
    generator = np.random.default_rng(seed_for(seed, "gate"))
    labels_n = np.asarray(store.labels_N)
    labelled_n = np.flatnonzero(labels_n >= 0)
    classes = len(np.unique(labels_n[labelled_n]))
    is_probed = len(labelled_n) >= MIN_ROWS and classes >= MIN_CLASSES
    candidates_n = labelled_n if is_probed else np.arange(len(store))
    rows_N = generator.permutation(candidates_n)[:MAX_ROWS]
    features_ND = row_vectors(store, readout, resident_bytes=0)[rows_N].astype(np.float32)
    result = _statistics(features_ND)
    if is_probed:
        return result | _probe(features_ND, labels_n[rows_N])
    return result | {"labelled_rows": len(labelled_n), "labelled_classes": classes}


def _statistics(features_ND: NDArray[np.float32]) -> dict[str, Any]:
    """How many dims never change, and the effective rank of the rows."""
    centred_ND = features_ND.astype(np.float64) - features_ND.mean(axis=0, dtype=np.float64)
    variances_D = np.linalg.eigvalsh(centred_ND.T @ centred_ND).clip(0)
    return {
        "rows": len(features_ND),
        "constant_dims": int((np.ptp(features_ND, axis=0) == 0).sum()),
        "effective_rank": round(effective_rank(variances_D), 1),
    }


def _probe(features_ND: NDArray[np.float32], labels_N: NDArray[np.int64]) -> dict[str, Any]:
    classes, numbers_N = np.unique(labels_N, return_inverse=True)
    held = max(1, round(HELD_OUT_SHARE * len(labels_N)))
    train_ND, test_ND, train_N, test_N = features_ND[held:], features_ND[:held], numbers_N[held:], numbers_N[:held]
    probe = fit_ridge(train_ND, train_N, len(classes))
    return {
        "fitted_rows": len(train_N),
        "held_out_rows": held,
        "classes": len(classes),
        "chance": round(100 * float(np.bincount(test_N).max()) / held, 2),
        "knn_top1": round(knn_accuracy(train_ND, train_N, test_ND, test_N), 2),
        "probe_top1": round(probe.accuracy(test_ND, test_N), 2),
    }


def gate_line(readout: str, result: Mapping[str, Any]) -> str:
    """The result as one line for the terminal."""
    rank = f"effective rank {result['effective_rank']}, {result['constant_dims']} constant dims"
    if "knn_top1" not in result:
        return f"gate {readout}: {rank} ({result['rows']:,} rows, {_why_unprobed(result)})."
    line = (
        f"gate {readout}: k-NN {result['knn_top1']:.1f} %, linear probe {result['probe_top1']:.1f} % of"
        f" {result['held_out_rows']:,} held-out rows ({result['fitted_rows']:,} fitted, largest class"
        f" {result['chance']:.1f} %); {rank}."
    )
    if is_near_chance(result):
        line += " That is near chance: check the weights and the preprocessing."
    return line


def _why_unprobed(result: Mapping[str, Any]) -> str:
    """The reason in words; stores of earlier releases do not record it."""
    rows, classes = result.get("labelled_rows", 0), result.get("labelled_classes", 0)
    if rows == 0:
        return "no labels to probe"
    if rows < MIN_ROWS:
        return f"no probe: {rows} labelled, and it takes {MIN_ROWS} or more"
    return f"no probe: all labels are of {classes} class, and it takes {MIN_CLASSES} or more"


def is_near_chance(result: Mapping[str, Any]) -> bool:
    """Whether the better of both heads errs about as often as a guesser that always names the largest class.

    One-sided exact binomial test of its errors on the held-out rows against the guesser's. False where it could not tell:
    few held-out rows, or so few outside the largest class that a head without any error would not stand out.
    """
    held_out = result["held_out_rows"]
    guesser, best = (
        round((100 - top1) / 100 * held_out)
        for top1 in (result["chance"], max(result["knn_top1"], result["probe_top1"]))
    )
    if held_out < MIN_JUDGED or _at_most(0, held_out, guesser / held_out) > NEAR_CHANCE:
        return False
    return _at_most(best, held_out, guesser / held_out) > NEAR_CHANCE


def _at_most(errors: int, trials: int, rate: float) -> float:
    """The probability of `errors` or fewer in `trials` independent ones at `rate`; in logarithms, as the counts are large."""
    if not 0 < rate < 1:
        return 1.0 if rate == 0 or errors >= trials else 0.0
    whole = math.lgamma(trials + 1)
    logs = (
        whole - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * math.log(rate) + (trials - k) * math.log1p(-rate)
        for k in range(errors + 1)
    )
    return math.fsum(map(math.exp, logs))
