"""The ceiling with a pool: how well the coordinates of a fit classify once few labels are spread over thousands of rows.

At the fitted K only, beside the ridge probe of the same labels, both scored on rows that are in no pool: a fifth of the labelled
rows outside the split, or another store. Splits are development splits, as in tcs.coordinates.ceiling.

Legend: N rows of the store, n labelled rows of a split, m scored rows, P rows of the pool, K coordinates.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcs.coordinates.ceiling import (
    HELD_OUT_SHARE,
    MOST_SCORED_ROWS,
    SPLIT_SEEDS,
    LabelledFeatures,
    match_classes,
    mean_and_error,
)
from tcs.coordinates.system import CoordinateSystem
from tcs.coordinates.vectors import ChosenVectors, mapped_rows
from tcs.pool_labels.options import PoolLabelOptions
from tcs.pool_labels.spread import spread_labels
from tcs.probes.ridge import fit_ridge
from tcs.runtime import progress_bar, seed_for
from tcs.splits.shots import k_shot_split

MOST_POOL_ROWS = 20_000
TRANSDUCTIVE_SEEDS = SPLIT_SEEDS[:3]
MANY_VALUES = 1 << 23  # rows of the pool x classes: 419 classes of MOST_POOL_ROWS rows
Ints = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """Where a transductive ceiling is measured: `test` is another store to score on (None: rows of `train`), and `barred_N`
    (bool) are the rows of `train` that no pool may hold, because their images score."""

    train: LabelledFeatures
    test: LabelledFeatures | None = None
    barred_N: NDArray[np.bool_] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Result:
    """One split: accuracies in percent, sizes, and why the spread head was not trusted (None: it was)."""

    spread: float
    ridge: float
    labelled_rows: int
    scored_rows: int
    pool_rows: int
    reason: str | None


def transductive_ceiling(
    ground: Ground,
    system: CoordinateSystem,
    shots: Sequence[int],
    split_seeds: Sequence[int] | None = None,
) -> list[dict[str, Any]]:
    """One row for each of `shots`: mean accuracy of the transductive head and of the ridge probe in percent, with their standard
    errors over n splits, the sizes of the last split, and the reasons of those that fell back to the ridge probe.

    Unasked, splits are those of TRANSDUCTIVE_SEEDS, or above MANY_VALUES the first of them alone, and the smallest of `shots` alone:
    spreading costs rows x classes, and of hundreds of classes one split is an average of as many draws. A pool has at most
    MOST_POOL_ROWS rows, the labelled ones among them. DataError where a class has too few rows for a split.
    """
    if split_seeds is None:
        values = min(MOST_POOL_ROWS, len(ground.train.labels_N)) * len(ground.train.classes)
        split_seeds = TRANSDUCTIVE_SEEDS
        if values > MANY_VALUES:
            split_seeds, shots = TRANSDUCTIVE_SEEDS[:1], sorted(shots)[:1]
    rows = []
    with progress_bar(len(shots) * len(split_seeds), "spreading labels", "splits") as bar:
        for count in shots:
            found = []
            for seed in split_seeds:
                found.append(_measure(ground, system, count, seed))
                bar.advance(1)
            rows.append({"shots": count, "components": system.components} | _row(found))
    return rows


def _row(found: Sequence[_Result]) -> dict[str, Any]:
    accuracy, stderr = mean_and_error([result.spread for result in found])
    ridge_accuracy, ridge_stderr = mean_and_error([result.ridge for result in found])
    return {
        "accuracy": accuracy,
        "stderr": stderr,
        "ridge_accuracy": ridge_accuracy,
        "ridge_stderr": ridge_stderr,
        "n": len(found),
        "labelled_rows": found[-1].labelled_rows,
        "scored_rows": found[-1].scored_rows,
        "pool_rows": found[-1].pool_rows,
        "fell_back": [result.reason for result in found if result.reason is not None],
    }


def _measure(ground: Ground, system: CoordinateSystem, shots: int, split_seed: int) -> _Result:
    train = ground.train
    labelled_n = np.sort(k_shot_split(train.keys, train.labels_N, train.classes, shots, split_seed).rows_n)
    scored_m, pool_P = choose_pool(ground, labelled_n, split_seed)
    z_PK = _coordinates(train, system, pool_P)
    places_n, labels_n = np.searchsorted(pool_P, labelled_n), train.labels_N[labelled_n]
    options = PoolLabelOptions(seed=split_seed)
    spread = spread_labels(z_PK, places_n, labels_n, len(train.classes), options)
    ridge = fit_ridge(z_PK[places_n], labels_n, len(train.classes))
    source = train if ground.test is None else ground.test
    z_mK = _coordinates(source, system, scored_m)
    truth_m = (train.labels_N if ground.test is None else match_classes(ground.test, train.classes))[scored_m]
    return _Result(
        spread=float(100 * (spread.scores(z_mK).argmax(1) == truth_m).mean()),
        ridge=ridge.accuracy(z_mK, truth_m),
        labelled_rows=len(labelled_n),
        scored_rows=len(scored_m),
        pool_rows=len(pool_P),
        reason=spread.reason,
    )


def choose_pool(ground: Ground, labelled_n: Ints, split_seed: int) -> tuple[Ints, Ints]:
    """Rows to score (of `ground.test`, or of `train` where that is None) and rows of the pool (of `train`), sorted, drawn by the seed.

    Without another store they have no row in common; the labelled rows are in the pool.
    """
    generator = np.random.default_rng(seed_for(split_seed, "transductive ceiling"))
    train, test = ground.train, ground.test
    others = np.setdiff1d(np.arange(len(train.labels_N)), labelled_n)
    if test is not None:
        scored_m = generator.permutation(np.flatnonzero(test.labels_N >= 0))
    else:
        outside = others[train.labels_N[others] >= 0]
        scored_m = generator.permutation(outside)[: max(1, round(HELD_OUT_SHARE * len(outside)))]
        others = np.setdiff1d(others, scored_m)
    if ground.barred_N is not None:
        others = others[~ground.barred_N[others]]
    room = max(0, MOST_POOL_ROWS - len(labelled_n))
    pool_P = np.concatenate([labelled_n, generator.permutation(others)[:room]])
    return np.sort(scored_m[:MOST_SCORED_ROWS]), np.sort(pool_P)


def _coordinates(source: LabelledFeatures, system: CoordinateSystem, rows_n: Ints) -> NDArray[np.float32]:
    return mapped_rows(ChosenVectors(source.features, rows_n), system.transform, system.components)
