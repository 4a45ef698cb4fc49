"""Which rows of a store are kept out of a run, so that the student can be watched on images it is not trained on.

Rows outside the run (neither labelled nor in its pool) cost nothing. Where there are too few, rows of the pool are kept out of
training. Rows are ranked by a hash of (split seed, key), so that neither row order, shard layout nor machine matters, and a
smaller choice lies inside a larger one.

Legend: N held-out rows, n rows of this run, m labelled rows, d rows that the run loses. All are rows of the store, int64.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tcs.errors import ConfigError, require
from tcs.splits.ranking import best_ranked

Rows = NDArray[np.int64]

DEFAULT_ROWS = 1000
LEAST_ROWS = 100  # a share of neighbours on fewer rows moves by several points with the draw
LEAST_ASKED = 20  # twice the neighbours that are compared: below it, any two students look alike
POOL_SHARE = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Rows to watch a student on, sorted: `rows_N`, those among them that the run must not train on: `dropped_d`.

    `about` is one sentence for the user: what is watched and at whose cost, or why nothing is.
    """

    rows_N: Rows
    dropped_d: Rows
    about: str

    def kept(self, run_rows_n: Rows) -> Rows:
        """`run_rows_n` without the dropped rows, in the order given: what is left to train on."""
        return run_rows_n[~np.isin(run_rows_n, self.dropped_d)]


def held_out_rows(
    keys: Sequence[str],
    run_rows_n: Rows,
    labelled_rows_m: Rows,
    wanted: int | None,
    split_seed: int,
    *,
    may_take_labelled: bool = False,
) -> HeldOut:
    """Choose up to `wanted` rows to watch a run on; 0 asks for none, None for what the rule below gives.

    `keys` names every row of the store, `run_rows_n` are the rows whose pixels the run would train on, `labelled_rows_m` those
    whose labels it reads. Rows outside the run come first. With None, 100 or more of them are enough, and at most 1,000 are
    taken; else 5 % of the unlabelled pool rows, at most 1,000, is the number wanted, if that is 100 or more; else nothing is
    watched. A number takes rows outside the run, then unlabelled rows of the pool, then, with `may_take_labelled`, labelled
    ones; it leaves the run half of its rows at least. Labelled rows are never taken unasked. ConfigError where the number lies
    from 1 to 19, or there are too few rows.
    """
    is_mine_N = np.zeros(len(keys), bool)  # not setdiff1d: it hashes a million rows that are in order already
    is_mine_N[run_rows_n] = is_mine_N[labelled_rows_m] = True
    mine, outside = np.flatnonzero(is_mine_N), np.flatnonzero(~is_mine_N)
    pool = np.setdiff1d(run_rows_n, labelled_rows_m)
    if wanted == 0:
        return nothing_held_out("nothing is watched, as --held-out 0 asks.")
    if wanted is None:
        return _automatic(keys, outside, pool, split_seed)
    require(
        wanted >= LEAST_ASKED,
        f"--held-out is {wanted}; it must be {LEAST_ASKED} or more (fewer rows tell no student from another), or 0 for none.",
    )
    groups = [outside, pool, np.intersect1d(mine, labelled_rows_m)] if may_take_labelled else [outside, pool]
    _refuse_too_few(wanted, groups, len(mine))
    return _take(keys, wanted, groups, split_seed)


def _automatic(keys: Sequence[str], outside: Rows, pool: Rows, split_seed: int) -> HeldOut:
    if len(outside) >= LEAST_ROWS:
        return _take(keys, min(DEFAULT_ROWS, len(outside)), [outside], split_seed)
    wanted = min(DEFAULT_ROWS, int(POOL_SHARE * len(pool)))
    if wanted >= LEAST_ROWS:
        return _take(keys, wanted, [outside, pool], split_seed)
    return nothing_held_out(
        f"nothing is watched: {len(outside):,} rows lie outside the run, and {POOL_SHARE:.0%} of its {len(pool):,} unlabelled "
        f"rows are fewer than {LEAST_ROWS}; --held-out N keeps N rows out."
    )


def _refuse_too_few(wanted: int, groups: Sequence[Rows], run_rows: int) -> None:
    spare = min(sum(len(group) for group in groups[1:]), run_rows // 2)
    most = len(groups[0]) + spare
    if wanted <= most:
        return
    remedy = f"use {most} or fewer" if most >= LEAST_ASKED else "use 0"
    raise ConfigError(
        f"--held-out is {wanted}; {len(groups[0]):,} rows lie outside the run and it can spare {spare:,} of its own "
        f"(never more than half): {remedy}."
    )


def _take(keys: Sequence[str], wanted: int, groups: Sequence[Rows], split_seed: int) -> HeldOut:
    """The `wanted` best-ranked rows, of the first group as long as it lasts, then of the next."""
    taken: list[list[int]] = []
    for group in groups:
        left = wanted - sum(len(rows) for rows in taken)
        taken.append(best_ranked(group, keys, "held out", split_seed, left).tolist() if left else [])
    dropped = [row for rows in taken[1:] for row in rows]
    return HeldOut(rows_N=_sorted(taken[0] + dropped), dropped_d=_sorted(dropped), about=_about(wanted, len(dropped)))


def _about(held: int, dropped: int) -> str:
    if not dropped:
        return f"{held:,} rows outside the run are watched."
    return (
        f"{held:,} rows are watched; {dropped:,} of them are kept out of training for it (--held-out 0 trains on all)."
    )


def nothing_held_out(about: str) -> HeldOut:
    """No row, for the reason told by `about`."""
    return HeldOut(rows_N=_sorted([]), dropped_d=_sorted([]), about=about)


def _sorted(rows: list[int]) -> Rows:
    return np.array(sorted(rows), np.int64)
