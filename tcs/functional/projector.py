"""Projector KD (Miles and Mikolajczyk, "Understanding the role of the projector"): a trained projector, normalised sides, a log of a sum.

Three different losses are published under the one name. Here they are `log_sum` (element-wise; the ImageNet code),
`correlation_log_sum` (the DeiT code) and `itrd_correlation` (the ancestor ITRD); `normalised_l2` is the simple variant.
They take sides that are already normalised (`itrd_correlation` and `normalised_l2` normalise by themselves). The
`projector_kd...` are whole losses with the projector's weights as arguments: `projector_kd` and `projector_kd_correlation`
as published, the others with another distance, normalisation or projector.

Legend: B batch, S student dims, H hidden dims, T teacher dims.
"""

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tcs.errors import ConfigError
from tcs.functional.checks import require_pairs, require_same_shape, require_vectors
from tcs.functional.norms import batch_norm, group_norm, l2_norm, standardise, unit
from tcs.functional.precision import full_precision
from tcs.functional.regressors import adapted

IMAGENET_BN_EPSILON = 1e-4
DEIT_BN_EPSILON = 0.0
ITRD_ALPHA = 1.01

NORMALISATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "bn": lambda x: batch_norm(x, IMAGENET_BN_EPSILON),
    "bn-exact": lambda x: batch_norm(x, DEIT_BN_EPSILON),
    "l2": l2_norm,
    "gn": group_norm,
    "none": lambda x: x,
}


def linear_projector(width_s: int, width_t: int) -> nn.Module:
    """The published projector: one linear map with bias. Its start draws from torch's global generator."""
    return nn.Linear(width_s, width_t)


