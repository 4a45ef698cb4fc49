"""The ceiling curve: how well the teacher's cached coordinates classify, by number and kind of coordinates.

A ridge probe is fitted to the coordinates of k shots a class (or of all labels) and scored on rows outside them. No
head on these coordinates can transmit more to a student. Split seeds from 100 on are development splits (design,
section 8), so that a K chosen by this curve was not chosen on the splits of a reported table.

Legend: N rows of the store, n labelled rows of a split, m scored rows, D features, K coordinates, C classes.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcs.coordinates.axes import axis_scales, make_axes
from tcs.coordinates.moments import Blocks
from tcs.coordinates.selection import ranked_probes
from tcs.coordinates.system import CoordinateSystem
from tcs.errors import DataError
from tcs.probes.ridge import RidgeProbe, SubsetFits, fit_ridge
from tcs.runtime import seed_for
from tcs.splits.shots import k_shot_split

POWERS = (0.0, 0.5, 1.0)
SPLIT_SEEDS = (100, 101, 102, 103, 104)
MOST_SCORED_ROWS = 10_000
MOST_LABELLED_ROWS = 50_000
HELD_OUT_SHARE = 0.2
SCORED_AT_ONCE = 1024  # rows; scores of more leave the processor's cache
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledFeatures:
    """Features (N, D) with what names their rows: keys, labels (-1 for none) and class names."""

    features: Blocks | NDArray[np.floating]
    keys: Sequence[str]
    labels_N: Ints
    classes: Sequence[str]


def curve_dims(dims: int) -> tuple[int, ...]:
    """16, 32, 64 ... and D."""
    powers = [16 << step for step in range(32) if 16 << step < dims]
    return (*powers, dims)


def possible_shots(train: LabelledFeatures, shots: Sequence[int]) -> tuple[list[int], str | None]:
    """Those of `shots` that leave a row of every class to score, and a note on the others (None: all are possible)."""
    least = int(
        np.bincount(train.labels_N[train.labels_N >= 0], minlength=len(train.classes)).min(initial=len(train.keys))
    )
    kept = [count for count in shots if count < least]
    if len(kept) == len(shots):
        return kept, None
    left_out = ", ".join(str(count) for count in shots if count >= least)
    return kept, f"no ceiling at {left_out} shots: the smallest class has {least} labelled rows"


def ceiling_curve(
    train: LabelledFeatures,
    mean_D: F64,
    covariance_DD: F64,
    *,
    shots: Sequence[int | None] = (4, 16, None),
    dims: Sequence[int] | None = None,
    split_seeds: Sequence[int] = SPLIT_SEEDS,
    test: LabelledFeatures | None = None,
    fitted: CoordinateSystem | None = None,
) -> list[dict[str, Any]]:
    """One row for each shots x axes x power x components: mean accuracy in percent, its standard error over n splits.

    `shots` None means all labels: one split, a held-out fifth of the rows scored (at most MOST_LABELLED_ROWS rows are
    fitted). Scored are rows of `train` outside the split, or rows of `test` (another store, classes matched by name);
    at most MOST_SCORED_ROWS, drawn by the split seed. Axes are `pca` at three powers (all labels: at power 0 only,
    since the penalty is negligible there and scales change nothing), `random` (new ones for each split) and `selected`
    (by elimination from all principal axes with the split's labels). Axes of another method, of the coordinate system
    `fitted`, have a cell at its K and power, beside the others at that K. DataError where there are too few labelled rows.
    """
    dims = curve_dims(len(mean_D)) if dims is None else tuple(dims)
    fitted = None if fitted is None or fitted.method in ("pca", "random") else fitted
    if fitted is not None:
        dims = tuple(sorted({*dims, fitted.components}))
    rows = []
    for count in shots:
        cells: dict[tuple[str, float, int], list[float]] = {}
        seeds = split_seeds if count is not None else split_seeds[:1]
        for split_seed in seeds:
            fitted_n, scored_m = _choose_rows(train, count, split_seed, test)
            part = _read_part(train, fitted_n, test, scored_m)
            powers = POWERS if count is not None else POWERS[:1]
            for cell, accuracy in _accuracies(part, mean_D, covariance_DD, dims, powers, split_seed):
                cells.setdefault(cell, []).append(accuracy)
            if fitted is not None:
                cell = (fitted.method, fitted.power, fitted.components)
                cells.setdefault(cell, []).append(_fitted_accuracy(part, fitted))
        sizes = {"labelled_rows": len(fitted_n), "scored_rows": len(scored_m)}
        rows += [_row(count, cell, values) | sizes for cell, values in cells.items()]
    return rows


def match_classes(test: LabelledFeatures, classes: Sequence[str]) -> Ints:
    """Labels (N,) of `test` numbered as in `classes`, -1 for none; DataError naming a class that `classes` lacks."""
    unknown = sorted(set(test.classes) - set(classes))
    if unknown:
        raise DataError(
            f"the test store has class '{unknown[0]}', which the training store lacks ({len(unknown)} such classes);"
            " give stores of the same classes."
        )
    number_of = {name: number for number, name in enumerate(classes)}
    numbers = np.array([*(number_of[name] for name in test.classes), -1], np.int64)
    return numbers[test.labels_N]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Part:
    """Features and labels of one split: n fitted rows, m scored rows."""

    fitted_nD: F32
    labels_n: Ints
    scored_mD: F32
    truth_m: Ints
    n_classes: int


def _choose_rows(
    train: LabelledFeatures, shots: int | None, split_seed: int, test: LabelledFeatures | None
) -> tuple[Ints, Ints]:
    """Fitted rows of `train`, and scored rows of `test` (or of `train` where that is None)."""
    generator = np.random.default_rng(seed_for(split_seed, "ceiling rows"))
    labelled = generator.permutation(np.flatnonzero(train.labels_N >= 0))
    if shots is not None:
        fitted = k_shot_split(train.keys, train.labels_N, train.classes, shots, split_seed).rows_n
        outside = np.setdiff1d(labelled, fitted)
    else:
        cut = 0 if test is not None else round(HELD_OUT_SHARE * len(labelled))
        outside, fitted = labelled[:cut], labelled[cut:]
    if test is not None:
        outside = np.flatnonzero(test.labels_N >= 0)
    if len(outside) == 0 or len(fitted) == 0:
        raise DataError(f"{len(labelled)} labelled rows leave none to score; give a larger store, or a test store.")
    scored = generator.permutation(outside)[:MOST_SCORED_ROWS]
    return np.sort(fitted[:MOST_LABELLED_ROWS]), np.sort(scored)


def _read_part(train: LabelledFeatures, fitted_n: Ints, test: LabelledFeatures | None, scored_m: Ints) -> _Part:
    source = train if test is None else test
    truth_N = train.labels_N if test is None else match_classes(test, train.classes)
    return _Part(
        fitted_nD=np.asarray(train.features[fitted_n], np.float32),
        labels_n=train.labels_N[fitted_n],
        scored_mD=np.asarray(source.features[scored_m], np.float32),
        truth_m=truth_N[scored_m],
        n_classes=len(train.classes),
    )


def _accuracies(
    part: _Part, mean_D: F64, covariance_DD: F64, dims: Sequence[int], pca_powers: Sequence[float], split_seed: int
) -> Iterator[tuple[tuple[str, float, int], float]]:
    """Pairs ((axes, power, K), accuracy) of one split."""
    for axes, powers in (("pca", pca_powers), ("random", (0.0,))):
        basis_DD, spectrum_D = make_axes(covariance_DD, axes, split_seed)
        z_nD, z_mD = (_project(x, mean_D, basis_DD) for x in (part.fitted_nD, part.scored_mD))
        fits = SubsetFits(z_nD, part.labels_n, part.n_classes)
        for size in dims:
            for power in powers:
                scales_K = axis_scales(spectrum_D, size, power)
                probe = fits.fit(np.arange(size), scales_K)
                yield (axes, power, size), _probe_accuracy(probe, z_mD[:, :size], scales_K, part.truth_m)
        if axes == "pca":
            for size, (active_k, probe) in ranked_probes(fits, z_nD.shape[1], dims).items():
                ones_K = np.ones(size, np.float32)
                yield ("selected", 0.0, size), _probe_accuracy(probe, z_mD[:, active_k], ones_K, part.truth_m)


def _fitted_accuracy(part: _Part, system: CoordinateSystem) -> float:
    """Of a ridge probe on the coordinates of `system`."""
    probe = fit_ridge(system.transform(part.fitted_nD), part.labels_n, part.n_classes)
    return probe.accuracy(system.transform(part.scored_mD), part.truth_m)


def _project(features_ND: F32, mean_D: F64, basis_DD: F64) -> F32:
    projected_ND: F32 = (features_ND - mean_D.astype(np.float32)) @ basis_DD.astype(np.float32)
    return projected_ND


def _probe_accuracy(probe: RidgeProbe, z_mK: F32, scales_K: F32, truth_m: Ints) -> float:
    """Of a probe of scaled coordinates; the scales go into the weights, which are fewer than the scored rows."""
    weight_CK, bias_C = (probe.weight_CK * scales_K).astype(np.float32), probe.bias_C.astype(np.float32)
    right = 0
    for start in range(0, len(z_mK), SCORED_AT_ONCE):
        scores_BC = z_mK[start : start + SCORED_AT_ONCE] @ weight_CK.T
        scores_BC += bias_C
        right += int((scores_BC.argmax(axis=1) == truth_m[start : start + SCORED_AT_ONCE]).sum())
    return 100 * (right / len(z_mK))


def _row(shots: int | None, cell: tuple[str, float, int], accuracies: Sequence[float]) -> dict[str, Any]:
    axes, power, components = cell
    accuracy, stderr = mean_and_error(accuracies)
    return {
        "shots": shots,
        "axes": axes,
        "power": power,
        "components": components,
        "accuracy": accuracy,
        "stderr": stderr,
        "n": len(accuracies),
    }


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and its standard error; None for one value."""
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return float(np.mean(values)), error


def recommended_components(rows: Sequence[Mapping[str, Any]], method: str, power: float) -> dict[int, int]:
    """Shots -> the smallest K whose mean lies within one standard error of the best mean, which is the best K's.

    From the cells of random axes for the method `random`, else of principal ones at the measured power nearest to `power`; cells of
    one split have no standard error and are left out.
    """
    axes, nearest = (
        ("random", 0.0) if method == "random" else ("pca", min(POWERS, key=lambda known: abs(known - power)))
    )
    found: dict[int, int] = {}
    for shots in dict.fromkeys(row["shots"] for row in rows):
        cells = [row for row in rows if (row["shots"], row["axes"], row["power"]) == (shots, axes, nearest)]
        if not cells or any(row["stderr"] is None for row in cells):
            continue
        best = max(cells, key=lambda row: row["accuracy"])
        reach = best["accuracy"] - best["stderr"]
        found[shots] = min(row["components"] for row in cells if row["accuracy"] >= reach)
    return found
