"""DHO (Kang et al. 2025, arXiv 2505.07675): two linear heads on one backbone, one for labels and one for the teacher.

The published student mixes the softmaxes of both heads. `mixed_logits` mixes the logits instead, which one linear head can do
alone (`fold_heads`), so that the student ships as a plain model; both choose the same class where the heads agree.

Legend: B labelled rows, U unlabelled rows, C classes, S student dims.
"""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tcs.errors import ConfigError
from tcs.functional.checks import require_labels, require_positive, require_shapes
from tcs.functional.logits import kd
from tcs.functional.precision import full_precision


@full_precision
def dho(
    logits_BC: Tensor,
    labels_B: Tensor,
    distilled_BC: Tensor,
    teacher_BC: Tensor,
    distilled_UC: Tensor | None = None,
    teacher_UC: Tensor | None = None,
    balance: float = 0.5,
    temperature: float = 2.0,
) -> Tensor:
    """balance CE(first head, labels) + (1 - balance) (KD of the second head on labelled rows + KD on unlabelled rows).

    `logits_BC` are the first head's on the labelled rows, `distilled_BC` and `distilled_UC` the second's, `teacher_BC` and
    `teacher_UC` the teacher's (or its probe's) on the same rows; KD is `kd`, a mean over its rows. Both heads' gradients
    meet in the backbone alone. ConfigError: shapes, labels, balance, temperature, one side of the unlabelled rows alone.
    """
    _require_share(balance, "balance")
    require_shapes(
        "dho",
        ("logits_BC", logits_BC, "B C"),
        ("distilled_BC", distilled_BC, "B C"),
        ("teacher_BC", teacher_BC, "B C"),
        ("distilled_UC", distilled_UC, "U C"),
        ("teacher_UC", teacher_UC, "U C"),
    )
    supervised = F.cross_entropy(logits_BC, require_labels(labels_B, logits_BC, "dho"))
    distilled = dho_kd(distilled_BC, teacher_BC, distilled_UC, teacher_UC, temperature)
    return balance * supervised + (1 - balance) * distilled


@full_precision
def dho_kd(
    distilled_BC: Tensor,
    teacher_BC: Tensor,
    distilled_UC: Tensor | None = None,
    teacher_UC: Tensor | None = None,
    temperature: float = 2.0,
) -> Tensor:
    """What the second head of `dho` learns: KD on the labelled rows + KD on the unlabelled ones, each a mean over its rows.

    ConfigError: shapes, temperature, one side of the unlabelled rows alone.
    """
    if (distilled_UC is None) != (teacher_UC is None):
        raise ConfigError("dho has unlabelled rows of one side alone; give distilled_UC and teacher_UC, or neither.")
    distilled = kd(distilled_BC, teacher_BC, temperature)
    if distilled_UC is not None and teacher_UC is not None:
        distilled = distilled + kd(distilled_UC, teacher_UC, temperature)
    return distilled


@full_precision
def mixed_probabilities(
    logits_BC: Tensor, distilled_BC: Tensor, alpha: float = 0.5, temperature: float = 1.0
) -> Tensor:
    """(B, C): alpha softmax(first head) + (1 - alpha) softmax(second head / temperature), the published inference.

    alpha and temperature are chosen on validation rows. No linear head gives these. ConfigError: shapes, alpha, temperature.
    """
    _require_mix(logits_BC, distilled_BC, alpha, temperature)
    return alpha * logits_BC.softmax(1) + (1 - alpha) * (distilled_BC / temperature).softmax(1)


@full_precision
def mixed_logits(logits_BC: Tensor, distilled_BC: Tensor, alpha: float = 0.5, temperature: float = 1.0) -> Tensor:
    """(B, C): alpha logits of the first head + (1 - alpha) of the second / temperature, those of `fold_heads`' one head."""
    _require_mix(logits_BC, distilled_BC, alpha, temperature)
    return alpha * logits_BC + (1 - alpha) / temperature * distilled_BC


@full_precision
def fold_heads(
    weight_CS: Tensor,
    bias_C: Tensor,
    distilled_weight_CS: Tensor,
    distilled_bias_C: Tensor,
    alpha: float = 0.5,
    temperature: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """(W, b), shapes (C, S) and (C,): the one linear head whose logits are the `mixed_logits` of two.

    W = alpha W_1 + (1 - alpha) / temperature W_2, and b likewise. ConfigError: shapes, alpha, temperature.
    """
    require_shapes(
        "fold_heads",
        ("weight_CS", weight_CS, "C S"),
        ("bias_C", bias_C, "C"),
        ("distilled_weight_CS", distilled_weight_CS, "C S"),
        ("distilled_bias_C", distilled_bias_C, "C"),
    )
    _require_share(alpha, "alpha")
    require_positive(temperature, "the temperature of fold_heads")
    second = (1 - alpha) / temperature
    return alpha * weight_CS + second * distilled_weight_CS, alpha * bias_C + second * distilled_bias_C


def _require_mix(logits_BC: Tensor, distilled_BC: Tensor, alpha: float, temperature: float) -> None:
    require_shapes("the mix of two heads", ("logits_BC", logits_BC, "B C"), ("distilled_BC", distilled_BC, "B C"))
    _require_share(alpha, "alpha")
    require_positive(temperature, "the temperature of the mix")


def _require_share(value: float, name: str) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} is {value}; it is the share of the first head, from 0 to 1.")
