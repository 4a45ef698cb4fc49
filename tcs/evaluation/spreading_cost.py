"""How long the heads `transductive` of `tcs probe` will take: two of them are fitted to a part of the pool first, and thrown away.

The seconds of a head are taken for a + b times its multiply-adds, which the sizes tell; a small head of few coordinates and a larger one
of more say what a and b are on this machine.

Legend: N rows of the pool, M labelled rows, S rows of a sample, D features, K coordinates, C classes, G rows of the graph.
"""

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tcs.coordinates.vectors import ChosenVectors
from tcs.evaluation.transductive import SplitPool, fit_transductive
from tcs.pool_labels.expectation import EARLY_ROWS
from tcs.pool_labels.options import PoolLabelOptions
from tcs.pool_labels.propagation import GRAPH_ROWS, STEPS
from tcs.pool_labels.safety import CHECK_ROWS, ENOUGH_HELD_OUT, MOST_FOLDS
from tcs.probes.heads import HeadOptions
from tcs.runtime import seed_for

FEW_ROWS, MANY_ROWS = 1024, 4096  # of the two heads that are timed
MOST_TIMED = 256  # coordinates of either; a head of 1,280 would take as long as those that are asked for
# To keep a row's nearest among the cosines of a block takes as long as so many multiply-adds for each of them.
PICKING = 64
EMS = 2  # that the estimator `average` runs to their end

Timed = Callable[[SplitPool, int], float]


def expected_seconds(pool: SplitPool, sizes: Sequence[int], options: HeadOptions, timed: Timed | None = None) -> float:
    """Seconds of heads with these numbers of coordinates K, on a pool like this one, one after the other.

    `timed` tells the seconds of one head of a part of the pool; unasked it is fitted. DataError for rows that are not finite.
    """
    if timed is None:
        timed = _stopwatch(options)
    few, many = (part_of(pool, rows) for rows in (FEW_ROWS, MANY_ROWS))
    least, most = min(*sizes, MOST_TIMED), min(max(sizes), MOST_TIMED)
    timed(few, least)  # the first one also waits for what is done once a process
    spent = [(operations(part, size), timed(part, size)) for part, size in ((few, least), (many, most))]
    fixed, rate = _line(*spent)
    return sum(fixed + rate * operations(pool, size) for size in sizes)


def operations(pool: SplitPool, components: int) -> float:
    """Multiply-adds of one head of K coordinates, its check included (tcs.pool_labels: `average`, then `safety`)."""
    rows, folds = len(pool.vectors), folds_of(pool)
    graphs = _graph(rows, components)
    if folds and rows > CHECK_ROWS:  # the check has a graph of its own, of a draw of rows
        graphs += _graph(CHECK_ROWS, components)
    checks = folds * _spread(min(rows, CHECK_ROWS), components, pool.n_classes)
    return graphs + _spread(rows, components, pool.n_classes) + checks


def folds_of(pool: SplitPool) -> int:
    """How often the check spreads labels anew: not at all where a class has one label, else until enough rows were held out."""
    least = int(np.bincount(pool.labels_M, minlength=pool.n_classes).min())
    folds = min(MOST_FOLDS, least)
    return 0 if least < 2 else min(folds, math.ceil(ENOUGH_HELD_OUT * folds / len(pool.labels_M)))


def part_of(pool: SplitPool, rows: int) -> SplitPool:
    """The labelled rows and a draw of others: as many as asked, and at least as many others as labelled ones."""
    whole, labelled = len(pool.vectors), len(pool.labelled_M)
    others = np.setdiff1d(np.arange(whole), pool.labelled_M)
    drawn = np.random.default_rng(seed_for(0, "timed part of a pool")).permutation(others)
    kept_S: NDArray[np.int64] = np.sort(np.concatenate([pool.labelled_M, drawn[: max(labelled, rows - labelled)]]))
    return SplitPool(
        vectors=ChosenVectors(pool.vectors, kept_S),
        labelled_M=np.searchsorted(kept_S, pool.labelled_M),
        labels_M=pool.labels_M,
        n_classes=pool.n_classes,
    )


def _line(few: tuple[float, float], many: tuple[float, float]) -> tuple[float, float]:
    """a and b through two points (multiply-adds, seconds), neither below 0; through 0 where both points are the same head."""
    (less, short), (more, long) = few, many
    if more <= less:
        return 0.0, long / more
    rate = max(0.0, long - short) / (more - less)
    return max(0.0, short - rate * less), rate


def _graph(rows: int, components: int) -> float:
    """Of the search for the nearest rows, which is quadratic in G."""
    graph = min(rows, GRAPH_ROWS)
    return float(graph) * graph * (components + PICKING)


def _spread(rows: int, components: int, classes: int) -> float:
    """Of propagation and both EMs: a round is a pass over the rows, and the solution of K equations (float64, so counted twice)."""
    options = PoolLabelOptions()
    early = min(rows, EARLY_ROWS)
    em = options.rounds * (3 * early * components * classes + 2 * components**3 / 3) + rows * components**2
    return EMS * em + STEPS * 2 * options.neighbours * min(rows, GRAPH_ROWS) * classes


def _stopwatch(options: HeadOptions) -> Timed:
    def timed(part: SplitPool, components: int) -> float:
        axes_DK = np.eye(part.vectors.shape[1], components)
        started = time.perf_counter()
        fit_transductive(part, axes_DK, options)
        return time.perf_counter() - started

    return timed
