"""Plain mimicry of the teacher's features by a student of the same shape (project it first).

Legend: B batch, T teacher dims.
"""

import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor

from tcs.functional.checks import require_positive, require_same_shape
from tcs.functional.norms import unit
from tcs.functional.precision import full_precision


@full_precision
def cosine(s: Tensor, t: Tensor) -> Tensor:
    """1 - mean cosine over rows (B, T) or over positions of maps (B, T, H, W); a zero vector has cosine 0. ConfigError: shapes."""
    require_same_shape(s, t, "cosine")
    return 1 - (unit(s, dim=1) * unit(t.detach(), dim=1)).sum(1).mean()


@full_precision
def l2(s: Tensor, t: Tensor) -> Tensor:
    """Mean over all entries of (s - t)^2. ConfigError: shapes."""
    require_same_shape(s, t, "l2")
    return F.mse_loss(s, t.detach())


@full_precision
def smooth_l1(s: Tensor, t: Tensor, beta: float = 1.0) -> Tensor:
    """Mean over all entries of x^2 / (2 beta) where |x| < beta, else |x| - beta / 2, x = s - t. ConfigError: shapes, beta."""
    require_same_shape(s, t, "smooth_l1")
    require_positive(beta, "the beta of smooth_l1")
    return F.smooth_l1_loss(s, t.detach(), beta=beta)
