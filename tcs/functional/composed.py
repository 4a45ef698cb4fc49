"""Published losses whole: from both sides' features to the number, with all that is trained between them as plain arguments.

For weights that were made elsewhere, and for training loops of one's own; `tcs.functional.regressors` and `.fusion` hold the
same maps as modules that own their weights. Batch normalisation is that of the batch: biased variance, eps 1e-5, affine.

Legend: B batch, S student channels or dims, T teacher channels or dims, E embedding dims, N bank rows, M candidates of a row.
"""

from collections.abc import Sequence

import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor

from tcs.errors import ConfigError
from tcs.functional.crd import TEMPERATURE, crd
from tcs.functional.fusion import ReviewFusion
from tcs.functional.maps import hcl, hint, icc
from tcs.functional.norms import unit
from tcs.functional.precision import full_precision
from tcs.functional.regressors import as_map, hint_step
from tcs.functional.relations import cc
from tcs.functional.vid import vid


def _kernel(weight: Tensor) -> Tensor:
    """A matrix (out, in) as a 1 x 1 convolution; a convolution's weight unchanged."""
    return weight[:, :, None, None] if weight.ndim == 2 else weight


def _batch_norm(x_BTHW: Tensor, scale_T: Tensor, shift_T: Tensor) -> Tensor:
    if x_BTHW.numel() == x_BTHW.shape[1]:
        raise ConfigError("A batch of 1 pooled row has no batch statistics; use 2 rows or more.")
    return F.batch_norm(x_BTHW, None, None, scale_T, shift_T, training=True)


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
    mapped = convolve(maps_s, _kernel(weight), bias_T, stride=step.stride, padding=step.padding)
    return hint(F.relu(_batch_norm(mapped, scale_T, shift_T)), maps_t)


@full_precision
def vid_regressed(
    f_s: Tensor, f_t: Tensor, first_TS: Tensor, second_TT: Tensor, third_TT: Tensor, log_scale_T: Tensor
) -> Tensor:
    """VID of one stage: `vid` of f_s (pooled first to f_t's size where it is larger) after three 1 x 1 maps, ReLU between."""
    maps_s, maps_t = as_map(f_s), as_map(f_t)
    if maps_s.shape[2] > maps_t.shape[2] or maps_s.shape[3] > maps_t.shape[3]:
        maps_s = F.adaptive_avg_pool2d(maps_s, (maps_t.shape[2], maps_t.shape[3]))
    hidden = F.relu(F.conv2d(maps_s, _kernel(first_TS)))
    return vid(F.conv2d(F.relu(F.conv2d(hidden, _kernel(second_TT))), _kernel(third_TT)), maps_t, log_scale_T)


@full_precision
def ickd(f_s_BSHW: Tensor, f_t_BTHW: Tensor, weight_TS: Tensor, scale_T: Tensor, shift_T: Tensor) -> Tensor:
    """ICKD-C: `icc` of BN(1 x 1 map of f_s) and the raw f_t. Sizes may differ, and nothing is pooled."""
    return icc(_batch_norm(F.conv2d(f_s_BSHW, _kernel(weight_TS)), scale_T, shift_T), f_t_BTHW)


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
    z_s: Tensor | float,
    z_t: Tensor | float,
    temperature: float = TEMPERATURE,
) -> Tensor:
    """CRD of both sides' (flattened) features after their linear embeddings of unit length; the gradient reaches all four tensors.

    "exact" and "relax" differ only in the first column of `index_BM` (`draw_index`): the row itself, or one of its class.
    """
    e_s_BE = unit(F.linear(f_s.flatten(1), weight_s_ES, bias_s_E), dim=1)
    e_t_BE = unit(F.linear(f_t.detach().flatten(1), weight_t_ET, bias_t_E), dim=1)
    return crd(e_s_BE, e_t_BE, bank_s_NE, bank_t_NE, index_BM, z_s, z_t, temperature)


def reviewkd(levels_s: Sequence[Tensor], levels_t: Sequence[Tensor], fusion: ReviewFusion) -> Tensor:
    """ReviewKD: `hcl` of the fused student levels and the teacher's, maps from shallow to deep, then (usually) the pooled vectors.

    `fusion` holds the weights (`load_state_dict`: `reduce` is ABF's first convolution, `expand` its second, `gates` its
    attention). Bring it to float64 for float64 features.
    """
    maps_t = [as_map(level) for level in levels_t]
    return hcl(fusion(levels_s, [(int(level.shape[2]), int(level.shape[3])) for level in maps_t]), maps_t)
