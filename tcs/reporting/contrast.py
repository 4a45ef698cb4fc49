"""Two methods over a whole grid: paired by seed and split in every condition, and averaged over them.

A condition is a data set, student, pool and shot count. Seeds are what an interval is over: within a seed the differences of all
conditions are averaged first, for conditions of one seed share their labelled images and say little that is new about other draws.

Legend: S seeds, N test images.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tcs.reporting.bootstrap import Bootstrapped, hierarchical_bootstrap
from tcs.reporting.coverage import Key
from tcs.reporting.intervals import Interval, holm, paired_difference, t_interval
from tcs.reporting.predicted import Predicted
from tcs.reporting.results import Run, Table

FEW_SEEDS = 3  # below it nothing is marked as known
CLAIM_SEEDS = 5  # fewer are for looking, not for saying that one method beats another


@dataclasses.dataclass(frozen=True, kw_only=True)
class Condition:
    """One table at one shot count, with the paired difference of two methods there."""

    table: Table
    shots: int
    difference: Interval

    @property
    def title(self) -> str:
        """Shots, and the table's title."""
        return f"{self.shots} shot{'s' * (self.shots != 1)}, {self.table.title}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contrast:
    """`first` - `second` in points of top-1. `whole` is the mean over conditions, over the seeds that have all `used` conditions of
    those that are compared; `first_mean` and `second_mean` are both methods' means over the same. `p_holm` is set by `against_all`."""

    first: str
    second: str
    whole: Interval
    first_mean: float
    second_mean: float
    conditions: tuple[Condition, ...]
    used: int
    p_holm: float | None = None

    @property
    def ahead(self) -> int:
        """In how many conditions `first` is better on average."""
        return sum(condition.difference.mean > 0 for condition in self.conditions)

    @property
    def is_clear(self) -> bool:
        """Whether the 95 % interval of the whole excludes no difference."""
        return self.whole.half is not None and abs(self.whole.mean) > self.whole.half


def contrast(tables: Sequence[Table], first: str, second: str) -> Contrast | None:
    """Compare two methods wherever both ran on a seed and split; None where they never did."""
    pairs, conditions, met = {}, [], set[frozenset[Key]]()
    for number, table in enumerate(tables):
        for shots in table.shots:
            ours, theirs = table.by_seed(first, shots), table.by_seed(second, shots)
            difference = paired_difference(ours, theirs)
            runs = frozenset(run.key for method in (first, second) for run in table.cell(method, shots))
            if difference is None or runs in met:  # rows without a pool stand in the table of each pool, and count once
                continue
            met.add(runs)
            conditions.append(Condition(table=table, shots=shots, difference=difference))
            pairs[number, shots] = {key[0]: (ours[key], theirs[key]) for key in ours if key in theirs}
    if not pairs:
        return None
    used, seeds = _balanced(pairs)
    means = [[sum(pairs[place][seed][side] for place in used) / len(used) for seed in seeds] for side in (0, 1)]
    return Contrast(
        first=first,
        second=second,
        whole=t_interval([ours - theirs for ours, theirs in zip(*means, strict=True)]),
        first_mean=sum(means[0]) / len(seeds),
        second_mean=sum(means[1]) / len(seeds),
        conditions=tuple(conditions),
        used=len(used),
    )


def _balanced(pairs: Mapping[tuple[int, int], Mapping[str, object]]) -> tuple[list[tuple[int, int]], list[str]]:
    """Conditions and seeds such that every seed has every condition: all conditions where two seeds have them all, else without
    those that the fewest seeds have, until two seeds are left (or one, where no condition has two)."""
    most = max(len(seeds) for seeds in pairs.values())
    for least in range(1, most + 1):
        used = [place for place, seeds in pairs.items() if len(seeds) >= least]
        shared = set.intersection(*(set(pairs[place]) for place in used))
        if len(shared) >= min(2, most):
            return used, sorted(shared)
    fullest = max(pairs, key=lambda place: len(pairs[place]))  # seeds that do not meet: one condition alone
    return [fullest], sorted(pairs[fullest])


def against_all(tables: Sequence[Table], first: str) -> list[Contrast]:
    """`first` against every other student method, largest difference first, p-values Holm-corrected for all of them together."""
    references = frozenset().union(*(table.references for table in tables))
    methods = dict.fromkeys(method for table in tables for method in table.methods)
    found = [
        result
        for rival in methods
        if rival != first and rival not in references and (result := contrast(tables, first, rival)) is not None
    ]
    tested = [result for result in found if result.whole.p is not None]
    adjusted = dict(
        zip((r.second for r in tested), holm([r.whole.p for r in tested if r.whole.p is not None]), strict=True)
    )
    held = [dataclasses.replace(result, p_holm=adjusted.get(result.second)) for result in found]
    return sorted(held, key=lambda result: -result.whole.mean)


def bootstrapped(result: Contrast, predicted: Mapping[str, Predicted]) -> dict[str, Bootstrapped]:
    """Data set -> the bootstrap interval of the difference over splits and test images, averaged over its conditions, where the
    predictions of both methods are there for the same seeds in all of them."""
    found = {}
    for dataset, answers in predicted.items():
        conditions = [condition for condition in result.conditions if condition.table.dataset == dataset]
        by_seed = [_hits_by_seed(condition, result, answers) for condition in conditions]
        seeds = sorted(set.intersection(*map(set, by_seed))) if by_seed else []
        if seeds:
            mean_SN = np.stack([np.mean([hits[seed] for hits in by_seed], axis=0) for seed in seeds])
            found[dataset] = hierarchical_bootstrap(mean_SN)
    return found


def _hits_by_seed(condition: Condition, result: Contrast, answers: Predicted) -> dict[str, NDArray[np.float64]]:
    """Seed -> difference (N,) of right answers, image by image."""

    def of(method: str) -> dict[tuple[str, str], Run]:
        return {(run.seed, run.split_id): run for run in condition.table.cell(method, condition.shots)}

    ours, theirs, found = of(result.first), of(result.second), {}
    for place in ours.keys() & theirs.keys():
        both = answers.chosen([ours[place], theirs[place]])
        if both is not None and len(both.runs) == 2:
            ours_N, theirs_N = both.hits()
            found[place[0]] = ours_N - theirs_N
    return found
