"""Multinomial logistic regression of many classes: L-BFGS in float32, on any device, in coordinates in which it is nearly round.

Least over W, b of the mean log-loss + |W|^2 / (2 penalty N), the objective of scikit-learn for C = penalty. The curvature of the loss
is that of the rows' second moments times p (1 - p), about 1 / C at first, and less than that of Boehning's bound (Ann. Inst. Stat.
Math. 44, 1992) throughout. So W is sought in the principal axes of the rows, each divided by the root of (moment / C + 1 / (penalty
N)): a handful of steps then does what takes hundreds along the axes as they are. Rows are read in blocks; nothing of size N x C is held.

scikit-learn stops at a gradient of 1e-4, which with a thousand classes is where it starts: after two or three steps.

Legend: N rows, B of a block, D dims, J = D + 1 (the last is the bias), C classes. Rows and weights are float32.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK_ROWS = 4096
HISTORY = 10
MAX_ITERATIONS = 200
LEAST_GAIN = 1e-5  # nats a row that a step must gain; a tenth of it moves no logit by a hundredth


class SoftmaxFits:
    """Fits to the same rows under several penalties. `x_ND` are about their mean, `labels_N` lie in 0..C-1."""

    def __init__(
        self, x_ND: NDArray[np.floating], labels_N: NDArray[np.int64], n_classes: int, device: torch.device | str
    ) -> None:
        rows_ND = torch.as_tensor(x_ND, dtype=torch.float32, device=device)
        moments_DD = (rows_ND.T @ rows_ND).double().cpu() / len(rows_ND)
        moments_D, axes_DD = torch.linalg.eigh(moments_DD)
        self._axes_DD, self._moments_D = axes_DD.to(rows_ND), moments_D.clamp_min(0).to(rows_ND)
        self._z_NJ = torch.cat([rows_ND @ self._axes_DD, rows_ND.new_ones(len(rows_ND), 1)], dim=1)
        self._labels_N = torch.as_tensor(labels_N, device=rows_ND.device)
        self._n_classes = n_classes

    def fit(self, penalty: float, start_CJ: Tensor | None = None) -> Tensor:
        """Weights and bias (C, J) on the device, from `start_CJ` (None: zero), for rows as they were given."""
        weakness = 1 / (penalty * len(self._z_NJ))
        shares_J = torch.cat([torch.full_like(self._moments_D, weakness), self._moments_D.new_zeros(1)])
        ones_J = torch.cat([self._moments_D, self._moments_D.new_ones(1)])
        scales_J = (ones_J / self._n_classes + shares_J).rsqrt()
        if start_CJ is None:
            start_CJ = self._z_NJ.new_zeros(self._n_classes, len(scales_J))
        sought_CJ = torch.nn.Parameter(self._turned(start_CJ, self._axes_DD) / scales_J)
        optimiser = torch.optim.LBFGS(
            [sought_CJ],
            max_iter=MAX_ITERATIONS,
            history_size=HISTORY,
            tolerance_grad=0,
            tolerance_change=LEAST_GAIN,
            line_search_fn="strong_wolfe",
        )

        def loss_and_gradient() -> Tensor:
            weight_CJ = sought_CJ.detach() * scales_J
            loss, gradient_CJ = self._log_loss(weight_CJ)
            sought_CJ.grad = (gradient_CJ + shares_J * weight_CJ) * scales_J
            return loss + 0.5 * (shares_J * weight_CJ.square()).sum().double()

        optimiser.step(loss_and_gradient)  # type: ignore[no-untyped-call]
        return self._turned(sought_CJ.detach() * scales_J, self._axes_DD.T)

    def _turned(self, weight_CJ: Tensor, axes_DD: Tensor) -> Tensor:
        return torch.cat([weight_CJ[:, :-1] @ axes_DD, weight_CJ[:, -1:]], dim=1)

    def _log_loss(self, weight_CJ: Tensor) -> tuple[Tensor, Tensor]:
        """Mean log-loss (float64) and its gradient (C, J)."""
        total, gradient_CJ = torch.zeros((), dtype=torch.float64, device=weight_CJ.device), torch.zeros_like(weight_CJ)
        for start in range(0, len(self._z_NJ), BLOCK_ROWS):
            z_BJ, labels_B1 = (part[start : start + BLOCK_ROWS] for part in (self._z_NJ, self._labels_N[:, None]))
            logs_BC = torch.log_softmax(z_BJ @ weight_CJ.T, dim=1)
            total -= logs_BC.gather(1, labels_B1).double().sum()
            errors_BC = logs_BC.exp_().scatter_add_(1, labels_B1, z_BJ.new_full(labels_B1.shape, -1.0))
            gradient_CJ += errors_BC.T @ z_BJ
        return total / len(self._z_NJ), gradient_CJ / len(self._z_NJ)


def mean_log_loss(weight_CJ: Tensor, x_MD: NDArray[np.floating], labels_M: NDArray[np.int64]) -> float:
    """Of rows that a fit has not seen."""
    rows_MD = torch.as_tensor(x_MD, dtype=torch.float32, device=weight_CJ.device)
    scores_MC = rows_MD @ weight_CJ[:, :-1].T + weight_CJ[:, -1]
    return float(torch.nn.functional.cross_entropy(scores_MC, torch.as_tensor(labels_M, device=scores_MC.device)))
