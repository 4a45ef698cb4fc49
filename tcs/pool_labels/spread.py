"""Labels of a pool from a few labelled rows: the transductive probe.

    labels = spread_labels(z_NK, labelled_M, labels_M, n_classes)
    labels.weight_CK, labels.bias_C      # a linear head, for rows outside the pool as well
    labels.soft_labels(z_BK)             # what a student distils

It reads the coordinates of every row of the pool and the labels that it is given, never another label.

Legend: N rows of the pool, M labelled rows, B rows, K coordinates, J = K + 1, C classes, T classes kept a row.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcs.errors import require
from tcs.pool_labels.estimators import fit_head
from tcs.pool_labels.options import RIDGE, PoolLabelOptions
from tcs.pool_labels.pool import BLOCK_ROWS, Pool, Rows, clamp, make_pool
from tcs.pool_labels.safety import objection
from tcs.probes.ridge import fit_ridge

F32 = NDArray[np.float32]

F64 = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PoolLabels:
    """A linear head of the coordinates as they were given, and the soft labels that it stands for.

    Scores are z W' + b, with `weight_CK` and `bias_C` float64; soft labels are the softmax of `sharpness` times the scores, and
    the labels themselves on the labelled rows (`labelled_M`, `labels_M`; int64). `estimator` is what made the head:
    "ridge" where nothing was spread; then `reason` says why, unless it was asked for.
    """

    weight_CK: F64
    bias_C: F64
    sharpness: float
    labelled_M: NDArray[np.int64]
    labels_M: NDArray[np.int64]
    estimator: str
    reason: str | None = None

    @property
    def fell_back(self) -> bool:
        """Whether the ridge probe stands in for what was asked."""
        return self.reason is not None

    def scores(self, z_BK: NDArray[np.floating]) -> F64:
        """Scores (B, C) float64 of any rows; the largest is the class."""
        scores_BC: F64 = np.asarray(z_BK, np.float64) @ self.weight_CK.T + self.bias_C
        return scores_BC

    def soft_labels(self, z_BK: NDArray[np.floating]) -> F32:
        """Soft labels (B, C) float32 of any rows, by their coordinates alone."""
        return torch.softmax(torch.from_numpy(self.sharpness * self.scores(z_BK)), dim=1).float().numpy()

    def blocks(self, z_NK: NDArray[np.floating], rows: int = BLOCK_ROWS) -> Iterator[tuple[int, F32]]:
        """Pairs (first row, soft labels (B, C)) over the pool, labelled rows with their labels."""
        for start in range(0, len(z_NK), rows):
            p_BC = self.soft_labels(z_NK[start : start + rows])
            clamp(torch.from_numpy(p_BC), start, torch.from_numpy(self.labelled_M), torch.from_numpy(self.labels_M))
            yield start, p_BC


def spread_labels(
    z_NK: Tensor | NDArray[np.floating],
    labelled_M: Rows,
    labels_M: Rows,
    n_classes: int,
    options: PoolLabelOptions | None = None,
    *,
    device: torch.device | str = "cpu",
) -> PoolLabels:
    """Spread the labels `labels_M` (0..n_classes-1) of the rows at `labelled_M` over the rows `z_NK` (N, K), float16 or float32.

    The same options give the same bits on one machine, in whatever order the labelled rows are named. Memory beside the rows: a
    block, a sample of rows x C, and for `propagation` a graph of a sample of rows. DataError for labels or rows that cannot be used
    (`make_pool`), ConfigError for a prior of another number of classes.
    """
    options = options or PoolLabelOptions()
    if options.class_prior is not None:
        _check_prior_length(len(options.class_prior), n_classes)
    pool = make_pool(z_NK, labelled_M, labels_M, n_classes, device=device, seed=options.seed)
    if options.estimator == RIDGE:
        return _probe(pool, options, None)
    if len(pool.labels_M) == pool.rows:
        return _probe(pool, options, "every row of the pool is labelled, so there is nothing to spread to")
    head_CJ = fit_head(pool, options)
    reason = objection(pool, options, head_CJ) if options.safety else None
    if reason is not None:
        return _probe(pool, options, reason)
    weight_CK = head_CJ[:, :-1].double().cpu().numpy() / pool.spread
    bias_C = head_CJ[:, -1].double().cpu().numpy() - weight_CK @ pool.origin_K.double().cpu().numpy()
    return _labels(pool, weight_CK, bias_C, 1.0, options.estimator, None)


def _check_prior_length(given: int, n_classes: int) -> None:
    require(
        given == n_classes, f"the class prior has {given} shares; it needs one for each of the {n_classes} classes."
    )


def _probe(pool: Pool, options: PoolLabelOptions, reason: str | None) -> PoolLabels:
    """The ridge probe of the labelled rows as they were given; its soft labels are as sharp as those of the others."""
    shots_MK = pool.z_NK[pool.labelled_M.to(pool.z_NK.device)].float().cpu().numpy()
    probe = fit_ridge(shots_MK, pool.labels_M.numpy(), pool.n_classes)
    sample_SK = pool.z_NK[pool.sample().to(pool.z_NK.device)].float().cpu().numpy()
    spread = float(probe.logits(sample_SK).std())
    sharpness = options.sharpness / max(spread, 1e-12)
    return _labels(pool, probe.weight_CK, probe.bias_C, sharpness, RIDGE, reason)


def _labels(
    pool: Pool, weight_CK: F64, bias_C: F64, sharpness: float, estimator: str, reason: str | None
) -> PoolLabels:
    return PoolLabels(
        weight_CK=weight_CK,
        bias_C=bias_C,
        sharpness=sharpness,
        labelled_M=pool.labelled_M.numpy(),
        labels_M=pool.labels_M.numpy(),
        estimator=estimator,
        reason=reason,
    )
