"""Images that look like no other, and classes that are small or show one thing.

Legend: N rows, K coordinates, k neighbours, C classes.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

OUTLIER_SCORE = 4.0  # robust standard deviations above the median
FEW_SHARE, FEWEST, ONE_SIDED_SHARE = 0.1, 5, 0.5
MAD_TO_DEVIATION = 1.4826  # of a normal distribution

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Ints = NDArray[np.int64]


def outlier_scores(cosines_Nk: F32) -> F64:
    """How far each row is from its nearest rows (mean of 1 - cosine over those there are), in robust deviations from the median.

    Zeros where rows do not differ in that. float64 (N,); the deviation is 1.4826 times the median absolute one.
    """
    is_there_Nk = cosines_Nk >= -1.5
    sums_N = np.where(is_there_Nk, 1.0 - cosines_Nk, 0.0).sum(axis=1)
    distance_N = sums_N / np.maximum(is_there_Nk.sum(axis=1), 1)
    above_N = distance_N - np.median(distance_N)
    deviation = MAD_TO_DEVIATION * float(np.median(np.abs(above_N)))
    scores_N: F64 = above_N / deviation if deviation > 1e-6 else np.zeros(len(above_N))
    return scores_N


@dataclasses.dataclass(frozen=True)
class ClassFacts:
    """A class: its labelled images, how widely they spread (mean squared distance from their mean, 1 for the median class), and
    whether that is few (below a tenth of the median class, or 5) or one-sided (a spread below half)."""

    name: str
    rows: int
    spread: float
    is_few: bool
    is_one_sided: bool


def class_facts(points_NK: F32, labels_N: Ints, classes: tuple[str, ...]) -> tuple[ClassFacts, ...]:
    """The facts of every class that has an image, in order."""
    rows_of = {name: np.flatnonzero(labels_N == label) for label, name in enumerate(classes)}
    spreads = {name: float(points_NK[rows].var(axis=0).sum()) for name, rows in rows_of.items() if len(rows)}
    if not spreads:
        return ()
    middle = float(np.median([len(rows_of[name]) for name in spreads]))
    wide = float(np.median(list(spreads.values()))) or 1.0
    return tuple(
        ClassFacts(
            name=name,
            rows=len(rows_of[name]),
            spread=spread / wide,
            is_few=len(rows_of[name]) < max(FEWEST, FEW_SHARE * middle),
            is_one_sided=len(rows_of[name]) > 1 and spread / wide < ONE_SIDED_SHARE,
        )
        for name, spread in spreads.items()
    )