def mlp_projector(width_s: int, width_t: int, hidden: int | None = None) -> nn.Module:
    """Linear, ReLU, linear, for the ablation in which it does not help; `hidden` is S / 2 (as in ITRD) unless given."""
    hidden = max(1, width_s // 2) if hidden is None else hidden
    return nn.Sequential(nn.Linear(width_s, hidden), nn.ReLU(), nn.Linear(hidden, width_t))


def _log(total: Tensor) -> Tensor:
    """log, where a perfect match (0) gives the log of the smallest normal number and no gradient instead of -inf and NaN."""
    return total.clamp_min(torch.finfo(total.dtype).tiny).log()


def _require_power(alpha: float) -> None:
    if not 1 <= alpha < float("inf"):
        raise ConfigError(f"alpha is {alpha}; it must be 1 or more (below 1 the gradient has no bound at a match).")


@full_precision
def log_sum(s_BT: Tensor, t_BT: Tensor, alpha: float = 4.0) -> Tensor:
    """log sum over batch and dims of |s - t|^alpha, both sides already normalised. No epsilon: its gradient has no scale.

    Not batch-size invariant: B adds log B. A perfect match gives the log of the smallest normal number. ConfigError: shapes, alpha < 1.
    """
    require_same_shape(s_BT, t_BT, "log_sum")
    _require_power(alpha)
    return _log((s_BT - t_BT.detach()).abs().pow(alpha).sum())


@full_precision
def correlation_log_sum(s_BT: Tensor, t_BT: Tensor, alpha: float = 4.0, eps: float = 1e-5) -> Tensor:
    """log(sum over dims of |c - 1|^alpha + eps), c the mean over rows of s t, both sides already batch-normalised.

    eps is 1e-5 in the DeiT code and 0 in the ImageNet code of the paper's time. ConfigError: shapes, alpha < 1, fewer than 2 rows.
    """
    require_same_shape(s_BT, t_BT, "correlation_log_sum")
    require_pairs(s_BT, "correlation_log_sum")
    _require_power(alpha)
    correlation_T = (s_BT * t_BT.detach()).mean(0)
    return _log((correlation_T - 1).abs().pow(alpha).sum() + eps)


@full_precision
def itrd_correlation(s_BT: Tensor, t_BT: Tensor, alpha: float = ITRD_ALPHA) -> Tensor:
    """log2 of the sum over dims of ((c - 1)^2)^alpha, c = sum over rows of s t / B with sides standardised by the unbiased std.

    ITRD's correlation term (published weight 2). So at a match c is (B - 1) / B, not 1. ConfigError: shapes, alpha < 1,
    fewer than 2 rows.
    """
    require_same_shape(s_BT, t_BT, "itrd_correlation")
    _require_power(alpha)
    correlation_T = (standardise(s_BT) * standardise(t_BT.detach())).mean(0)
    return _log((correlation_T - 1).square().pow(alpha).sum()) / math.log(2)


@full_precision
def normalised_l2(s: Tensor, t: Tensor) -> Tensor:
    """Mean squared error of both sides divided by their length over channels: vectors (B, T) or each position of maps (B, T, H, W)."""
    require_same_shape(s, t, "normalised_l2")
    return F.mse_loss(unit(s, dim=1), unit(t.detach(), dim=1))


@full_precision
def projector_kd(
    f_s_BS: Tensor,
    f_t_BT: Tensor,
    weight_TS: Tensor,
    bias_T: Tensor | None,
    alpha: float = 4.0,
    bn_eps: float = IMAGENET_BN_EPSILON,
) -> Tensor:
    """The ImageNet code: `log_sum` of the batch-normalised projection of f_s and the batch-normalised f_t (published weight 2)."""
    projected_BT = _projected(f_s_BS, f_t_BT, weight_TS, bias_T)
    return log_sum(batch_norm(projected_BT, bn_eps), batch_norm(f_t_BT.detach(), bn_eps), alpha)


@full_precision
def projector_kd_correlation(
    f_s_BS: Tensor,
    f_t_BT: Tensor,
    weight_TS: Tensor,
    bias_T: Tensor | None,
    alpha: float = 4.0,
    eps: float = 1e-5,
    bn_eps: float = DEIT_BN_EPSILON,
) -> Tensor:
    """The DeiT code: `correlation_log_sum` of the batch-normalised projection of f_s and the batch-normalised f_t (published weight 1)."""
    projected_BT = _projected(f_s_BS, f_t_BT, weight_TS, bias_T)
    return correlation_log_sum(batch_norm(projected_BT, bn_eps), batch_norm(f_t_BT.detach(), bn_eps), alpha, eps)


@full_precision
def projector_kd_itrd(
    f_s_BS: Tensor, f_t_BT: Tensor, weight_TS: Tensor, bias_T: Tensor | None, alpha: float = ITRD_ALPHA
) -> Tensor:
    """`itrd_correlation` of the projection of f_s and of f_t (published weight 2)."""
    return itrd_correlation(_projected(f_s_BS, f_t_BT, weight_TS, bias_T), f_t_BT, alpha)


@full_precision
def projector_kd_gn(
    f_s_BS: Tensor,
    f_t_BT: Tensor,
    weight_TS: Tensor,
    bias_T: Tensor | None,
    alpha: float = 4.0,
    groups: int = 1,
    eps: float = 1e-5,
) -> Tensor:
    """`log_sum` of the group-normalised projection of f_s and the group-normalised f_t."""
    projected_BT = _projected(f_s_BS, f_t_BT, weight_TS, bias_T)
    return log_sum(group_norm(projected_BT, groups, eps), group_norm(f_t_BT.detach(), groups, eps), alpha)


@full_precision
def projector_kd_l2(
    f_s_BS: Tensor, f_t_BT: Tensor, weight_TS: Tensor, bias_T: Tensor | None, alpha: float = 4.0
) -> Tensor:
    """`log_sum` of the projection of f_s and of f_t, both with rows of unit length."""
    return log_sum(l2_norm(_projected(f_s_BS, f_t_BT, weight_TS, bias_T)), l2_norm(f_t_BT.detach()), alpha)


@full_precision
def projector_kd_none(
    f_s_BS: Tensor, f_t_BT: Tensor, weight_TS: Tensor, bias_T: Tensor | None, alpha: float = 4.0
) -> Tensor:
    """`log_sum` of the projection of f_s and of f_t as they are."""
    return log_sum(_projected(f_s_BS, f_t_BT, weight_TS, bias_T), f_t_BT, alpha)


@full_precision
def projector_kd_mse(f_s: Tensor, f_t: Tensor, weight_TS: Tensor, bias_T: Tensor | None) -> Tensor:
    """`normalised_l2` of the projection of f_s and of f_t: vectors, or maps of one size through a 1 x 1 projector."""
    return normalised_l2(adapted(f_s, weight_TS, bias_T), f_t)


@full_precision
def projector_kd_mlp(
    f_s_BS: Tensor,
    f_t_BT: Tensor,
    first_HS: Tensor,
    first_bias_H: Tensor,
    second_TH: Tensor,
    second_bias_T: Tensor,
    alpha: float = 4.0,
    bn_eps: float = IMAGENET_BN_EPSILON,
) -> Tensor:
    """`projector_kd` behind two linear maps with ReLU between (`mlp_projector`)."""
    hidden_BH = F.relu(_projected(f_s_BS, f_t_BT, first_HS, first_bias_H))
    return projector_kd(hidden_BH, f_t_BT, second_TH, second_bias_T, alpha, bn_eps)


def _projected(f_s_BS: Tensor, f_t_BT: Tensor, weight_TS: Tensor, bias_T: Tensor | None) -> Tensor:
    for side in (f_s_BS, f_t_BT):
        require_vectors(side, "projector_kd")
    return adapted(f_s_BS, weight_TS, bias_T)
