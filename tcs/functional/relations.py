"""Losses between the relations of a batch's rows (or of neighbouring rows, in `cc`): widths of the two sides may differ.

Legend: B batch, S student dims, T teacher dims, D dims of either, E embedding dims. All but `cc` see a row only beside the
others, so the batch size is part of the loss: fix it when comparing.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tcs.errors import ConfigError
from tcs.functional.checks import require_pairs, require_same_rows, require_same_shape, require_vectors
from tcs.functional.norms import unit
from tcs.functional.precision import full_precision


def _require_relations(student: Tensor, teacher: Tensor, loss: str) -> None:
    require_same_rows(student, teacher, loss)
    require_pairs(student, loss)


@full_precision
def rkd_distance(f_s_BS: Tensor, f_t_BT: Tensor) -> Tensor:
    """RKD-D (Park et al. 2019, eq. 7): smooth L1 between pairwise distances, each side divided by its own mean distance.

    Mean over all B^2 entries; squared distances are clamped at 1e-12, and the mean is that of the pairs i != j. Identical rows
    get no gradient from their pair. Memory B^2. ConfigError: rows, fewer than 2.
    """
    _require_relations(f_s_BS, f_t_BT, "rkd_distance")
    return F.smooth_l1_loss(_relative_distances(f_s_BS), _relative_distances(f_t_BT.detach()))


def _relative_distances(rows_BD: Tensor) -> Tensor:
    require_vectors(rows_BD, "rkd")
    batch = rows_BD.shape[0]
    # Distances ignore a common shift; without one the products below keep their digits (features have large means).
    centred_BD = rows_BD - rows_BD.detach().mean(0)
    squares_B = centred_BD.square().sum(1)
    squared_BB = squares_B.unsqueeze(1) + squares_B.unsqueeze(0) - 2 * centred_BD @ centred_BD.T
    distances_BB = squared_BB.clamp_min(1e-12).sqrt()
    distances_BB = distances_BB.masked_fill(torch.eye(batch, dtype=torch.bool, device=rows_BD.device), 0.0)
    return distances_BB / (distances_BB.sum() / (batch * (batch - 1)))


@full_precision
def rkd_angle(f_s_BS: Tensor, f_t_BT: Tensor) -> Tensor:
    """RKD-A (Park et al. 2019, eq. 9): smooth L1 between the cosines of the angles of all triplets, mean over B^3 entries.

    Memory B^2 S + B^3 floats (twice that with gradients): 67 MB a tensor for B^3 at B = 256 in float32.
    ConfigError: rows, fewer than 2.
    """
    _require_relations(f_s_BS, f_t_BT, "rkd_angle")
    with torch.no_grad():
        angles_t_BBB = _angles(f_t_BT)
    return F.smooth_l1_loss(_angles(f_s_BS), angles_t_BBB)


def _angles(rows_BD: Tensor) -> Tensor:
    require_vectors(rows_BD, "rkd")
    towards_BBD = unit(rows_BD.unsqueeze(0) - rows_BD.unsqueeze(1), dim=2)
    return torch.bmm(towards_BBD, towards_BBD.transpose(1, 2))


def rkd(f_s_BS: Tensor, f_t_BT: Tensor, w_d: float = 25.0, w_a: float = 50.0) -> Tensor:
    """w_d RKD-D + w_a RKD-A. A weight of 0 leaves its part out. ConfigError: rows, fewer than 2, no weight."""
    parts = [(w_d, rkd_distance), (w_a, rkd_angle)]
    terms = [weight * loss(f_s_BS, f_t_BT) for weight, loss in parts if weight]
    if not terms:
        raise ConfigError("w_d and w_a of rkd are both 0; give one of them a weight.")
    return torch.stack(terms).sum()


@full_precision
def pkt(f_s_BS: Tensor, f_t_BT: Tensor, eps: float = 1e-7) -> Tensor:
    """PKT (Passalis and Tefas 2018, eq. 9) with cosine kernels: mean over B^2 of p_t log((p_t + eps) / (p_s + eps)).

    p is (cosine + 1) / 2, each row divided by its sum with the diagonal in it; rows are divided by norm + eps.
    ConfigError: rows, fewer than 2.
    """
    _require_relations(f_s_BS, f_t_BT, "pkt")
    p_s_BB, p_t_BB = _affinities(f_s_BS, eps), _affinities(f_t_BT.detach(), eps)
    return (p_t_BB * ((p_t_BB + eps) / (p_s_BB + eps)).log()).mean()


def _affinities(rows_BD: Tensor, eps: float) -> Tensor:
    require_vectors(rows_BD, "pkt")
    directions_BD: Tensor = rows_BD / (torch.linalg.vector_norm(rows_BD, dim=1, keepdim=True) + eps)
    affinities_BB = (directions_BD @ directions_BD.T + 1) / 2
    return affinities_BB / affinities_BB.sum(1, keepdim=True)


@full_precision
def sp(f_s: Tensor, f_t: Tensor) -> Tensor:
    """SP (Tung and Mori 2019, eq. 4): |G_s - G_t|_F^2 / B^2, G the Gram matrix of flattened rows with rows of unit length.

    Published for the last convolutional map; on pooled vectors it is another loss of the same form. ConfigError: rows, fewer than 2.
    """
    for side in (f_s, f_t):
        if side.ndim < 2:
            raise ConfigError(f"sp has an input of shape {tuple(side.shape)}; it takes one vector or map a row.")
    _require_relations(f_s, f_t, "sp")
    difference_BB = _unit_gram(f_t.detach()) - _unit_gram(f_s)
    return difference_BB.square().sum() / (f_s.shape[0] * f_s.shape[0])


def _unit_gram(rows: Tensor) -> Tensor:
    flat_BD = rows.flatten(1)
    return unit(flat_BD @ flat_BD.T, dim=1)


@full_precision
def cc(e_s_BE: Tensor, e_t_BE: Tensor) -> Tensor:
    """CC as in RepDistiller: mean over i < B - 1 of sum_k d_ik d_(i+1)k, d = |e_s - e_t|. The order of the rows matters.

    Both embeddings are trained: the gradient reaches e_t_BE too. ConfigError: shapes, fewer than 2 rows.
    """
    require_same_shape(e_s_BE, e_t_BE, "cc", remedy="embed both sides in the same width")
    require_pairs(e_s_BE, "cc")
    gaps_BE = (e_s_BE - e_t_BE).abs()
    return (gaps_BE[:-1] * gaps_BE[1:]).sum(1).mean()
