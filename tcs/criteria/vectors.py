"""Losses between the student's features and the teacher's pooled ones, through a linear adaptor where widths differ.

Legend: B batch rows, S student dims, D teacher dims (T of the functions), K dims of a fingerprint.
"""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from tcs.criteria.base import Criterion, Loss, Setting, StepRows, given
from tcs.functional.fingerprints import csd, csd_cached, draw_projection
from tcs.functional.mimicry import cosine, l2, smooth_l1
from tcs.functional.norms import batch_norm, group_norm, l2_norm
from tcs.functional.projector import (
    correlation_log_sum,
    itrd_correlation,
    linear_projector,
    log_sum,
    mlp_projector,
    normalised_l2,
    projector_kd,
    projector_kd_correlation,
    projector_kd_gn,
    projector_kd_itrd,
    projector_kd_l2,
    projector_kd_mlp,
    projector_kd_mse,
    projector_kd_none,
)
from tcs.runtime import seed_for

FINGERPRINT_DIMS = 128

ABLATION = "an ablation of the paper without published code: alpha 4 as in the ImageNet code"
RELATED = (log_sum, correlation_log_sum, itrd_correlation, normalised_l2, batch_norm, group_norm, l2_norm)


class Adapted(Criterion):
    """`function` of the student's features, brought to D dims by a trained linear map unless S = D, and the teacher's."""

    def __init__(self, setting: Setting, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        same = setting.student_dims == setting.teacher_dims
        self.adaptor = nn.Identity() if same else nn.Linear(setting.student_dims, setting.teacher_dims)
        self._function = function

    def forward(self, rows: StepRows) -> Tensor:
        """The function's value."""
        return self._function(self.adaptor(rows.features_BS), given(rows.teacher_BD))


class Projected(Criterion):
    """Projector KD: `function` of both sides' features and the weights of a trained projector S -> D."""

    def __init__(self, projector: nn.Module, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.projector = projector
        self._function = function

    def forward(self, rows: StepRows) -> Tensor:
        """The function's value."""
        # Weight, then bias, of each linear map from the student to the teacher: the order of the function's arguments.
        return self._function(rows.features_BS, given(rows.teacher_BD), *self.projector.parameters())


class Csd(Criterion):
    """CSD: frozen random projections of both sides, at most 128 dims wide. Nothing is trained but the student."""

    projection_SK: Tensor
    projection_DK: Tensor

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        dims = min(FINGERPRINT_DIMS, setting.student_dims, setting.teacher_dims)
        seed_s, seed_t = (seed_for(setting.seed, f"{side} fingerprint") for side in ("student", "teacher"))
        self.register_buffer("projection_SK", draw_projection(setting.student_dims, dims, seed_s))
        self.register_buffer("projection_DK", draw_projection(setting.teacher_dims, dims, seed_t))

    def forward(self, rows: StepRows) -> Tensor:
        """1 - mean cosine of the fingerprints."""
        return csd(rows.features_BS, given(rows.teacher_BD), self.projection_SK, self.projection_DK)


def _projector(
    about: str,
    function: Callable[..., Tensor],
    weight: float | None = None,
    projector: Callable[[int, int], nn.Module] = linear_projector,
    across_rows: bool = True,
    differs: str = "",
) -> Loss:
    return Loss(
        make=lambda setting: Projected(projector(setting.student_dims, setting.teacher_dims), function),
        function=function,
        about=about,
        source="Miles and Mikolajczyk 2023 (projector KD)",
        reads=frozenset({"features"}),
        across_rows=across_rows,
        trains="linear S -> T" if projector is linear_projector else "two linear maps, ReLU between",
        weight=weight,
        related=RELATED,
        differs=differs,
    )


def _mimicry(function: Callable[..., Tensor], about: str) -> Loss:
    return Loss(
        make=lambda setting: Adapted(setting, function),
        function=function,
        about=about,
        source="-",
        reads=frozenset({"features"}),
        trains="linear S -> T unless S = T",
    )


LOSSES: Mapping[str, Loss] = {
    "cosine": _mimicry(cosine, "1 - cosine of the features"),
    "feature-l2": _mimicry(l2, "mean squared difference of the features"),
    "smooth-l1": _mimicry(smooth_l1, "smooth L1 difference of the features"),
    "csd": Loss(
        make=Csd,
        function=csd,
        about="1 - cosine of frozen random projections of both sides",
        source="Wang (Cosine Similarity Distillation)",
        reads=frozenset({"features"}),
        differs=f"the write-up's code and sizes are not at hand: Gaussian projections to {FINGERPRINT_DIMS} dims or the narrower side's",
        related=(csd_cached, draw_projection),
    ),
    "projector": _projector("log-sum of batch-normalised sides, alpha 4 (the ImageNet code)", projector_kd, weight=2.0),
    "projector-mlp": _projector(
        "the same through an MLP projector", projector_kd_mlp, projector=mlp_projector, differs=ABLATION
    ),
    "projector-gn": _projector("log-sum of group-normalised sides (one group)", projector_kd_gn, differs=ABLATION),
    "projector-l2": _projector("log-sum of sides of unit length", projector_kd_l2, differs=ABLATION),
    "projector-none": _projector("log-sum without normalisation", projector_kd_none, differs=ABLATION),
    "projector-correlation": _projector(
        "log-sum of correlations (the DeiT code)", projector_kd_correlation, weight=1.0
    ),
    "projector-itrd": _projector("correlations as in ITRD, its ancestor", projector_kd_itrd, weight=2.0),
    "projector-mse": _projector(
        "squared distance of sides of unit length",
        projector_kd_mse,
        across_rows=False,
        differs="published on maps; pooled vectors here",
    ),
}
