"""The one table of estimators: each turns a pool and options into a linear head. Legend: J = K + 1 coordinates, C classes."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from tcs.pool_labels.expectation import fit_em, gaussian_step, ridge_step
from tcs.pool_labels.head import Calibration, ridge_head
from tcs.pool_labels.mutual_information import fit_mutual_information
from tcs.pool_labels.options import PoolLabelOptions
from tcs.pool_labels.pool import Pool
from tcs.pool_labels.propagation import fit_propagation

PROBE_WEIGHT = 0.5  # in development it cost a point on equal classes and gave one on long tails

Estimator = Callable[[Pool, PoolLabelOptions], Tensor]


def _ridge_em(pool: Pool, options: PoolLabelOptions) -> Tensor:
    return fit_em(pool, options, ridge_step)


def _gaussian_em(pool: Pool, options: PoolLabelOptions) -> Tensor:
    return fit_em(pool, options, gaussian_step)


def _average(pool: Pool, options: PoolLabelOptions) -> Tensor:
    """The mean of the scores, each scaled to equal spread, of both EMs begun from propagation, and of the ridge probe at half weight.

    Propagation finds the region of a class where one labelled row lies at its edge, which no linear head does; EM then moves
    the borders to where rows are few; the probe holds back where the pool is not what EM takes it for. One linear head (C, J).
    """
    start_CJ = fit_propagation(pool, options)
    ends = [fit_em(pool, options, m_step, start_CJ) for m_step in (ridge_step, gaussian_step)]
    unit_spread = Calibration(pool, options).unit_spread
    members = [*(unit_spread(head_CJ) for head_CJ in ends), PROBE_WEIGHT * unit_spread(ridge_head(pool))]
    return torch.stack(members).sum(0)


ESTIMATOR_FITS: Mapping[str, Estimator] = {
    "ridge-em": _ridge_em,
    "gaussian-em": _gaussian_em,
    "propagation": fit_propagation,
    "mutual-information": fit_mutual_information,
    "average": _average,
}


def fit_head(pool: Pool, options: PoolLabelOptions) -> Tensor:
    """The head (C, J) of `options.estimator`, calibrated: the softmax of its scores are the soft labels."""
    return Calibration(pool, options)(ESTIMATOR_FITS[options.estimator](pool, options))
