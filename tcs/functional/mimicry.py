"""Plain mimicry of the teacher's features by a student of the same shape, or by one that a given linear map brings to it.

Legend: B batch, S student dims, T teacher dims, H height, W width.
"""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tcs.functional.checks import require_positive, require_same_shape
from tcs.functional.norms import unit
from tcs.functional.precision import full_precision
from tcs.functional.regressors import adapted


@full_precision
def cosine(f_s: Tensor, f_t: Tensor, adaptor_TS: Tensor | None = None, adaptor_bias_T: Tensor | None = None) -> Tensor:
    """1 - mean cosine over rows (B, T) or over positions of maps (B, T, H, W); a zero vector has cosine 0. ConfigError: shapes."""
    s = adapted(f_s, adaptor_TS, adaptor_bias_T)
    require_same_shape(s, f_t, "cosine")
    return 1 - (unit(s, dim=1) * unit(f_t.detach(), dim=1)).sum(1).mean()


@full_precision
def l2(f_s: Tensor, f_t: Tensor, adaptor_TS: Tensor | None = None, adaptor_bias_T: Tensor | None = None) -> Tensor:
    """Mean over all entries of (s - t)^2. ConfigError: shapes."""
    s = adapted(f_s, adaptor_TS, adaptor_bias_T)
    require_same_shape(s, f_t, "l2")
    return F.mse_loss(s, f_t.detach())


@full_precision
def smooth_l1(
    f_s: Tensor,
    f_t: Tensor,
    beta: float = 1.0,
    adaptor_TS: Tensor | None = None,
    adaptor_bias_T: Tensor | None = None,
) -> Tensor:
    """Mean over all entries of x^2 / (2 beta) where |x| < beta, else |x| - beta / 2, x = s - t. ConfigError: shapes, beta."""
    s = adapted(f_s, adaptor_TS, adaptor_bias_T)
    require_same_shape(s, f_t, "smooth_l1")
    require_positive(beta, "the beta of smooth_l1")
    return F.smooth_l1_loss(s, f_t.detach(), beta=beta)
