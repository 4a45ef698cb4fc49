"""CustomKD (Lee et al. 2025, arXiv 2503.18244): the teacher's features, mapped to where the student's own head reads them.

Two stages take turns (published: every epoch). First the map from teacher to student dims is trained alone, by labels, through
the student's head as it is (`customisation`). Then the student mimics both the teacher's features as they are and these
customised ones (`customkd`). Only cached features are read. The distances and their factors are this toolkit's choice: mean
squared differences, 1 : 1, since the text at hand names none.

Legend: B batch, C classes, S student dims, T teacher dims.
"""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tcs.functional.checks import require_labels, require_shapes
from tcs.functional.mimicry import l2
from tcs.functional.precision import full_precision


@full_precision
def customisation(
    f_t_BT: Tensor, labels_B: Tensor, map_ST: Tensor, map_bias_S: Tensor, head_CS: Tensor, head_bias_C: Tensor
) -> Tensor:
    """First stage: cross-entropy of the student's head on the teacher's mapped features; the gradient reaches the map alone.

    ConfigError: shapes, labels.
    """
    customised_BS = _customised(f_t_BT, map_ST, map_bias_S)
    require_shapes(
        "customisation", ("map_ST", map_ST, "S T"), ("head_CS", head_CS, "C S"), ("head_bias_C", head_bias_C, "C")
    )
    logits_BC = F.linear(customised_BS, head_CS.detach(), head_bias_C.detach())
    return F.cross_entropy(logits_BC, require_labels(labels_B, logits_BC, "customisation"))


@full_precision
def customkd(
    f_s_BS: Tensor,
    f_t_BT: Tensor,
    map_ST: Tensor,
    map_bias_S: Tensor,
    adaptor_TS: Tensor | None = None,
    adaptor_bias_T: Tensor | None = None,
    general: float = 1.0,
    specific: float = 1.0,
) -> Tensor:
    """Second stage: general times `l2` of the (adapted) student and f_t, plus specific times `l2` of f_s and the mapped f_t.

    The gradient reaches the student and its adaptor, never the map. Labels are not read. ConfigError: shapes.
    """
    customised_BS = _customised(f_t_BT, map_ST, map_bias_S).detach()
    return general * l2(f_s_BS, f_t_BT, adaptor_TS, adaptor_bias_T) + specific * l2(f_s_BS, customised_BS)


def _customised(f_t_BT: Tensor, map_ST: Tensor, map_bias_S: Tensor) -> Tensor:
    require_shapes("customkd", ("f_t_BT", f_t_BT, "B T"), ("map_ST", map_ST, "S T"), ("map_bias_S", map_bias_S, "S"))
    return F.linear(f_t_BT.detach(), map_ST, map_bias_S)
