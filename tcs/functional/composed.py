"""Published losses whole: from both sides' features to the number, with all that is trained between them as plain arguments.

For weights that were made elsewhere, and for training loops of one's own; `tcs.functional.regressors` and `.fusion` hold the
same maps as modules that own their weights. Batch normalisation is that of the batch: biased variance, eps 1e-5, affine.

Legend: B batch, S student channels or dims, T teacher channels or dims, E embedding dims, N bank rows, M candidates of a row.
"""

from collections.abc import Sequence

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tcs.functional.crd import TEMPERATURE, crd, crd_normalisers
from tcs.functional.fusion import FusionWeights, ReviewFusion, fuse
from tcs.functional.maps import hcl, hint, icc
from tcs.functional.norms import unit
from tcs.functional.precision import full_precision
from tcs.functional.regressors import as_kernel, as_map, batch_normalised, hint_step
from tcs.functional.relations import cc
from tcs.functional.vid import vid


@full_precision
def fitnet(f_s: Tensor, f_t: Tensor, weight: Tensor, bias_T: Tensor, scale_T: Tensor, shift_T: Tensor) -> Tensor:
    """FitNet as in RepDistiller: mean squared error of ReLU(BN(convolution of f_s)) and f_t, maps or vectors.

    The convolution follows from the sizes (`hint_step`): stride 2, transposed with stride 2 (weight (S, T, 4, 4)), or valid
    (1 x 1 for equal sizes; vectors take (T, S) too). `scale_T`, `shift_T` are the norm's. ConfigError: sizes, shapes, one row.
    """
    maps_s, maps_t = as_map(f_s), as_map(f_t)
    (h_s, w_s), (h_t, w_t) = maps_s.shape[2:], maps_t.shape[2:]
    step = hint_step((h_s, w_s), (h_t, w_t))
    convolve = F.conv_transpose2d if step.transposed else F.conv2d
    mapped = convolve(maps_s, as_kernel(weight), bias_T, stride=step.stride, padding=step.padding)
    return hint(F.relu(batch_normalised(mapped, scale_T, shift_T)), maps_t)


@full_precision
def vid_regressed(
    f_s: Tensor, f_t: Tensor, first_TS: Tensor, second_TT: Tensor, third_TT: Tensor, log_scale_T: Tensor
) -> Tensor:
    """VID of one stage: `vid` of f_s (pooled first to f_t's size where it is larger) after three 1 x 1 maps, ReLU between."""
    maps_s, maps_t = as_map(f_s), as_map(f_t)
    if maps_s.shape[2] > maps_t.shape[2] or maps_s.shape[3] > maps_t.shape[3]:
        maps_s = F.adaptive_avg_pool2d(maps_s, (maps_t.shape[2], maps_t.shape[3]))
    hidden = F.relu(F.conv2d(maps_s, as_kernel(first_TS)))
    return vid(F.conv2d(F.relu(F.conv2d(hidden, as_kernel(second_TT))), as_kernel(third_TT)), maps_t, log_scale_T)


@full_precision
def ickd(f_s_BSHW: Tensor, f_t_BTHW: Tensor, weight_TS: Tensor, scale_T: Tensor, shift_T: Tensor) -> Tensor:
    """ICKD-C: `icc` of BN(1 x 1 map of f_s) and the raw f_t. Sizes may differ, and nothing is pooled."""
    return icc(batch_normalised(F.conv2d(f_s_BSHW, as_kernel(weight_TS)), scale_T, shift_T), f_t_BTHW)


@full_precision
def cc_embedded(
    f_s: Tensor, f_t: Tensor, weight_s_ES: Tensor, bias_s_E: Tensor, weight_t_ET: Tensor, bias_t_E: Tensor
) -> Tensor:
    """CC of both sides' (flattened) features after their linear embeddings; the gradient reaches all four of their tensors."""
    return cc(F.linear(f_s.flatten(1), weight_s_ES, bias_s_E), F.linear(f_t.detach().flatten(1), weight_t_ET, bias_t_E))


@full_precision
def crd_embedded(
    f_s: Tensor,
    f_t: Tensor,
    weight_s_ES: Tensor,
    bias_s_E: Tensor,
    weight_t_ET: Tensor,
    bias_t_E: Tensor,
    bank_s_NE: Tensor,
    bank_t_NE: Tensor,
    index_BM: Tensor,
    z_s: Tensor | float | None = None,
    z_t: Tensor | float | None = None,
    temperature: float = TEMPERATURE,
) -> Tensor:
    """CRD of both sides' (flattened) features after their linear embeddings of unit length; the gradient reaches all four tensors.

    Without normalisers they are this batch's, as at the very first step (`crd_normalisers` gives them, to be kept). "exact"
    and "relax" differ only in the first column of `index_BM` (`draw_index`): the row itself, or one of its class.
    """
    e_s_BE = unit(F.linear(f_s.flatten(1), weight_s_ES, bias_s_E), dim=1)
    e_t_BE = unit(F.linear(f_t.detach().flatten(1), weight_t_ET, bias_t_E), dim=1)
    candidates = (e_s_BE, e_t_BE, bank_s_NE, bank_t_NE, index_BM)
    if z_s is None or z_t is None:
        first_s, first_t = crd_normalisers(*candidates, temperature)
        z_s, z_t = first_s if z_s is None else z_s, first_t if z_t is None else z_t
    return crd(*candidates, z_s, z_t, temperature)


def reviewkd(
    levels_s: Sequence[Tensor], levels_t: Sequence[Tensor], fusion: ReviewFusion | Sequence[FusionWeights]
) -> Tensor:
    """ReviewKD: `hcl` of the fused student levels and the teacher's, maps from shallow to deep, then (usually) the pooled vectors.

    `fusion` are the weights of the levels, shallow to deep, or the module that owns them (which must have the features' dtype).
    """
    maps_t = [as_map(level) for level in levels_t]
    sizes_t = [(int(level.shape[2]), int(level.shape[3])) for level in maps_t]
    fused = fusion(levels_s, sizes_t) if isinstance(fusion, ReviewFusion) else fuse(levels_s, sizes_t, fusion)
    return hcl(fused, maps_t)
