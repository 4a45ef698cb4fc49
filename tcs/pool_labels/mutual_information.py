"""Mutual information of rows and classes, raised on the pool under the labels (TIM: Boudiaf et al., NeurIPS 2020, equation 4).

Minimised by full-batch Adam over a linear head: cross-entropy of the labelled rows + KL(mean soft label || prior) + 0.1 times
the mean entropy of a row. TIM's softmax of distances to prototypes is a linear head as well; here it starts from the ridge
probe. Of a large pool a seeded draw of rows is used. Legend: S rows, M labelled rows, J = K + 1 coordinates, C classes.
"""

import torch
from torch import Tensor

from tcs.pool_labels.balance import SMALLEST
from tcs.pool_labels.head import Calibration, ridge_head
from tcs.pool_labels.options import PoolLabelOptions
from tcs.pool_labels.pool import SAMPLE_ROWS, Pool

STEPS = 150

RATE = 0.02

ENTROPY_WEIGHT = 0.1

MARGINAL_WEIGHTS = {"none": 0.0, "estimated": 0.5, "half": 0.5, "uniform": 1.0, "given": 1.0}


def fit_mutual_information(pool: Pool, options: PoolLabelOptions) -> Tensor:
    """The head (C, J) after STEPS steps."""
    rows_SJ, labelled_MJ = pool.restricted(pool.sample(SAMPLE_ROWS)).all_rows(), pool.labelled()
    labels_M = pool.labels_M.to(pool.device)
    prior_C = rows_SJ.new_tensor(options.class_prior or [1 / pool.n_classes] * pool.n_classes)
    head_CJ = Calibration(pool, options)(ridge_head(pool)).requires_grad_()
    optimiser = torch.optim.Adam([head_CJ], lr=RATE)
    for _ in range(STEPS):
        optimiser.zero_grad()
        loss = objective(head_CJ, rows_SJ, labelled_MJ, labels_M, prior_C, MARGINAL_WEIGHTS[options.balance])
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return head_CJ.detach()


def objective(
    head_CJ: Tensor, rows_SJ: Tensor, labelled_MJ: Tensor, labels_M: Tensor, prior_C: Tensor, marginal_weight: float
) -> Tensor:
    """The sum that is minimised, a scalar."""
    log_p_SC = torch.log_softmax(rows_SJ @ head_CJ.T, dim=1)
    p_SC = log_p_SC.exp()
    mean_C = p_SC.mean(0)
    marginal = (mean_C * (mean_C.clamp_min(SMALLEST) / prior_C).log()).sum()
    entropy = -(p_SC * log_p_SC).sum(1).mean()
    supervised = torch.nn.functional.cross_entropy(labelled_MJ @ head_CJ.T, labels_M)
    return supervised + marginal_weight * marginal + ENTROPY_WEIGHT * entropy
