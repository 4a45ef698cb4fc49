"""VID: the teacher's features as a Gaussian around a regression of the student's, with one learned variance a channel.

Legend: B batch, T teacher channels, H height, W width.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tcs.errors import ConfigError
from tcs.functional.checks import require_same_rows, require_same_shape
from tcs.functional.precision import full_precision

VARIANCE_FLOOR = 1e-5


def start_log_scale(channels: int, variance: float = 5.0, dtype: torch.dtype = torch.float32) -> Tensor:
    """(T,) log-scales that give every channel this variance: the inverse of softplus(x) + 1e-5. ConfigError if not above 1e-5."""
    if not VARIANCE_FLOOR < variance < float("inf"):
        raise ConfigError(f"the variance that vid starts with is {variance}; it must be above {VARIANCE_FLOOR}.")
    return torch.full((channels,), math.log(math.expm1(variance - VARIANCE_FLOOR)), dtype=dtype)


def variances(log_scale_T: Tensor) -> Tensor:
    """softplus(log-scale) + 1e-5 for each channel."""
    return torch.logaddexp(log_scale_T, torch.zeros_like(log_scale_T)) + VARIANCE_FLOOR


@full_precision
def vid(mu: Tensor, f_t: Tensor, log_scale_T: Tensor) -> Tensor:
    """VID (Ahn et al. 2019, eq. 6): mean of ((mu - F_t)^2 / v + log v) / 2, v = softplus(log_scale) + 1e-5 for each channel.

    `mu` is the regressed student map (B, T, H, W) or vector (B, T) (`VidRegressor`); a larger teacher map is pooled to its
    size, a larger student map must be pooled before its regressor. The log-scales are trained (mdistiller leaves them at 5 by
    mistake). ConfigError: shapes.
    """
    require_same_rows(mu, f_t, "vid")
    target = _pooled_to(mu, f_t.detach())
    require_same_shape(mu, target, "vid", remedy="regress the student to the teacher's channels (VidRegressor)")
    if log_scale_T.shape != mu.shape[1:2]:
        raise ConfigError(
            f"vid has {log_scale_T.numel()} log-scales for {mu.shape[1]} channels; it needs one for each."
        )
    v = variances(log_scale_T).view(1, -1, *(1,) * (mu.ndim - 2))
    return 0.5 * ((mu - target).square() / v + v.log()).mean()


def _pooled_to(mu: Tensor, f_t: Tensor) -> Tensor:
    if mu.ndim != 4 or f_t.ndim != 4 or mu.shape[2:] == f_t.shape[2:]:
        return f_t
    if mu.shape[2] > f_t.shape[2] or mu.shape[3] > f_t.shape[3]:
        sizes = f"{tuple(mu.shape[2:])} for the teacher's {tuple(f_t.shape[2:])}"
        raise ConfigError(f"vid has a regressed map of {sizes}; pool the student's map before the regressor.")
    return F.adaptive_avg_pool2d(f_t, (mu.shape[2], mu.shape[3]))
