"""CustomKD: the teacher's features and, beside them, the same features mapped to where the student's classifier reads them.

Legend: B batch rows, S student dims, D teacher dims, C classes.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from tcs.criteria.base import Criterion, Loss, Setting, StepRows, given
from tcs.functional.customised import customisation, customkd


class CustomKd(Criterion):
    """A trained map D -> S, which makes the second target, and an adaptor S -> D for the first unless S = D."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.map = nn.Linear(setting.teacher_dims, setting.student_dims)
        same = setting.student_dims == setting.teacher_dims
        self.adaptor = None if same else nn.Linear(setting.student_dims, setting.teacher_dims)

    def forward(self, rows: StepRows) -> Tensor:
        """Both stages at once, each on the other as it is: no gradient of one reaches what the other trains."""
        teacher_BD, labels_B = given(rows.teacher_BD), given(rows.labels_B)
        adaptor = () if self.adaptor is None else (self.adaptor.weight, self.adaptor.bias)
        value = customkd(rows.features_BS, teacher_BD, self.map.weight, self.map.bias, *adaptor)
        labelled_B = labels_B >= 0
        if not bool(labelled_B.any()):
            return value
        assert rows.head is not None
        own, head = (self.map.weight, self.map.bias), (rows.head.weight_CS, rows.head.bias_C)
        return value + customisation(teacher_BD[labelled_B], labels_B[labelled_B], *own, *head)


LOSSES: Mapping[str, Loss] = {
    "customkd-l2": Loss(
        make=CustomKd,
        function=customkd,
        about="squared differences to the teacher's features and to these mapped, by labels, to where the student's classifier reads them",
        source="Lee et al. 2025 (CustomKD)",
        reads=frozenset({"features", "labels"}),
        student_head=True,
        across_rows=True,
        trains="linear T -> S; linear S -> T unless S = T",
        differs="the two stages, in turn for an epoch each in the paper, take turns step by step: a cached map costs no image; distances "
        "and factors are not in the texts at hand: mean squared differences, 1 : 1",
        related=(customisation,),
    ),
}
