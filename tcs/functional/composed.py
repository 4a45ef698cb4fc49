"""Published losses whole: from both sides' features to the number, with all that is trained between them as plain arguments.

For weights that were made elsewhere, and for training loops of one's own; the criteria of `tcs train` call the same functions.
`tcs.functional.regressors` and `.fusion` hold such weights as modules, with their starts. Batch normalisation is that of the
batch: biased variance, eps 1e-5, affine. Every function: ConfigError for shapes that do not go together.

Legend: B batch, S student channels or dims, T teacher channels or dims, E embedding dims, N bank rows, M candidates of a
row, H height, W width.
"""

import dataclasses
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tcs.functional.checks import require_shapes
from tcs.functional.crd import TEMPERATURE, crd, crd_normalisers, start_bank, update_bank
from tcs.functional.fusion import FusionWeights, ReviewFusion, fuse
from tcs.functional.maps import hcl, hint, icc
from tcs.functional.norms import unit
from tcs.functional.precision import full_precision
from tcs.functional.regressors import as_kernel, as_map, batch_normalised, hint_step
from tcs.functional.relations import cc
from tcs.functional.vid import vid


def _features(channels: str, features: Tensor) -> str:
    return f"B {channels}" if features.ndim == 2 else f"B {channels} . ."


def _pointwise(channels: str, weight: Tensor) -> str:
    return channels if weight.ndim == 2 else f"{channels} 1 1"


@full_precision
def fitnet(f_s: Tensor, f_t: Tensor, weight: Tensor, bias_T: Tensor, scale_T: Tensor, shift_T: Tensor) -> Tensor:
    """FitNet as in RepDistiller: mean squared error of ReLU(BN(convolution of f_s)) and f_t, maps or vectors.

    The convolution follows from the sizes (`hint_step`): stride 2, transposed with stride 2 (weight (S, T, 4, 4)), or valid
    (1 x 1 for equal sizes; vectors take (T, S) too). `scale_T`, `shift_T` are the norm's. ConfigError also for sizes, one row.
    """
    require_shapes("fitnet", ("f_s", f_s, _features("S", f_s)), ("f_t", f_t, _features("T", f_t)))
    maps_s, maps_t = as_map(f_s), as_map(f_t)
    (h_s, w_s), (h_t, w_t) = maps_s.shape[2:], maps_t.shape[2:]
    step = hint_step((h_s, w_s), (h_t, w_t))
    pointwise = step.kernel == (1, 1) and weight.ndim == 2
    kernel = "" if pointwise else f" {step.kernel[0]} {step.kernel[1]}"
    require_shapes(
        "fitnet",
        ("f_s", maps_s, "B S . ."),
        ("f_t", maps_t, "B T . ."),
        ("weight", weight, ("S T" if step.transposed else "T S") + kernel),
        ("bias_T", bias_T, "T"),
        ("scale_T", scale_T, "T"),
        ("shift_T", shift_T, "T"),
    )
    convolve = F.conv_transpose2d if step.transposed else F.conv2d
    mapped = convolve(maps_s, as_kernel(weight), bias_T, stride=step.stride, padding=step.padding)
    return hint(F.relu(batch_normalised(mapped, scale_T, shift_T)), maps_t)


@full_precision
def vid_regressed(
    f_s: Tensor, f_t: Tensor, first_TS: Tensor, second_TT: Tensor, third_TT: Tensor, log_scale_T: Tensor
) -> Tensor:
    """VID of one stage: `vid` of f_s (pooled first to f_t's size where it is larger) after three 1 x 1 maps, ReLU between."""
    require_shapes(
        "vid",
        ("f_s", f_s, _features("S", f_s)),
        ("f_t", f_t, _features("T", f_t)),
        ("first_TS", first_TS, _pointwise("T S", first_TS)),
        ("second_TT", second_TT, _pointwise("T T", second_TT)),
        ("third_TT", third_TT, _pointwise("T T", third_TT)),
        ("log_scale_T", log_scale_T, "T"),
    )
    maps_s, maps_t = as_map(f_s), as_map(f_t)
    if maps_s.shape[2] > maps_t.shape[2] or maps_s.shape[3] > maps_t.shape[3]:
        maps_s = F.adaptive_avg_pool2d(maps_s, (maps_t.shape[2], maps_t.shape[3]))
    hidden = F.relu(F.conv2d(maps_s, as_kernel(first_TS)))
    return vid(F.conv2d(F.relu(F.conv2d(hidden, as_kernel(second_TT))), as_kernel(third_TT)), maps_t, log_scale_T)


@full_precision
def ickd(f_s_BSHW: Tensor, f_t_BTHW: Tensor, weight_TS: Tensor, scale_T: Tensor, shift_T: Tensor) -> Tensor:
    """ICKD-C: `icc` of BN(1 x 1 map of f_s) and the raw f_t. Sizes may differ, and nothing is pooled."""
    require_shapes(
        "ickd",
        ("f_s_BSHW", f_s_BSHW, "B S . ."),
        ("f_t_BTHW", f_t_BTHW, "B T . ."),
        ("weight_TS", weight_TS, _pointwise("T S", weight_TS)),
        ("scale_T", scale_T, "T"),
        ("shift_T", shift_T, "T"),
    )
    return icc(batch_normalised(F.conv2d(f_s_BSHW, as_kernel(weight_TS)), scale_T, shift_T), f_t_BTHW)


