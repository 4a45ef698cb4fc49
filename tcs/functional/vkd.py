"""V_kD (Miles, Elezi and Deng 2024): smooth L1 between the orthogonally projected student and a normalised teacher.

Each loss takes a given W of shape (T, S) with orthonormal columns (`orthogonal`), or any other projector's weight.

Legend: B batch (or tokens of the batch), N tokens, S student dims, T teacher dims, H height, W width.
"""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tcs.errors import ConfigError
from tcs.functional.checks import require_same_shape, require_shapes
from tcs.functional.norms import layer_norm, standardise
from tcs.functional.precision import full_precision
from tcs.functional.regressors import adapted
from tcs.functional.whitening import Whitening, whiten


def patch_mean(tokens_BNS: Tensor, prefix_tokens: int = 0) -> Tensor:
    """(B, S): mean over the patch tokens, without the first `prefix_tokens` (class, distillation). ConfigError if none is left."""
    if not 0 <= prefix_tokens < tokens_BNS.shape[1]:
        raise ConfigError(
            f"prefix_tokens is {prefix_tokens} of {tokens_BNS.shape[1]} tokens; some patch token must be left."
        )
    return tokens_BNS[:, prefix_tokens:].mean(1)


def map_mean(f_BTHW: Tensor) -> Tensor:
    """(B, T): global average of a teacher map before its head."""
    return f_BTHW.mean((2, 3))


@full_precision
def vkd(f_s_BS: Tensor, f_t_BT: Tensor, weight_TS: Tensor, bias_T: Tensor | None = None) -> Tensor:
    """Discriminative form: smooth L1 (knee 1, mean over B T) of f_s W' and LayerNorm(f_t), eps 1e-5; the student is not normalised."""
    return _smooth_l1(adapted(f_s_BS, weight_TS, bias_T), layer_norm(f_t_BT.detach()))


@full_precision
def vkd_given_target(f_s_BS: Tensor, target_BT: Tensor, weight_TS: Tensor) -> Tensor:
    """Smooth L1 of f_s W' and a target that is already normalised (or is meant not to be)."""
    return _smooth_l1(adapted(f_s_BS, weight_TS), target_BT.detach())


def vkd_whitened(f_s_BS: Tensor, f_t_BT: Tensor, weight_TS: Tensor, whitening: Whitening) -> Tensor:
    """Generative form: smooth L1 of f_s W' and the whitened f_t. The map is fitted once, where the paper whitens each batch iteratively."""
    return vkd_given_target(f_s_BS, whiten(f_t_BT.detach(), whitening), weight_TS)


@full_precision
def vkd_standardised(
    f_s_BS: Tensor, f_t_BT: Tensor, weight_TS: Tensor, scale_T: Tensor | None = None, bias_T: Tensor | None = None
) -> Tensor:
    """Detection form (ViDT): both sides standardised per channel over all tokens of the batch (unbiased std, no epsilon), then smooth L1.

    The learned scale and bias after W cancel in the standardisation, but for the scale's sign. Constant channels give zeros,
    not NaN. Inputs are flattened to tokens. ConfigError: shapes, fewer than 2 tokens.
    """
    for tokens in (f_s_BS, f_t_BT):
        if tokens.ndim < 2:
            shape = tuple(tokens.shape)
            raise ConfigError(f"vkd_standardised has an input of shape {shape}; it takes (..., dims), a token a row.")
    projected_BT = adapted(f_s_BS.flatten(0, -2), weight_TS)
    require_shapes(
        "vkd_standardised", ("f_s W'", projected_BT, "B T"), ("scale_T", scale_T, "T"), ("bias_T", bias_T, "T")
    )
    projected_BT = projected_BT if scale_T is None else projected_BT * scale_T
    projected_BT = projected_BT if bias_T is None else projected_BT + bias_T
    target_BT = f_t_BT.detach().flatten(0, -2)
    require_same_shape(projected_BT, target_BT, "vkd_standardised")
    return _smooth_l1(standardise(projected_BT), standardise(target_BT))


def _smooth_l1(projected_BT: Tensor, target_BT: Tensor) -> Tensor:
    require_same_shape(projected_BT, target_BT, "vkd", remedy="use a projector of the teacher's width")
    return F.smooth_l1_loss(projected_BT, target_BT)
