"""Losses between feature maps. A pooled vector is a map of one position, on which some of them are constant: those refuse it.

Legend: B batch, C channels (S student, T teacher), H height, W width, P = H W positions (Q: the
teacher's, where sizes may differ).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tcs.errors import ConfigError
from tcs.functional.checks import require_map, require_same_rows, require_same_shape, require_shapes
from tcs.functional.norms import unit
from tcs.functional.precision import full_precision

Stages = Sequence[Tensor] | Tensor  # maps of several stages in order, or the map of a single one


def pool_to_smaller(f_s_BSHW: Tensor, f_t_BTHW: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps at the smaller of their two sizes, the larger average-pooled (adaptively). ConfigError if neither fits in the other."""
    size_s, size_t = f_s_BSHW.shape[2:], f_t_BTHW.shape[2:]
    if size_s == size_t:
        return f_s_BSHW, f_t_BTHW
    if size_s[0] >= size_t[0] and size_s[1] >= size_t[1]:
        return F.adaptive_avg_pool2d(f_s_BSHW, (size_t[0], size_t[1])), f_t_BTHW
    if size_s[0] <= size_t[0] and size_s[1] <= size_t[1]:
        return f_s_BSHW, F.adaptive_avg_pool2d(f_t_BTHW, (size_s[0], size_s[1]))
    sizes = f"student {tuple(size_s)} and teacher {tuple(size_t)}"
    raise ConfigError(f"The map sizes are {sizes}; one must fit inside the other: take maps of one aspect ratio.")


@full_precision
def hint(regressed: Tensor, f_t: Tensor) -> Tensor:
    """FitNet (Romero et al. 2015, eq. 3): mean squared error between the regressed student map (or vector) and the teacher's."""
    require_same_shape(regressed, f_t, "hint", remedy="regress the student to the teacher's shape (HintRegressor)")
    return F.mse_loss(regressed, f_t.detach())


@full_precision
def attention(f_BCHW: Tensor, p: float = 2.0) -> Tensor:
    """(B, P) attention map: mean over channels of |F|^p, of unit length over positions. ConfigError for a map of one position."""
    require_map(f_BCHW, "at", "every attention map would be 1 and the loss 0")
    return unit(f_BCHW.abs().pow(p).mean(1).flatten(1), dim=1)


@full_precision
def at_stage(f_s_BSHW: Tensor, f_t_BTHW: Tensor, p: float = 2.0) -> Tensor:
    """Attention transfer of one stage: mean over B P of (Q_s - Q_t)^2; of two sizes the larger feature map is pooled first."""
    require_same_rows(f_s_BSHW, f_t_BTHW, "at")
    for maps in (f_s_BSHW, f_t_BTHW):
        require_map(maps, "at", "every attention map would be 1 and the loss 0")
    small_s, small_t = pool_to_smaller(f_s_BSHW, f_t_BTHW.detach())
    return F.mse_loss(attention(small_s, p), attention(small_t, p))


@full_precision
def at_cached(f_s_BSHW: Tensor, q_t_BHW: Tensor, p: float = 2.0) -> Tensor:
    """`at_stage` where only the teacher's attention map is cached, at the size at which it is compared (B, H, W).

    Equal to it if that size is not above the student's: pooling after the attention is another loss. ConfigError: shapes.
    """
    require_same_rows(f_s_BSHW, q_t_BHW, "at_cached")
    require_map(f_s_BSHW, "at_cached", "every attention map would be 1 and the loss 0")
    require_shapes("at_cached", ("f_s_BSHW", f_s_BSHW, "B S . ."), ("q_t_BHW", q_t_BHW, "B . ."))
    height, width = q_t_BHW.shape[1:]
    if f_s_BSHW.shape[2] < height or f_s_BSHW.shape[3] < width:
        sizes = f"{(height, width)} for student maps of {tuple(f_s_BSHW.shape[2:])}"
        raise ConfigError(f"at_cached has cached attention of {sizes}; cache it after pooling to the student's size.")
    pooled_BSHW = F.adaptive_avg_pool2d(f_s_BSHW, (height, width))
    return F.mse_loss(attention(pooled_BSHW, p), q_t_BHW.detach().flatten(1))