@full_precision
def cc_embedded(
    f_s: Tensor, f_t: Tensor, weight_s_ES: Tensor, bias_s_E: Tensor, weight_t_ET: Tensor, bias_t_E: Tensor
) -> Tensor:
    """CC of both sides' (flattened) features after their linear embeddings; the gradient reaches all four of their tensors."""
    return cc(*_embedded("cc", f_s, f_t, weight_s_ES, bias_s_E, weight_t_ET, bias_t_E))


def _embedded(
    loss: str,
    f_s: Tensor,
    f_t: Tensor,
    weight_s_ES: Tensor,
    bias_s_E: Tensor,
    weight_t_ET: Tensor,
    bias_t_E: Tensor,
) -> tuple[Tensor, Tensor]:
    """Both sides in E dims."""
    flat_BS, flat_BT = (side.flatten(1) if side.ndim > 1 else side for side in (f_s, f_t.detach()))
    require_shapes(
        loss,
        ("f_s (flattened)", flat_BS, "B S"),
        ("f_t (flattened)", flat_BT, "B T"),
        ("weight_s_ES", weight_s_ES, "E S"),
        ("bias_s_E", bias_s_E, "E"),
        ("weight_t_ET", weight_t_ET, "E T"),
        ("bias_t_E", bias_t_E, "E"),
    )
    return F.linear(flat_BS, weight_s_ES, bias_s_E), F.linear(flat_BT, weight_t_ET, bias_t_E)


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

    Without normalisers they are this batch's, as at the very first step; `crd_step` keeps them, and the banks. "exact" and
    "relax" differ only in the first column of `index_BM` (`draw_index`): the row itself, or one of its class.
    """
    e_s_BE, e_t_BE = _on_sphere(f_s, f_t, weight_s_ES, bias_s_E, weight_t_ET, bias_t_E)
    candidates = (e_s_BE, e_t_BE, bank_s_NE, bank_t_NE, index_BM)
    if z_s is None or z_t is None:
        first_s, first_t = crd_normalisers(*candidates, temperature)
        z_s, z_t = first_s if z_s is None else z_s, first_t if z_t is None else z_t
    return crd(*candidates, z_s, z_t, temperature)


def _on_sphere(f_s: Tensor, f_t: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
    e_s_BE, e_t_BE = _embedded("crd", f_s, f_t, *weights)
    return unit(e_s_BE, dim=1), unit(e_t_BE, dim=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrdState:
    """What CRD remembers from step to step: the banks of both sides and their normalisers (None before the first step).

    Plain tensors: save them with the student (`dataclasses.asdict`), since a run cannot go on without them.
    """

    bank_s_NE: Tensor
    bank_t_NE: Tensor
    z_s: Tensor | None = None
    z_t: Tensor | None = None


def start_crd(rows: int, width: int = 128, seed: int = 0) -> CrdState:
    """The state before the first step of a run of `rows` training images: banks (`start_bank`) of the seeds `seed` and `seed + 1`."""
    return CrdState(bank_s_NE=start_bank(rows, width, seed), bank_t_NE=start_bank(rows, width, seed + 1))


@full_precision
def crd_step(
    f_s: Tensor,
    f_t: Tensor,
    weight_s_ES: Tensor,
    bias_s_E: Tensor,
    weight_t_ET: Tensor,
    bias_t_E: Tensor,
    state: CrdState,
    rows_B: Tensor,
    index_BM: Tensor,
    temperature: float = TEMPERATURE,
    momentum: float = 0.5,
) -> tuple[Tensor, CrdState]:
    """`crd_embedded` against what the state remembers, and the state for the next step; the given one is unchanged.

    `rows_B` (integers) are the batch's places among the run's N images, `index_BM` its candidates (`draw_index`, anew at
    every step). The first step makes the normalisers; each writes its embeddings into both banks (`update_bank`), after the
    loss. Costs a copy of both banks, N E floats each. ConfigError also for an index or rows outside the banks.
    """
    weights = (weight_s_ES, bias_s_E, weight_t_ET, bias_t_E)
    with torch.no_grad():
        e_s_BE, e_t_BE = _on_sphere(f_s, f_t, *weights)
    z_s, z_t = state.z_s, state.z_t
    if z_s is None or z_t is None:
        z_s, z_t = crd_normalisers(e_s_BE, e_t_BE, state.bank_s_NE, state.bank_t_NE, index_BM, temperature)
    loss = crd_embedded(f_s, f_t, *weights, state.bank_s_NE, state.bank_t_NE, index_BM, z_s, z_t, temperature)
    after = CrdState(
        bank_s_NE=update_bank(state.bank_s_NE, e_s_BE, rows_B, momentum),
        bank_t_NE=update_bank(state.bank_t_NE, e_t_BE, rows_B, momentum),
        z_s=z_s,
        z_t=z_t,
    )
    return loss, after


def reviewkd(
    levels_s: Sequence[Tensor], levels_t: Sequence[Tensor], fusion: ReviewFusion | Sequence[FusionWeights]
) -> Tensor:
    """ReviewKD: `hcl` of the fused student levels and the teacher's, maps from shallow to deep, then (usually) the pooled vectors.

    `fusion` are the weights of the levels, shallow to deep (`start_fusion`), or the module that owns them. Nothing is
    remembered between steps: train the weights (`FusionWeights.trained`) with the student, and call it again.
    """
    weights = fusion.weights() if isinstance(fusion, ReviewFusion) else fusion
    maps_t = [as_map(level) for level in levels_t]
    sizes_t = [(int(level.shape[2]), int(level.shape[3])) for level in maps_t]
    return hcl(fuse(levels_s, sizes_t, weights), maps_t)
