"""Losses between the student's features and the teacher's pooled ones, through a linear adaptor where widths differ.

Legend: B batch rows, S student dims, D teacher dims.
"""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from tcs.criteria.base import Criterion, Loss, Setting, StepRows, there
from tcs.functional.mimicry import cosine, l2, smooth_l1
from tcs.functional.projector import (
    NORMALISATIONS,
    correlation_log_sum,
    itrd_correlation,
    linear_projector,
    log_sum,
    mlp_projector,
    normalised_l2,
    projector_kd,
    projector_kd_correlation,
)


class Adapted(Criterion):
    """`function` of the student's features, brought to D dims by a trained linear map unless S = D, and the teacher's."""

    def __init__(self, setting: Setting, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        same = setting.student_dims == setting.teacher_dims
        self.adaptor = nn.Identity() if same else nn.Linear(setting.student_dims, setting.teacher_dims)
        self._function = function

    def forward(self, rows: StepRows) -> Tensor:
        """The function's value."""
        return self._function(self.adaptor(rows.features_BS), there(rows.teacher_BD))


class Projected(Criterion):
    """Projector KD: a trained projector S -> D, both sides normalised the same way, a distance."""

    def __init__(
        self, projector: nn.Module, normalise: Callable[[Tensor], Tensor], distance: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.projector = projector
        self._normalise, self._distance = normalise, distance

    def forward(self, rows: StepRows) -> Tensor:
        """The distance of the normalised sides."""
        return self._distance(
            self._normalise(self.projector(rows.features_BS)), self._normalise(there(rows.teacher_BD))
        )


RELATED = (
    *(
        f"tcs.functional.projector.{name}"
        for name in ("log_sum", "correlation_log_sum", "itrd_correlation", "normalised_l2")
    ),
    *(f"tcs.functional.norms.{name}" for name in ("batch_norm", "group_norm", "l2_norm")),
)


def _projector(
    about: str,
    distance: Callable[[Tensor, Tensor], Tensor],
    normalisation: str = "bn",
    weight: float | None = 2.0,
    projector: Callable[[int, int], nn.Module] = linear_projector,
    function: Callable[..., Tensor] | None = None,
) -> Loss:
    return Loss(
        make=lambda s: Projected(projector(s.student_dims, s.teacher_dims), NORMALISATIONS[normalisation], distance),
        function=f"tcs.functional.projector.{(function or distance).__name__}",
        about=about,
        source="Miles and Mikolajczyk 2023 (projector KD)",
        reads=frozenset({"features"}),
        trains="linear S -> D" if projector is linear_projector else "two linear maps, ReLU between",
        weight=weight,
        related=RELATED,
    )


def _mimicry(function: Callable[[Tensor, Tensor], Tensor], about: str) -> Loss:
    return Loss(
        make=lambda s: Adapted(s, function),
        function=f"tcs.functional.mimicry.{function.__name__}",
        about=about,
        source="-",
        reads=frozenset({"features"}),
        trains="linear S -> D unless S = D",
    )


LOSSES: Mapping[str, Loss] = {
    "cosine": _mimicry(cosine, "1 - cosine of the features"),
    "feature-l2": _mimicry(l2, "mean squared difference of the features"),
    "smooth-l1": _mimicry(smooth_l1, "smooth L1 difference of the features"),
    "projector": _projector(
        "log-sum of batch-normalised sides, alpha 4 (the ImageNet code)", log_sum, function=projector_kd
    ),
    "projector-mlp": _projector("the same through an MLP projector", log_sum, weight=None, projector=mlp_projector),
    "projector-gn": _projector("log-sum of group-normalised sides (one group)", log_sum, "gn", weight=None),
    "projector-l2": _projector("log-sum of sides of unit length", log_sum, "l2", weight=None),
    "projector-none": _projector("log-sum without normalisation", log_sum, "none", weight=None),
    "projector-correlation": _projector(
        "log-sum of correlations (the DeiT code)",
        correlation_log_sum,
        "bn-exact",
        weight=1.0,
        function=projector_kd_correlation,
    ),
    "projector-itrd": _projector("correlations as in ITRD, its ancestor", itrd_correlation, "none"),
    "projector-mse": _projector("squared distance of sides of unit length", normalised_l2, "none", weight=None),
}
