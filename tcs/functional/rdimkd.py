"""RdimKD (arXiv 2312.08700): squared differences after one shared, frozen projection; P, A and R differ only in that projection.

P: first principal axes of the teacher's features. R: orthonormalised Gaussian columns. A: the encoder of an auto-encoder fitted
on them; a *linear* encoder is a matrix like the others (its bias cancels in the difference, its columns are not orthonormal:
`orthonormal` makes weights comparable), a non-linear one must be applied to both sides: `rdimkd_encoded`.
The paper leaves the reduction open, so it is an argument; so is a linear adaptor of a student of other dims or channels (for
maps a 1 x 1 convolution). Of two maps the larger is average-pooled to the other's size.

Legend: B batch, S student and T teacher dims or channels, K reduced dims, H height, W width, r rows (or positions of all maps).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tcs.errors import ConfigError
from tcs.functional.checks import require_same_shape
from tcs.functional.maps import pool_to_smaller
from tcs.functional.precision import full_precision
from tcs.functional.regressors import adapted

REDUCTIONS = ("mean", "sum", "rows")


@full_precision
def rdimkd(
    f_s: Tensor,
    f_t: Tensor,
    projection_TK: Tensor,
    reduction: str = "mean",
    adaptor_TS: Tensor | None = None,
    adaptor_bias_T: Tensor | None = None,
) -> Tensor:
    """|(F_s - F_t) K|^2 of vectors (B, T) or maps (B, T, H, W), each position of a map a row.

    `mean`: over rows and the K dims; `rows`: summed over dims, mean over rows; `sum`: summed over all. No gradient reaches the
    (adapted) student outside the span of K. ConfigError: shapes, reduction.
    """
    s, t = _pooled(adapted(f_s, adaptor_TS, adaptor_bias_T), f_t.detach())
    require_same_shape(s, t, "rdimkd", remedy="adapt the student to the teacher's channels and size (adaptor_TS)")
    difference_rK = _projected(s - t, projection_TK)  # before the product: a common mean would cost digits
    return _reduced(difference_rK, torch.zeros_like(difference_rK), reduction)


@full_precision
def rdimkd_cached(
    f_s: Tensor,
    projected_t: Tensor,
    projection_TK: Tensor | None,
    reduction: str = "mean",
    adaptor_TS: Tensor | None = None,
    adaptor_bias_T: Tensor | None = None,
) -> Tensor:
    """`rdimkd` where only the teacher's projected features, (B, K) or (B, K, H, W), are cached.

    None for a projection says that the (adapted) student is in the K dims already. ConfigError: shapes, reduction.
    """
    s, target = _pooled(adapted(f_s, adaptor_TS, adaptor_bias_T), projected_t.detach())
    if projection_TK is not None:
        s, target = _projected(s, projection_TK), _as_rows(target)
    require_same_shape(s, target, "rdimkd_cached", remedy="cache the teacher through the same projection")
    return _reduced(s, target, reduction)


@full_precision
def rdimkd_encoded(
    f_s: Tensor,
    f_t: Tensor,
    encoder: Callable[[Tensor], Tensor],
    reduction: str = "mean",
    adaptor_TS: Tensor | None = None,
    adaptor_bias_T: Tensor | None = None,
) -> Tensor:
    """The same with a frozen, possibly non-linear encoder of rows (r, T) to (r, K), applied to both sides (freeze it yourself)."""
    s, t = _pooled(adapted(f_s, adaptor_TS, adaptor_bias_T), f_t.detach())
    require_same_shape(
        s, t, "rdimkd_encoded", remedy="adapt the student to the teacher's channels and size (adaptor_TS)"
    )
    with torch.no_grad():
        target_rK = encoder(_as_rows(t))
    return _reduced(encoder(_as_rows(s)), target_rK, reduction)


def _pooled(s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    return pool_to_smaller(s, t) if s.ndim == t.ndim == 4 else (s, t)


def orthonormal(projection_TK: Tensor) -> Tensor:
    """Orthonormal columns with the span of `projection_TK`, in its dtype (QR in float64). ConfigError if the columns are dependent."""
    q_TK, r_KK = torch.linalg.qr(projection_TK.double())
    diagonal_K = r_KK.diagonal().abs()
    if projection_TK.shape[0] < projection_TK.shape[1] or not diagonal_K.min() > 1e-10 * diagonal_K.max():
        raise ConfigError(
            f"The columns of the {tuple(projection_TK.shape)} projection are dependent; reduce to fewer dims."
        )
    columns_TK: Tensor = q_TK.to(projection_TK.dtype)
    return columns_TK


def _as_rows(f: Tensor) -> Tensor:
    return f.movedim(1, -1).flatten(0, -2)


def _projected(f: Tensor, projection_TK: Tensor) -> Tensor:
    if f.ndim not in (2, 4) or projection_TK.ndim != 2 or f.shape[1] != projection_TK.shape[0]:
        shapes = f"features {tuple(f.shape)} and a projection {tuple(projection_TK.shape)}"
        raise ConfigError(f"rdimkd has {shapes}; they must be (B, T) or (B, T, H, W), and (T, K).")
    return _as_rows(f) @ projection_TK.detach()


def _reduced(s: Tensor, t: Tensor, reduction: str) -> Tensor:
    """Of rows (r, K), or of maps with K channels."""
    if reduction in ("mean", "sum"):
        return F.mse_loss(s, t, reduction=reduction)
    if reduction == "rows":
        return (s - t).square().sum(1).mean()
    raise ConfigError(f"The reduction of rdimkd is '{reduction}'; known ones are {', '.join(REDUCTIONS)}.")
