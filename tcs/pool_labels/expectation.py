"""Expectation and maximisation over the pool: soft labels from a linear head, a head from soft labels, in turns.

Both heads here are functions of the same sums, so that a round is one pass over the rows, block by block, and nothing of size
N x C is ever held:

* ridge-EM: weighted ridge regression of 2 P - 1 on the pool and of the +-1 labels on the labelled rows.
* Gaussian EM: a mixture of Gaussians with one covariance (linear discriminant analysis with soft labels: Hastie, Tibshirani,
  J. R. Stat. Soc. B 58, 1996). Its shared covariance is the total scatter minus that of the class means, so no second pass is
  needed; it is shrunk towards a multiple of the identity.

Labelled rows are clamped to their labels, and weigh more beside (`label_weight`).

Legend: N rows of the pool, M labelled rows, B rows of a block, K coordinates, J = K + 1 (ones last), C classes. Rows are
float32, sums float64 on the CPU.
"""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from tcs.pool_labels.head import Calibration, ridge_head
from tcs.pool_labels.options import PoolLabelOptions
from tcs.pool_labels.pool import Pool

# A class of a thousand still has a hundred rows; at ImageNet's size it saves three quarters of the time.
EARLY_ROWS = 131072

WHOLE_ROUNDS = 2


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Sums:
    """Weighted sums over all rows: products of coordinates (J, J), and of soft labels and coordinates (C, J). Float64."""

    second_JJ: Tensor
    cross_CJ: Tensor


MStep = Callable[[Sums, PoolLabelOptions], Tensor]


def fit_em(pool: Pool, options: PoolLabelOptions, m_step: MStep, start_CJ: Tensor | None = None) -> Tensor:
    """`options.rounds` rounds from `start_CJ` (None: the ridge probe of the labelled rows) to a head (C, J).

    Of a pool of more than EARLY_ROWS rows all rounds but the last WHOLE_ROUNDS read a seeded draw of so many.
    """
    calibrate = Calibration(pool, options)
    head_CJ = ridge_head(pool) if start_CJ is None else start_CJ
    whole_rounds = options.rounds
    if pool.rows > EARLY_ROWS:
        whole_rounds = min(WHOLE_ROUNDS, options.rounds)
        sample = pool.restricted(pool.sample(EARLY_ROWS))
        head_CJ = _run_rounds(sample, options.rounds - whole_rounds, options, m_step, calibrate, head_CJ)
    return _run_rounds(pool, whole_rounds, options, m_step, calibrate, head_CJ)


def _run_rounds(
    pool: Pool, rounds: int, options: PoolLabelOptions, m_step: MStep, calibrate: Calibration, head_CJ: Tensor
) -> Tensor:
    fixed = _fixed_sums(pool, options)
    for _ in range(rounds):
        cross_CJ = fixed.cross_CJ + _soft_sums(pool, calibrate(head_CJ))
        head_CJ = m_step(Sums(second_JJ=fixed.second_JJ, cross_CJ=cross_CJ), options).to(pool.device, torch.float32)
    return head_CJ


def _fixed_sums(pool: Pool, options: PoolLabelOptions) -> Sums:
    """What no round changes: products of all coordinates, and of labels and coordinates of the labelled rows."""
    labelled_MJ, weight = pool.labelled().double().cpu(), pool.label_weight(options.label_weight)
    return Sums(
        second_JJ=_second_moments(pool) + weight * labelled_MJ.T @ labelled_MJ,
        cross_CJ=weight * pool.one_hot().double().cpu().T @ labelled_MJ,
    )


def _second_moments(pool: Pool) -> Tensor:
    width = pool.z_NK.shape[1] + 1
    total_JJ = torch.zeros(width, width, dtype=torch.float64)
    for _, x_BJ in pool.blocks():
        total_JJ += (x_BJ.T @ x_BJ).double().cpu()
    return total_JJ


def _soft_sums(pool: Pool, head_CJ: Tensor) -> Tensor:
    """The sum over rows of soft label times row (C, J): what one pass gathers."""
    total_CJ = torch.zeros(head_CJ.shape, dtype=torch.float64)
    for start, x_BJ in pool.blocks():
        p_BC = pool.clamp(start, torch.softmax(x_BJ @ head_CJ.T, dim=1))
        total_CJ += (p_BC.T @ x_BJ).double().cpu()
    return total_CJ


def ridge_step(sums: Sums, options: PoolLabelOptions) -> Tensor:
    """Ridge weights and unpenalised bias (C, J) of the targets 2 P - 1."""
    return solve_ridge(sums, options.penalty)


def solve_ridge(sums: Sums, relative_penalty: float) -> Tensor:
    """The same for any sums of a last column of ones; the penalty is a share of the mean of the rows' second moments."""
    squares_K = sums.second_JJ.diagonal()[:-1]
    penalty_J = torch.full((len(sums.second_JJ),), relative_penalty * float(squares_K.mean()), dtype=torch.float64)
    penalty_J[:-1].clamp_(min=1e-12)  # coordinates that are all zero: any penalty gives weight zero
    penalty_J[-1] = 0
    targets_CJ = 2 * sums.cross_CJ - sums.second_JJ[-1]
    head_CJ: Tensor = torch.linalg.solve(sums.second_JJ + penalty_J.diag(), targets_CJ.T).T
    return head_CJ


def gaussian_step(sums: Sums, options: PoolLabelOptions) -> Tensor:
    """Log densities (C, J) of Gaussians with the classes' means and one covariance, without what all classes share."""
    mass_C, total = sums.cross_CJ[:, -1:], float(sums.second_JJ[-1, -1])
    mean_CK = sums.cross_CJ[:, :-1] / mass_C
    covariance_KK = (sums.second_JJ[:-1, :-1] - sums.cross_CJ[:, :-1].T @ mean_CK) / total
    level = covariance_KK.diagonal().mean().clamp_min(1e-12)
    shrunk_KK = (1 - options.shrinkage) * covariance_KK
    shrunk_KK.diagonal().add_(options.shrinkage * level)
    weight_CK = torch.linalg.solve(shrunk_KK, mean_CK.T).T
    return torch.cat([weight_CK, -0.5 * (weight_CK * mean_CK).sum(1, keepdim=True)], dim=1)
