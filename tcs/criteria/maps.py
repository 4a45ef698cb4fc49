"""Losses between maps. Stages are paired in order of depth; of two sizes the larger is average-pooled, as in each original.

Legend: maps are (B, channels, height, width), shallow to deep; B batch rows.
"""

from torch import Tensor, nn

from tcs.criteria.base import Criterion, Setting, StepRows
from tcs.functional.fusion import ReviewFusion
from tcs.functional.maps import hcl, hint, icc, pool_to_smaller
from tcs.functional.regressors import ChannelEmbed, HintRegressor, VidRegressor
from tcs.functional.vid import start_log_scale, vid


class FitNet(Criterion):
    """The hint loss on the middle stage (the second of three, as in the CRD benchmark)."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self._stage = (len(setting.teacher_maps) - 1) // 2
        (channels_s, *size_s), (channels_t, *size_t) = (
            maps[self._stage] for maps in (setting.student_maps, setting.teacher_maps)
        )
        self.regressor = HintRegressor(channels_s, channels_t, (size_s[0], size_s[1]), (size_t[0], size_t[1]))

    def forward(self, rows: StepRows) -> Tensor:
        """Mean squared error between the regressed student map and the teacher's."""
        return hint(self.regressor(rows.student_maps[self._stage]), rows.teacher_maps[self._stage].float())


class Vid(Criterion):
    """VID on every stage: a regressor and a trained log-scale for each channel."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        pairs = list(zip(setting.student_maps, setting.teacher_maps, strict=True))
        self.regressors = nn.ModuleList([VidRegressor(student[0], teacher[0]) for student, teacher in pairs])
        self.log_scales = nn.ParameterList([start_log_scale(teacher[0]) for _, teacher in pairs])

    def forward(self, rows: StepRows) -> Tensor:
        """The sum over stages of the Gaussian negative log-likelihood (without its constant)."""
        total = rows.logits_BC.new_zeros(())
        for index, (student, teacher) in enumerate(zip(rows.student_maps, rows.teacher_maps, strict=True)):
            mu, target = pool_to_smaller(self.regressors[index](student), teacher.float())
            total = total + vid(mu, target, self.log_scales[index])
        return total


class Icc(Criterion):
    """ICKD-C on the last stage: correlations between channels, the student's after an embedding."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.embed = ChannelEmbed(setting.student_maps[-1][0], setting.teacher_maps[-1][0])

    def forward(self, rows: StepRows) -> Tensor:
        """Squared distance of the two matrices of channel correlations."""
        return icc(self.embed(rows.student_maps[-1]), rows.teacher_maps[-1].float())


class Review(Criterion):
    """ReviewKD: every student stage and its pooled vector, fused deep to shallow, against the teacher's of the same depth."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.fusion = ReviewFusion(
            [stage[0] for stage in setting.student_maps] + [setting.student_dims],
            [stage[0] for stage in setting.teacher_maps] + [setting.teacher_dims],
        )

    def forward(self, rows: StepRows) -> Tensor:
        """The hierarchical context loss, summed over levels."""
        assert rows.teacher_BD is not None
        targets = [*(stage.float() for stage in rows.teacher_maps), rows.teacher_BD.float()[:, :, None, None]]
        sizes = [(int(target.shape[2]), int(target.shape[3])) for target in targets]
        return hcl(self.fusion([*rows.student_maps, rows.features_BS[:, :, None, None]], sizes), targets)


class MapDistance(Criterion):
    """RdimKD on the last stage: a 1 x 1 convolution to the cached (projected) channels, mean squared error."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.adaptor = nn.Conv2d(setting.student_maps[-1][0], setting.teacher_maps[-1][0], 1)

    def forward(self, rows: StepRows) -> Tensor:
        """Mean over rows, positions and channels."""
        return hint(*pool_to_smaller(self.adaptor(rows.student_maps[-1]), rows.teacher_maps[-1].float()))
