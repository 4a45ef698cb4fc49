"""Tailoring by the whole pool: the coordinates that its soft labels ask for, by backward elimination.

A split of k labels a class says little of which of many coordinates matter; the same labels spread over the pool
(tcs.pool_labels) are a soft label for each of thousands of rows. Each round fits a ridge probe of 2 P - 1 on the active
coordinates (leave-one-out penalty), scores coordinate k by sum_c W_ck^2 var(z_k), drops the weakest 20 %, and is refitted. All rounds
come from one pass over the rows: their sums hold every smaller set's.

The size is chosen without any further label: a fifth of the unlabelled rows is put aside, labels are spread and coordinates
eliminated without them, and a set is scored by how often its probe names the class that the spread labels name there. The smallest
size within one standard error of the best wins, and its set is found again from all rows.

Legend: S rows of the store, N rows of the pool, M labelled ones, H rows put aside, R the rest, B rows of a block, K coordinates,
A active, C classes.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcs.coordinates.selection import (
    MINIMUM_SIZE,
    Selection,
    eliminate_sums,
    round_sizes,
    smallest_within_one_error,
)
from tcs.errors import DataError
from tcs.pool_labels.options import PoolLabelOptions
from tcs.pool_labels.spread import PoolLabels, spread_labels
from tcs.probes.gram import Gram, gather_gram
from tcs.runtime import seed_for

HELD_OUT_SHARE = 0.2
LEAST_HELD_OUT = 20  # fewer cannot tell sets of a few per cent apart
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LabelledPool:
    """Coordinates (N, K) of a pool, float32, and the rows `labelled_M` that have the labels `labels_M` in 0..n_classes-1."""

    z_NK: F32
    labelled_M: Ints
    labels_M: Ints
    n_classes: int

    @classmethod
    def of_split(cls, z_NK: F32, rows_N: Ints, split_M: Ints, labels_S: Ints) -> "LabelledPool":
        """The pool of the rows `rows_N` (sorted) of a store with the labels `labels_S`, of which only those of the rows `split_M` are
        read. Classes without a label take no part."""
        labelled_M = np.sort(split_M)
        present_C, labels_M = np.unique(labels_S[labelled_M], return_inverse=True)
        return cls(
            z_NK=z_NK,
            labelled_M=np.searchsorted(rows_N, labelled_M),
            labels_M=labels_M,
            n_classes=len(present_C),
        )

    def spread(self, options: PoolLabelOptions) -> PoolLabels:
        """Its labels, spread."""
        return spread_labels(self.z_NK, self.labelled_M, self.labels_M, self.n_classes, options)

    def without(self, rows_H: Ints) -> "LabelledPool":
        """The pool without some rows that have no label."""
        kept_R = np.setdiff1d(np.arange(len(self.z_NK)), rows_H)
        return dataclasses.replace(self, z_NK=self.z_NK[kept_R], labelled_M=np.searchsorted(kept_R, self.labelled_M))


def select_from_pool(
    pool: LabelledPool, options: PoolLabelOptions, split_digest: str, minimum: int = MINIMUM_SIZE
) -> Selection:
    """The coordinates that the spread labels of the pool keep, with the history of all rounds.

    `history` has for each round the agreement (`mean`, percent of the rows put aside) with its standard error, that of the first
    `size` coordinates beside it, and what was dropped. Deterministic for `options.seed`. DataError where fewer than
    LEAST_HELD_OUT rows can be put aside, or the labels cannot be spread.
    """
    aside_H = _rows_aside(pool, options.seed)
    sizes = round_sizes(pool.z_NK.shape[1], minimum)
    history = _history(pool.without(aside_H), pool.z_NK[aside_H], options, sizes)
    labels = pool.spread(options)
    active_sets = [active_A for active_A, _, _ in eliminate_sums(soft_gram(pool, labels), sizes)]
    for entry, before_A, after_A in zip(history[1:], active_sets, active_sets[1:], strict=False):
        entry["dropped"] = np.setdiff1d(before_A, after_A).tolist()
    chosen = smallest_within_one_error(history)
    spread = "spread over the pool" if labels.reason is None else f"those of the ridge probe ({labels.reason})"
    note = (
        f"{sizes[chosen]} of {sizes[0]} coordinates by soft labels of {len(pool.z_NK):,} rows, {spread}: the smallest set within one"
        f" standard error of the best of {len(sizes)} rounds, by agreement on {len(aside_H):,} rows put aside."
    )
    active_k = active_sets[chosen]
    return Selection(active_k=active_k, method="pool", split_digest=split_digest, history=tuple(history), note=note)


def soft_gram(pool: LabelledPool, labels: PoolLabels) -> Gram:
    """The sums of all rows and their targets 2 P - 1, read block by block."""
    return gather_gram(_blocks(pool, labels), len(pool.z_NK))


def _blocks(pool: LabelledPool, labels: PoolLabels) -> Iterator[tuple[F32, F64]]:
    for start, p_BC in labels.blocks(pool.z_NK):
        yield pool.z_NK[start : start + len(p_BC)], 2 * p_BC.astype(np.float64) - 1


def _rows_aside(pool: LabelledPool, seed: int) -> Ints:
    """Rows without a label, rising, drawn by the seed."""
    others = np.setdiff1d(np.arange(len(pool.z_NK)), pool.labelled_M)
    count = round(HELD_OUT_SHARE * len(others))
    if count < LEAST_HELD_OUT:
        raise DataError(
            f"the pool has {len(others)} rows without a label, and a selection from the pool puts a fifth of them aside, "
            f"{LEAST_HELD_OUT} or more; give more unlabelled rows, or select by the labelled ones: --selection ridge."
        )
    generator = np.random.default_rng(seed_for(seed, "rows put aside for a selection"))
    return np.sort(generator.permutation(others)[:count])


def _history(
    rest: LabelledPool, aside_HK: F32, options: PoolLabelOptions, sizes: Sequence[int]
) -> list[dict[str, Any]]:
    """One entry a size: the agreement of both kinds of sets with the labels spread over the rest, on the rows put aside."""
    labels = rest.spread(options)
    gram, named_H = soft_gram(rest, labels), labels.scores(aside_HK).argmax(1)
    history: list[dict[str, Any]] = []
    for active_A, weight_CA, bias_C in eliminate_sums(gram, sizes):
        mean, stderr = _agreement(aside_HK[:, active_A] @ weight_CA.T + bias_C, named_H)
        first_A = np.arange(len(active_A))
        weight_CA, bias_C, _ = gram.kept(first_A).ridge()
        spectrum = _agreement(aside_HK[:, first_A] @ weight_CA.T + bias_C, named_H)
        entry = {"size": len(active_A), "mean": mean, "stderr": stderr}
        history.append(entry | {"spectrum_mean": spectrum[0], "spectrum_stderr": spectrum[1], "dropped": []})
    return history


def _agreement(scores_HC: F64, named_H: Ints) -> tuple[float, float]:
    """How often the largest score names the same class, in percent, and its (binomial) standard error."""
    share = float((scores_HC.argmax(1) == named_H).mean())
    return 100 * share, float(100 * np.sqrt(share * (1 - share) / len(named_H)))
