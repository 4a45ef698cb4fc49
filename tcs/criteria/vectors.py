"""Losses between the student's features and the teacher's pooled ones, through a linear adaptor where widths differ.

Legend: B batch rows, S student dims, D teacher dims.
"""

from collections.abc import Callable

from torch import Tensor, nn

from tcs.criteria.base import Criterion, Setting, StepRows, there


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
