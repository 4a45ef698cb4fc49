"""Tailoring: the coordinates that a run's own labels ask for, by backward elimination with a ridge probe.

Each round fits a ridge probe on the active coordinates (leave-one-out penalty), scores coordinate k by
sum_c W_ck^2 var(z_k) and drops the weakest 20 %. The size is chosen by cross-validation: the elimination is repeated
without each fold and scored on it, beside the spectrum's first coordinates at the same size, and the smallest size within
one standard error of the best wins. Cross-validating the sets found with all labels was refused: it costs as many fits,
and its accuracy rises as the set overfits the labels.

Legend: n labelled rows, K coordinates, C classes, A active coordinates.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcs.errors import ArtefactError
from tcs.probes.gram import Gram
from tcs.probes.ridge import RidgeProbe, SubsetFits, balanced_folds
from tcs.splits.shots import Split

DROP_SHARE = 0.2
LEAST_LABELS = 4  # a class; below it a fold has nothing to validate on
MOST_FOLDS = 5
MINIMUM_SIZE = 8
F64 = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """Coordinates kept for one split: `active_k` int64, sorted.

    `method` is ridge, spectrum where there were too few labels, or pool (tcs.coordinates.pool_selection). `history` has a dict a
    round: size, mean and stderr (cross-validated accuracy in percent; agreement of a pool), spectrum_mean and spectrum_stderr
    (the first `size` coordinates), dropped.
    """

    active_k: NDArray[np.int64]
    method: str
    split_digest: str
    history: tuple[Mapping[str, Any], ...]
    note: str

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "active": self.active_k.tolist(),
            "method": self.method,
            "split_digest": self.split_digest,
            "history": [dict(entry) for entry in self.history],
            "note": self.note,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Selection":
        """The inverse of `to_json`."""
        return cls(
            active_k=np.array(value["active"], np.int64),
            method=value["method"],
            split_digest=value["split_digest"],
            history=tuple(value["history"]),
            note=value["note"],
        )


def select_coordinates(
    z_nK: NDArray[np.floating],
    labels_n: NDArray[np.integer],
    n_classes: int,
    shots: int | None,
    seed: int,
    split_digest: str,
    minimum: int = MINIMUM_SIZE,
) -> Selection:
    """Select from the coordinates (n, K) of labelled rows; `shots` is the least number of labels a class (None counts).

    Below LEAST_LABELS labels a class nothing can be cross-validated: the set is the spectrum's first K, and the note
    says so. Deterministic for a seed.
    """
    if shots is None:
        shots = int(np.bincount(labels_n, minlength=n_classes).min())
    if shots < LEAST_LABELS:
        note = (
            f"{shots} labels per class are too few to cross-validate (fewer than {LEAST_LABELS}):"
            f" the spectrum's first {z_nK.shape[1]} coordinates are kept."
        )
        active_k = np.arange(z_nK.shape[1])
        return Selection(active_k=active_k, method="spectrum", split_digest=split_digest, history=(), note=note)
    folds, sizes = min(MOST_FOLDS, shots), round_sizes(z_nK.shape[1], minimum)
    active_sets = [active_A for active_A, _ in _eliminate(SubsetFits(z_nK, labels_n, n_classes), sizes)]
    history = _history(z_nK, labels_n, n_classes, sizes, folds, seed)
    for entry, before_A, after_A in zip(history[1:], active_sets, active_sets[1:], strict=False):
        entry["dropped"] = np.setdiff1d(before_A, after_A).tolist()
    chosen = smallest_within_one_error(history)
    note = (
        f"{sizes[chosen]} of {sizes[0]} coordinates: the smallest set within one standard error of the best of"
        f" {len(sizes)} rounds ({folds} folds)."
    )
    active_k = active_sets[chosen]
    return Selection(active_k=active_k, method="ridge", split_digest=split_digest, history=tuple(history), note=note)


def rank_coordinates(
    z_nK: NDArray[np.floating], labels_n: NDArray[np.integer], n_classes: int, sizes: Sequence[int]
) -> dict[int, NDArray[np.int64]]:
    """The sorted active sets of exactly these sizes, all from one elimination that stops at each of them."""
    ranked = ranked_probes(SubsetFits(z_nK, labels_n, n_classes), z_nK.shape[1], sizes)
    return {size: active_A for size, (active_A, _) in ranked.items()}


def ranked_probes(
    fits: SubsetFits, components: int, sizes: Sequence[int]
) -> dict[int, tuple[NDArray[np.int64], RidgeProbe]]:
    """`rank_coordinates` of all K = `components` coordinates of `fits`, with the probe of each set."""
    rounds = _eliminate(fits, _path(components, sizes))
    return {len(active_A): (active_A, probe) for active_A, probe in rounds if len(active_A) in sizes}


def rank_from_gram(gram: Gram, sizes: Sequence[int]) -> dict[int, NDArray[np.int64]]:
    """`rank_coordinates` from sums over the rows, however many rows there were."""
    rounds = eliminate_sums(gram, _path(len(gram.mean_K), sizes))
    return {len(active_A): active_A for active_A, _, _ in rounds if len(active_A) in sizes}


def eliminate_sums(gram: Gram, sizes: Sequence[int]) -> Iterator[tuple[NDArray[np.int64], F64, F64]]:
    """For each of the falling `sizes`, the first of which is K: the sorted active set, and its probe's weight (C, A) and bias (C,)."""
    probes: list[tuple[F64, F64]] = []

    def fitted(active_A: NDArray[np.int64]) -> F64:
        probes.append(gram.kept(active_A).ridge()[:2])
        return probes[-1][0]

    for active_A in _rounds(gram.variances, fitted, sizes):
        yield active_A, *probes[-1]


