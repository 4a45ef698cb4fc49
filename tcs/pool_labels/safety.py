"""When spreading is not to be trusted: what held-out labelled rows say, and without them what the pool alone can tell.

Legend: M labelled rows, S rows of a sample, J = K + 1 coordinates (ones last), C classes.
"""

import torch
from torch import Tensor

from tcs.pool_labels.estimators import fit_head
from tcs.pool_labels.head import ridge_head
from tcs.pool_labels.options import PoolLabelOptions
from tcs.pool_labels.pool import Pool
from tcs.probes.ridge import balanced_folds

CHECK_ROWS = 16384

MOST_FOLDS = 4

# Folds are left out once so many labelled rows were held out: of 4,000 rows in 1,000 classes one fold of 1,000 tells as much as four
# would, in a quarter of the time. Runs of fewer labels have all of their folds.
ENOUGH_HELD_OUT = 512

LEAST_CLASSES = 0.5  # of C: below so many classes in effect, the soft labels have collapsed


def objection(pool: Pool, options: PoolLabelOptions, head_CJ: Tensor) -> str | None:
    """Why the ridge probe is to be used instead of the spread head, in words, or None."""
    least = int(torch.bincount(pool.labels_M, minlength=pool.n_classes).min())
    sample = pool.restricted(pool.sample(CHECK_ROWS))
    if least < 2:
        return collapse(sample, head_CJ)
    return held_out_objection(sample, options, min(MOST_FOLDS, least))


def held_out_objection(pool: Pool, options: PoolLabelOptions, folds: int) -> str | None:
    """Object where, on labelled rows kept from both, the ridge probe is right more often.

    Few rows decide, and no margin is left for chance: on development splits the pools where the probe was ahead by one or two
    rows lost by spreading, and of pools of equal classes one split in ten came there.
    """
    fold_M = torch.from_numpy(balanced_folds(pool.labels_M.numpy(), folds, pool.seed))
    probe_only = spread_only = held_out = 0
    for fold in range(folds):
        if held_out >= ENOUGH_HELD_OUT:
            break
        held_out += int((fold_M == fold).sum())
        part = pool.relabelled(fold_M != fold)
        rows_mJ = pool.relabelled(fold_M == fold).labelled()
        truth_m = pool.labels_M[fold_M == fold].to(rows_mJ.device)
        probe_m = _right(ridge_head(part), rows_mJ, truth_m)
        spread_m = _right(fit_head(part, options), rows_mJ, truth_m)
        probe_only += int((probe_m & ~spread_m).sum())
        spread_only += int((spread_m & ~probe_m).sum())
    if probe_only <= spread_only:
        return None
    return (
        f"on {held_out} labelled rows held out in turn the ridge probe alone was right on {probe_only}, "
        f"the spread labels alone on {spread_only}"
    )


def _right(head_CJ: Tensor, rows_mJ: Tensor, truth_m: Tensor) -> Tensor:
    return (rows_mJ @ head_CJ.T).argmax(1) == truth_m


def collapse(sample: Pool, head_CJ: Tensor) -> str | None:
    """Object where the rows of the pool fall into too few classes: fewer, in effect, than half of them."""
    counts_C = torch.bincount((sample.all_rows() @ head_CJ.T).argmax(1), minlength=sample.n_classes)
    shares_C = counts_C.double() / counts_C.sum()
    effective = float((-(shares_C * shares_C.clamp_min(1e-30).log()).sum()).exp())
    if effective >= LEAST_CLASSES * sample.n_classes:
        return None
    return f"the pool falls into {effective:.1f} of {sample.n_classes} classes in effect"