def at(maps_s: Stages, maps_t: Stages, p: float = 2.0) -> Tensor:
    """Attention transfer (Zagoruyko and Komodakis 2017) as in RepDistiller: the sum of `at_stage` over stages of any channel counts."""
    return _sum_over_stages([at_stage(s, t, p) for s, t in _stages(maps_s, maps_t, "at")])


def _stages(maps_s: Stages, maps_t: Stages, loss: str) -> list[tuple[Tensor, Tensor]]:
    maps_s, maps_t = ([maps] if isinstance(maps, Tensor) else maps for maps in (maps_s, maps_t))
    if len(maps_s) != len(maps_t) or not maps_s:
        raise ConfigError(f"{loss} has {len(maps_s)} student and {len(maps_t)} teacher stages; give as many of both.")
    return list(zip(maps_s, maps_t, strict=True))


def _sum_over_stages(losses: list[Tensor]) -> Tensor:
    return torch.stack(losses).sum()


@full_precision
def nst_stage(f_s_BSHW: Tensor, f_t_BTHW: Tensor) -> Tensor:
    """NST of one stage: squared MMD with k(u, v) = (u v)^2 between the channels' maps, each of unit length over positions.

    mean k(t, t) + mean k(s, s) - 2 mean k(s, t), means over batch and channel pairs; the first is a constant. The larger map
    is pooled first. On few positions it is made as |mean u u' - mean v v'|^2, the same number. Memory B max(S, T)^2 or, if that
    is the shorter way, B P^2. ConfigError for a map of one position: each channel would be +-1 and the loss 0.
    """
    require_same_rows(f_s_BSHW, f_t_BTHW, "nst")
    for maps in (f_s_BSHW, f_t_BTHW):
        require_map(maps, "nst", "every channel would be +1 or -1 and the loss a constant 0")
    small_s, small_t = pool_to_smaller(f_s_BSHW, f_t_BTHW.detach())
    channels_s_BSP, channels_t_BTP = unit(small_s.flatten(2), dim=2), unit(small_t.flatten(2), dim=2)
    count_s, count_t, positions = channels_s_BSP.shape[1], channels_t_BTP.shape[1], channels_s_BSP.shape[2]
    if positions * (count_s + count_t) < count_s**2 + count_t**2 + count_s * count_t:
        return (_mean_outer(channels_s_BSP) - _mean_outer(channels_t_BTP)).square().sum((1, 2)).mean()
    cross = _kernel_mean(channels_s_BSP, channels_t_BTP)
    return _kernel_mean(channels_t_BTP, channels_t_BTP) + _kernel_mean(channels_s_BSP, channels_s_BSP) - 2 * cross


def _mean_outer(a_BCP: Tensor) -> Tensor:
    return torch.bmm(a_BCP.transpose(1, 2), a_BCP) / a_BCP.shape[1]


def _kernel_mean(a_BCP: Tensor, b_BCP: Tensor) -> Tensor:
    return torch.bmm(a_BCP, b_BCP.transpose(1, 2)).square().mean()


def nst(maps_s: Stages, maps_t: Stages) -> Tensor:
    """NST (Huang and Wang 2017) with the polynomial kernel, as in RepDistiller: the sum of `nst_stage` over stages."""
    return _sum_over_stages([nst_stage(s, t) for s, t in _stages(maps_s, maps_t, "nst")])