def check_selection(selection: Selection, split: Split) -> None:
    """ArtefactError unless the selection was computed from the labels of this very split."""
    if selection.split_digest != split.digest:
        raise ArtefactError(
            f"the selection saw the labels of split {selection.split_digest}, and this run trains on split {split.digest};"
            " use the same --shots and --split-seed (or --split-file) in tcs fit, or leave --selection out."
        )


def round_sizes(components: int, minimum: int) -> list[int]:
    """From all coordinates down to `minimum` (or to all, where there are no more), a fifth less each time."""
    sizes = [components]
    while sizes[-1] > minimum:
        sizes.append(max(minimum, min(sizes[-1] - 1, round((1 - DROP_SHARE) * sizes[-1]))))
    return sizes


def _path(components: int, sizes: Sequence[int]) -> list[int]:
    return sorted({*round_sizes(components, min(sizes)), *sizes}, reverse=True)


def _eliminate(fits: SubsetFits, sizes: Sequence[int]) -> Iterator[tuple[NDArray[np.int64], RidgeProbe]]:
    """The sorted active set and its probe for each of the falling `sizes`, the first of which is K."""
    probes: list[RidgeProbe] = []

    def fitted(active_A: NDArray[np.int64]) -> NDArray[np.float64]:
        probes.append(fits.fit(active_A))
        return probes[-1].weight_CK

    for active_A in _rounds(fits.variances, fitted, sizes):
        yield active_A, probes[-1]


def _rounds(
    variances_K: NDArray[np.float64],
    fitted: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    sizes: Sequence[int],
) -> Iterator[NDArray[np.int64]]:
    """The sorted active set of each of the falling `sizes`; `fitted` gives the weight (C, A) of a probe on such a set."""
    ranked_A = np.arange(len(variances_K))
    for size in sizes:
        active_A = np.sort(ranked_A[:size])
        scores_A = (fitted(active_A) ** 2).sum(0) * variances_K[active_A]
        # Of equal scores the earlier axis, which has more variance, is kept.
        ranked_A = active_A[np.argsort(-scores_A, kind="stable")]
        yield active_A


def _history(
    z_nK: NDArray[np.floating],
    labels_n: NDArray[np.integer],
    n_classes: int,
    sizes: Sequence[int],
    folds: int,
    seed: int,
) -> list[dict[str, Any]]:
    """One entry a size: accuracy over folds of the sets found without the fold, and of the spectrum's first."""
    fold_n = balanced_folds(labels_n, folds, seed)
    kept_FR, first_FR = np.empty((2, folds, len(sizes)))
    for fold in range(folds):
        inside, outside = fold_n != fold, fold_n == fold
        fits, rest_mK, truth_m = SubsetFits(z_nK[inside], labels_n[inside], n_classes), z_nK[outside], labels_n[outside]
        for index, (active_A, probe) in enumerate(_eliminate(fits, sizes)):
            kept_FR[fold, index] = probe.accuracy(rest_mK[:, active_A], truth_m)
            first_A = np.arange(len(active_A))
            first_FR[fold, index] = fits.fit(first_A).accuracy(rest_mK[:, first_A], truth_m)
    names = ("mean", "stderr", "spectrum_mean", "spectrum_stderr")
    columns = [each.tolist() for by_fold_FR in (kept_FR, first_FR) for each in _mean_and_error(by_fold_FR)]
    return [
        {"size": size, **dict(zip(names, values, strict=True)), "dropped": []}
        for size, *values in zip(sizes, *columns, strict=True)
    ]


def _mean_and_error(by_fold_FR: F64) -> tuple[F64, F64]:
    return by_fold_FR.mean(0), by_fold_FR.std(0, ddof=1) / np.sqrt(len(by_fold_FR))


def smallest_within_one_error(history: Sequence[Mapping[str, Any]]) -> int:
    """Index of the last (smallest) round whose mean reaches the best mean minus that round's standard error."""
    best = max(history, key=lambda entry: entry["mean"])
    return max(i for i, entry in enumerate(history) if entry["mean"] >= best["mean"] - best["stderr"])
