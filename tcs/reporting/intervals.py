"""Means with 95 % intervals over seeds, paired differences, and Holm's correction. Numbers are accuracies in percent."""

import dataclasses
import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from scipy import special

CONFIDENCE = 0.95
Key = TypeVar("Key", bound=Hashable)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interval:
    """Mean of `n` values; `half` is the half-width of the 95 % t-interval and `std` the spread, None for n = 1.

    `p` is the two-sided p-value of a t-test of mean 0, None for n = 1.
    """

    mean: float
    n: int
    half: float | None = None
    std: float | None = None
    p: float | None = None


def t_interval(values: Sequence[float]) -> Interval:
    """mean +- t(0.975, n - 1) std / sqrt(n), Student's interval. `values` holds one number a seed, at least one."""
    n, mean = len(values), statistics.fmean(values)
    if n < 2:
        return Interval(mean=mean, n=n)
    std = statistics.stdev(values)
    error = std / math.sqrt(n)
    half = _t_quantile(n - 1) * error
    return Interval(mean=mean, n=n, half=half, std=std, p=_p_of_mean(mean, error, n))


def _p_of_mean(mean: float, error: float, n: int) -> float:
    if error == 0:  # equal values: certain either way
        return 1.0 if mean == 0 else 0.0
    return _two_sided(mean / error, n - 1)


# scipy.stats has the same under other names, and takes three times as long to load as a table of results to write.
def _t_quantile(freedom: float) -> float:
    """Half the width of the central CONFIDENCE of Student's t, in standard errors."""
    return float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2))


def _two_sided(t: float, freedom: float) -> float:
    """The probability that Student's t lies as far from 0 as `t`, or farther."""
    return float(2 * special.stdtr(freedom, -abs(t)))


def paired_difference(ours: Mapping[Key, float], theirs: Mapping[Key, float]) -> Interval | None:
    """The interval of ours - theirs over the keys (seed and split) that both have; None where they share none."""
    shared = [key for key in ours if key in theirs]
    return t_interval([ours[key] - theirs[key] for key in shared]) if shared else None


def unpaired_difference(ours: Sequence[float], theirs: Sequence[float]) -> Interval | None:
    """The interval of mean(ours) - mean(theirs) of two samples that share no pairs, by Welch's t (1947); None where one is empty, without
    an interval where one has a single value. `n` is the smaller sample's, `std` None: each has its own."""
    if not ours or not theirs:
        return None
    mean, n = statistics.fmean(ours) - statistics.fmean(theirs), min(len(ours), len(theirs))
    if n < 2:
        return Interval(mean=mean, n=n)
    parts = [statistics.variance(values) / len(values) for values in (ours, theirs)]
    error = math.sqrt(sum(parts))
    if error == 0:
        return Interval(mean=mean, n=n, half=0.0, p=_p_of_mean(mean, 0.0, n))
    freedom = sum(parts) ** 2 / sum(part**2 / (len(v) - 1) for part, v in zip(parts, (ours, theirs), strict=True))
    half = _t_quantile(freedom) * error
    return Interval(mean=mean, n=n, half=half, p=_two_sided(mean / error, freedom))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values (Holm 1979): the i-th smallest of m times m - i + 1, made monotone, at most 1; order kept."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = running
    return adjusted