@full_precision
def icc(e_s_BTHW: Tensor, f_t_BTHW: Tensor) -> Tensor:
    """ICKD-C (Liu et al. 2021): sum of (ICC_s - ICC_t)^2 / (T B), ICC the T x T Gram over positions with rows of unit length.

    `e_s_BTHW` is the student's map embedded in T channels (`ChannelEmbed`), the teacher's is raw; their sizes may differ.
    On few positions it is made of products of positions, the same number. Memory B T^2 or, if that is the shorter way, B P^2.
    ConfigError: rows, channels, a map of one position (its ICC has rank 1).
    """
    require_same_rows(e_s_BTHW, f_t_BTHW, "icc")
    for maps in (e_s_BTHW, f_t_BTHW):
        require_map(maps, "icc", "the correlations of channels would have rank 1 and hold only signs and one vector")
    if e_s_BTHW.shape[1] != f_t_BTHW.shape[1]:
        counts = f"{e_s_BTHW.shape[1]} student and {f_t_BTHW.shape[1]} teacher channels"
        raise ConfigError(f"icc has {counts}; embed the student's map in the teacher's channels first.")
    flat_s_BTP, flat_t_BTQ = e_s_BTHW.flatten(2), f_t_BTHW.detach().flatten(2)
    p, q, channels = flat_s_BTP.shape[2], flat_t_BTQ.shape[2], flat_t_BTQ.shape[1]
    if 2 * (p * p + q * q + p * q) < channels * (p + q):
        return _icc_by_positions(flat_s_BTP, flat_t_BTQ)
    difference_BTT = _channel_correlation(flat_s_BTP) - _channel_correlation(flat_t_BTQ)
    return difference_BTT.square().sum() / (flat_t_BTQ.shape[0] * channels)


def _channel_correlation(flat_BTP: Tensor) -> Tensor:
    return unit(torch.bmm(flat_BTP, flat_BTP.transpose(1, 2)), dim=2)


def _icc_by_positions(s_BTP: Tensor, t_BTQ: Tensor) -> Tensor:
    """`icc` without its T x T matrices: for rows a, b of unit length |a - b|^2 is |a|^2 + |b|^2 - 2 a b.

    With G = S S' and H = T T' (Gram matrices of channels) row i of G times row i of H is s_i (S'T) t_i'.
    """
    least = 1e-12  # as in `unit`: a row shorter than this has no gradient
    squares_s_BT, squares_t_BT = _row_products(s_BTP, s_BTP), _row_products(t_BTQ, t_BTQ)
    kept_s_BT, kept_t_BT = squares_s_BT.clamp_min(least**2), squares_t_BT.clamp_min(least**2)
    cosine_BT = _row_products(s_BTP, t_BTQ) / (kept_s_BT.sqrt() * kept_t_BT.sqrt())
    rows_BT = squares_s_BT / kept_s_BT + squares_t_BT / kept_t_BT - 2 * cosine_BT
    return torch.where(squares_s_BT < least**2, rows_BT.detach(), rows_BT).mean()


def _row_products(a_BTP: Tensor, b_BTQ: Tensor) -> Tensor:
    """(B, T): row i of A A' times row i of B B'."""
    return (torch.bmm(a_BTP, torch.bmm(a_BTP.transpose(1, 2), b_BTQ)) * b_BTQ).sum(2)


@full_precision
def hcl_level(fused_BCHW: Tensor, f_t_BCHW: Tensor) -> Tensor:
    """ReviewKD's hierarchical context loss (Chen et al. 2021) of one level: a weighted mean of squared errors at several sizes.

    The full size has weight 1; average-pooled to 4, 2 and 1 the weights are 1/2, 1/4, 1/8, where a size not below H is left
    out and the halving counts only sizes that are used. ConfigError: shapes.
    """
    require_same_shape(
        fused_BCHW, f_t_BCHW, "hcl", remedy="fuse the student's maps to the teacher's shapes (ReviewFusion)"
    )
    if fused_BCHW.ndim != 4:
        raise ConfigError(f"hcl has an input of shape {tuple(fused_BCHW.shape)}; it takes maps of shape (B, C, H, W).")
    teacher = f_t_BCHW.detach()
    sizes = [size for size in (4, 2, 1) if size < fused_BCHW.shape[2]]
    total, weight = F.mse_loss(fused_BCHW, teacher), 1.0
    for size in sizes:
        weight /= 2
        pooled_s, pooled_t = F.adaptive_avg_pool2d(fused_BCHW, size), F.adaptive_avg_pool2d(teacher, size)
        total = total + weight * F.mse_loss(pooled_s, pooled_t)
    return total / (2 - weight)  # 1 + 1/2 + ... + weight


def hcl(fused: Stages, maps_t: Stages) -> Tensor:
    """ReviewKD's loss: the sum of `hcl_level` over levels; a pooled vector takes part as a map of one position."""
    return _sum_over_stages([hcl_level(s, t) for s, t in _stages(fused, maps_t, "hcl")])
