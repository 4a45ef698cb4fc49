"""LSH and LSHL2 ("Distilling Knowledge by Mimicking Features", Wang, Ge and Wu 2021): frozen random hyperplanes, sign bits as targets.

`lshl2_s` averages over the samples that the teacher classifies rightly. The weight is N(0, std^2), the same on both sides; a
student of S dims gets a trained linear map (the adaptor) to the teacher's T before all this. For faiss hashes of coordinates
(eLSH) see `tcs.functional.coordinates`.

Legend: B batch, N images, S student dims, T teacher dims, H hash bits (h: some of them).
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tcs.errors import ConfigError
from tcs.functional.checks import require_positive, require_same_rows, require_same_shape, require_shapes
from tcs.functional.precision import full_precision
from tcs.functional.regressors import adapted

DISTANCES = ("bce", "l1", "l2")
BIASES = ("median", "mean", "zero")


def draw_hash_weight(bits: int, width_t: int, std: float, seed: int) -> Tensor:
    """(H, T) float32 hyperplanes, independent N(0, std^2), the same for a seed on any device. ConfigError: std not positive.

    Published std: that of all entries of the teacher's classifier weight; it says how far past a threshold the loss saturates.
    """
    require_positive(std, "the std of the hash weight")
    return torch.randn(bits, width_t, generator=torch.Generator().manual_seed(seed)) * std


def hash_bias(features_NT: Tensor, weight_HT: Tensor, kind: str = "median", chunk_bytes: int = 1 << 28) -> Tensor:
    """(H,) bias: minus the lower median (or the mean) of each bit's projections over all N rows, or zeros; at least float32.

    Exact: no sampling. Projections are made a few bits at a time, N x chunk of at most about `chunk_bytes`, in row blocks, so
    that float16 features are never widened as a whole. The lower median of an even N is torch's (numpy averages two).
    ConfigError: no rows, widths, kind.
    """
    if kind not in BIASES:
        raise ConfigError(f"The hash bias is '{kind}'; known ones are {', '.join(BIASES)}.")
    _require_bank(features_NT, weight_HT)
    dtype = torch.promote_types(torch.promote_types(features_NT.dtype, weight_HT.dtype), torch.float32)
    if kind == "zero":
        return torch.zeros(weight_HT.shape[0], dtype=dtype, device=weight_HT.device)
    bits = max(1, chunk_bytes // (features_NT.shape[0] * dtype.itemsize))
    with torch.no_grad(), torch.autocast(device_type=weight_HT.device.type, enabled=False):
        return -torch.cat([_centre(features_NT, part.to(dtype), kind) for part in torch.split(weight_HT, bits)])


def _require_bank(features_NT: Tensor, weight_HT: Tensor) -> None:
    if (
        features_NT.ndim != 2
        or weight_HT.ndim != 2
        or features_NT.shape[0] < 1
        or features_NT.shape[1] != weight_HT.shape[1]
    ):
        shapes = f"features {tuple(features_NT.shape)} and weight {tuple(weight_HT.shape)}"
        raise ConfigError(f"The hash bias has {shapes}; they must be (N, T) and (H, T) with one row or more.")


def _centre(features_NT: Tensor, part_hT: Tensor, kind: str) -> Tensor:
    projections_Nh = _project(features_NT, part_hT)
    return projections_Nh.median(dim=0).values if kind == "median" else projections_Nh.mean(0)


def _project(features_NT: Tensor, part_hT: Tensor, rows: int = 65536) -> Tensor:
    blocks = [block.to(part_hT) @ part_hT.T for block in torch.split(features_NT, rows)]
    return torch.cat(blocks)


@full_precision
def hash_values(f: Tensor, weight_HT: Tensor, bias_H: Tensor) -> Tensor:
    """(B, H): W f + b. ConfigError: shapes."""
    require_shapes("lsh", ("weight_HT", weight_HT, "H T"), ("bias_H", bias_H, "H"))
    if f.ndim != 2 or f.shape[1] != weight_HT.shape[1]:
        shape = tuple(f.shape)
        raise ConfigError(
            f"lsh has features of shape {shape} for hash planes of {weight_HT.shape[1]} dims; project the student to them."
        )
    return F.linear(f, weight_HT, bias_H)


def hash_bits(f_t_BT: Tensor, weight_HT: Tensor, bias_H: Tensor) -> Tensor:
    """(B, H) bool: W f_t + b > 0, strictly (a tie is 0)."""
    return hash_values(f_t_BT.detach(), weight_HT, bias_H) > 0


@full_precision
def lsh_from_bits(
    f_s: Tensor,
    bits_BH: Tensor,
    weight_HT: Tensor,
    bias_H: Tensor,
    adaptor_TS: Tensor | None = None,
    adaptor_bias_T: Tensor | None = None,
) -> Tensor:
    """`lsh` against bits that are already made (bool, 0/1 integers or floats): all that a cache of packed bits needs."""
    return _cross_entropy(adapted(f_s, adaptor_TS, adaptor_bias_T), bits_BH, weight_HT, bias_H).mean()


def _cross_entropy(f_s_BT: Tensor, bits_BH: Tensor, weight_HT: Tensor, bias_H: Tensor) -> Tensor:
    values_BH = hash_values(f_s_BT, weight_HT, bias_H)
    require_same_shape(values_BH, bits_BH, "lsh", remedy="take the bits of the same rows and hash planes")
    return F.binary_cross_entropy_with_logits(values_BH, bits_BH.to(values_BH.dtype), reduction="none")


@full_precision
def lsh(
    f_s: Tensor,
    f_t_BT: Tensor,
    weight_HT: Tensor,
    bias_H: Tensor,
    distance: str = "bce",
    adaptor_TS: Tensor | None = None,
    adaptor_bias_T: Tensor | None = None,
) -> Tensor:
    """Mean over B H of the distance between hashes. The student f_s has T dims, or S and an adaptor.

    `bce`: binary cross-entropy of the student's hash values as logits against the teacher's bits (the method). `l1`, `l2`: mean
    absolute or squared difference of the hash values (its ablations). ConfigError: shapes, distance.
    """
    return _hash_terms(adapted(f_s, adaptor_TS, adaptor_bias_T), f_t_BT, weight_HT, bias_H, distance).mean()


def _hash_terms(f_s_BT: Tensor, f_t_BT: Tensor, weight_HT: Tensor, bias_H: Tensor, distance: str) -> Tensor:
    require_same_rows(f_s_BT, f_t_BT, "lsh")
    if distance not in DISTANCES:
        raise ConfigError(f"The distance of lsh is '{distance}'; known ones are {', '.join(DISTANCES)}.")
    if distance == "bce":
        return _cross_entropy(f_s_BT, hash_bits(f_t_BT, weight_HT, bias_H), weight_HT, bias_H)
    values_s_BH = hash_values(f_s_BT, weight_HT, bias_H)
    difference_BH = values_s_BH - hash_values(f_t_BT.detach(), weight_HT, bias_H)
    return difference_BH.abs() if distance == "l1" else difference_BH.square()


@full_precision
def lshl2(
    f_s: Tensor,
    f_t_BT: Tensor,
    weight_HT: Tensor,
    bias_H: Tensor,
    distance: str = "bce",
    adaptor_TS: Tensor | None = None,
    adaptor_bias_T: Tensor | None = None,
) -> Tensor:
    """Mean over B T of (f_s - f_t)^2 plus `lsh`, with equal weights."""
    s_BT = adapted(f_s, adaptor_TS, adaptor_bias_T)
    require_same_shape(s_BT, f_t_BT, "lshl2")
    return F.mse_loss(s_BT, f_t_BT.detach()) + lsh(s_BT, f_t_BT, weight_HT, bias_H, distance)


@full_precision
def lshl2_s(
    f_s: Tensor,
    f_t_BT: Tensor,
    weight_HT: Tensor,
    bias_H: Tensor,
    right_B: Tensor,
    distance: str = "bce",
    adaptor_TS: Tensor | None = None,
    adaptor_bias_T: Tensor | None = None,
) -> Tensor:
    """`lshl2` averaged over the rows where `right_B` (bool: the teacher's argmax is the label) holds; 0 with no gradient where none does.

    The published code gives NaN there. ConfigError: shapes, a mask that is not (B,) bool, distance.
    """
    s_BT = adapted(f_s, adaptor_TS, adaptor_bias_T)
    require_same_shape(s_BT, f_t_BT, "lshl2_s")
    if right_B.dtype != torch.bool or right_B.shape != s_BT.shape[:1]:
        kind = f"{right_B.dtype} of shape {tuple(right_B.shape)}"
        raise ConfigError(f"The mask of lshl2_s is {kind}; it must be torch.bool of shape ({s_BT.shape[0]},).")
    rows_B = (s_BT - f_t_BT.detach()).square().mean(1)
    rows_B = rows_B + _hash_terms(s_BT, f_t_BT, weight_HT, bias_H, distance).mean(1)
    return torch.where(right_B, rows_B, 0.0).sum() / right_B.sum().clamp_min(1)
