"""Average ranks of methods over many conditions, with Friedman's test and Nemenyi's critical difference.

After Demsar (2006), "Statistical comparisons of classifiers over multiple data sets", JMLR 7, section 3.2: in each condition (a data
set, student, pool and shot count) the best method has rank 1, ties share their mean rank. Two methods differ at 5 % where their average
ranks are apart by more than CD = q sqrt(k (k + 1) / (6 N)), q the studentised range over k methods divided by sqrt 2. Demsar's
conditions are data sets, which are independent of each other; two shot counts of one data set are not, so a report whose conditions are
mostly shots and students of few data sets describes them, and says little of others.

Legend: N conditions, k methods.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

ALPHA = 0.05
F64 = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ranking:
    """Methods from best to worst with their average ranks; `p` of Friedman's test (None for 2 methods, or where all ranks are tied)
    and `critical`, the critical difference of two average ranks at 5 %.

    `alike` lists groups of methods (positions from and to, both included) within which no two differ by more than that.
    """

    methods: tuple[str, ...]
    ranks: tuple[float, ...]
    conditions: int
    p: float | None
    critical: float
    alike: tuple[tuple[int, int], ...]


def rank_methods(scores_Nk: F64, methods: Sequence[str]) -> Ranking:
    """Rank `methods` by their scores (N, k) float64, where higher is better. ValueError for fewer than 2 methods or no condition."""
    conditions, k = scores_Nk.shape
    if k < 2 or conditions < 1:
        raise ValueError(f"ranks need 2 methods and 1 condition, not {k} and {conditions}")
    ranks_Nk = mean_ranks(scores_Nk)
    mean_k = ranks_Nk.mean(axis=0)
    order = np.argsort(mean_k, kind="stable")
    critical = critical_difference(k, conditions)
    ranks = tuple(float(mean_k[index]) for index in order)
    return Ranking(
        methods=tuple(methods[index] for index in order),
        ranks=ranks,
        conditions=conditions,
        p=friedman_p(ranks_Nk),
        critical=critical,
        alike=_groups(ranks, critical),
    )


def mean_ranks(scores_Nk: F64) -> F64:
    """Ranks (N, k) from 1, the highest score first; those that tie share their mean rank."""
    better_Nk = (scores_Nk[:, None, :] > scores_Nk[:, :, None]).sum(2)
    as_good_Nk = (scores_Nk[:, None, :] == scores_Nk[:, :, None]).sum(2)
    ranks_Nk: F64 = better_Nk + (as_good_Nk + 1) / 2
    return ranks_Nk


def friedman_p(ranks_Nk: F64) -> float | None:
    """p of Friedman's chi-squared, corrected for ties, with k - 1 degrees of freedom; None for k = 2 or ranks that are all tied."""
    conditions, k = ranks_Nk.shape
    spread = float(((ranks_Nk - (k + 1) / 2) ** 2).sum())
    if k < 3 or spread == 0:
        return None
    between = float(((ranks_Nk.mean(axis=0) - (k + 1) / 2) ** 2).sum())
    chi2 = conditions**2 * (k - 1) * between / spread
    return float(special.chdtrc(k - 1, chi2))


def critical_difference(k: int, conditions: int) -> float:
    """Nemenyi's critical difference at 5 % of the average ranks of `k` methods over `conditions`."""
    q = studentised_range(k) / math.sqrt(2)
    return q * math.sqrt(k * (k + 1) / (6 * conditions))


def studentised_range(k: int) -> float:
    """The range that k standard normal values exceed with probability ALPHA: scipy.stats.studentized_range at infinite degrees of freedom,
    which takes longer to load and to solve than a report to write."""
    low, high = 0.0, 20.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, k) < 1 - ALPHA else (low, middle)
    return (low + high) / 2


def _within(width: float, k: int) -> float:
    """The probability that k standard normal values lie within `width`: over the place z of the least of them, k phi(z) [Phi(z + width) -
    Phi(z)]^(k - 1), by the trapezoid rule, which errs by less than 1e-14 where an integrand and all its derivatives end at 0."""
    z, step = np.linspace(-10.0 - width, 10.0, 1601, retstep=True)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return float(k * step * (density * (special.ndtr(z + width) - special.ndtr(z)) ** (k - 1)).sum())


def _groups(ranks: Sequence[float], critical: float) -> tuple[tuple[int, int], ...]:
    """The longest runs of sorted ranks that lie within `critical`; those inside a longer one are left out."""
    found: list[tuple[int, int]] = []
    for first, rank in enumerate(ranks):
        last = max(index for index, other in enumerate(ranks) if other - rank <= critical)
        if last > first and not (found and found[-1][1] >= last):
            found.append((first, last))
    return tuple(found)


def common_scores(by_condition: Mapping[object, Mapping[str, float]]) -> tuple[F64, list[str]]:
    """(scores (N, k), methods) of the methods that most conditions have, in the conditions that have all of those.

    A method that ran in fewer than half of the conditions is left out, for it would leave out the others'.
    """
    counts: dict[str, int] = {}
    for scores in by_condition.values():
        for method in scores:
            counts[method] = counts.get(method, 0) + 1
    methods = [method for method, count in counts.items() if 2 * count >= len(by_condition)]
    rows = [
        [scores[method] for method in methods] for scores in by_condition.values() if all(m in scores for m in methods)
    ]
    return np.array(rows, np.float64).reshape(len(rows), len(methods)), methods
