"""Normalisations that the losses share, with finite gradients at zero vectors and constant channels.

Legend: B batch, D dims.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tcs.errors import ConfigError
from tcs.functional.checks import require_pairs
from tcs.functional.precision import full_precision

NO_EPSILON = 1e-12  # below it an epsilon is taken for the published 0, and constant channels need a guard


def unit(x: Tensor, dim: int = -1, eps: float = 1e-12) -> Tensor:
    """x / max(|x|, eps) along `dim`. Where |x| < eps the gradient is zero (by the formula it would be 1/eps times the incoming one)."""
    norm = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
    scaled = x / norm.clamp_min(eps)
    return torch.where(norm < eps, scaled.detach(), scaled)


@full_precision
def batch_norm(x_BD: Tensor, eps: float) -> Tensor:
    """(x - mean) / sqrt(var + eps) per column, biased variance of this batch, nothing learned and nothing remembered.

    `eps` = 0 is allowed: then a column without spread gives zeros and a finite gradient. ConfigError for fewer than 2 rows.
    """
    require_pairs(x_BD, "batch normalisation")
    centred_BD = x_BD - x_BD.mean(0)
    variance_D = centred_BD.square().mean(0)
    return centred_BD * _inverse_root(variance_D, x_BD, eps)


@full_precision
def standardise(x_BD: Tensor) -> Tensor:
    """(x - mean) / std per column, unbiased std, no epsilon. A column without spread gives zeros. ConfigError for fewer than 2 rows."""
    require_pairs(x_BD, "standardisation")
    centred_BD = x_BD - x_BD.mean(0)
    variance_D = centred_BD.square().sum(0) / (x_BD.shape[0] - 1)
    return centred_BD * _inverse_root(variance_D, x_BD, 0.0)


def _inverse_root(variance_D: Tensor, x_BD: Tensor, eps: float) -> Tensor:
    if eps >= NO_EPSILON:
        return (variance_D + eps).rsqrt()
    # A constant column has the variance of its rounding errors, not zero.
    noise_D = (8 * torch.finfo(x_BD.dtype).eps * x_BD.detach().abs().amax(0)).square()
    return torch.where(variance_D > noise_D, variance_D + eps, 1.0).rsqrt()


@full_precision
def layer_norm(x_BD: Tensor, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(var + eps) per row, biased variance, nothing learned."""
    return F.layer_norm(x_BD, x_BD.shape[-1:], eps=eps)


@full_precision
def group_norm(x_BD: Tensor, groups: int = 1, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(var + eps) per row and group of neighbouring columns, biased variance, nothing learned."""
    if x_BD.shape[1] % groups:
        raise ConfigError(f"groups is {groups} for {x_BD.shape[1]} columns; it must divide them.")
    return F.group_norm(x_BD, groups, eps=eps)


@full_precision
def l2_norm(x_BD: Tensor) -> Tensor:
    """x / max(|x|, 1e-12) per row (along dim 1, so per position of a map); a zero row stays zero and gets no gradient."""
    return unit(x_BD, dim=1)
