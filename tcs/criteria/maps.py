"""Losses between maps. Stages are paired in order of depth; of two sizes the larger is average-pooled, as in each original.

Legend: maps are (B, channels, height, width), shallow to deep; B batch rows.
"""

import dataclasses
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from tcs.criteria.base import Criterion, Loss, Plain, Setting, StepRows
from tcs.functional.fusion import ReviewFusion
from tcs.functional.maps import at, hcl, hint, icc, nst, pool_to_smaller
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
        return icc(*pool_to_smaller(self.embed(rows.student_maps[-1]), rows.teacher_maps[-1].float()))


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


def _maps(make: Callable[[Setting], Criterion], function: str, about: str, source: str, weight: float | None) -> Loss:
    """The entry of a loss of maps that trains nothing and follows the published code."""
    return Loss(
        make=make,
        function=f"tcs.functional.{function}",
        about=about,
        source=source,
        reads=frozenset({"maps"}),
        student_maps=True,
        weight=weight,
    )


LOSSES: Mapping[str, Loss] = {
    "fitnet": dataclasses.replace(
        _maps(FitNet, "maps.hint", "squared error of the middle stage after a regressor", "Romero et al. 2015", 100.0),
        trains="convolution by size, batch norm",
        differs="ReLU ends the regressor, as in RepDistiller: targets below zero cannot be matched",
    ),
    "at": _maps(
        lambda _: Plain(lambda rows: at(rows.student_maps, rows.teacher_maps)),
        "maps.at",
        "attention maps of all stages",
        "Zagoruyko and Komodakis 2017",
        1000.0,
    ),
    "nst": _maps(
        lambda _: Plain(lambda rows: nst(*_same_sizes(rows))),
        "maps.nst",
        "squared MMD between the channels' maps of all stages, polynomial kernel",
        "Huang and Wang 2017",
        50.0,
    ),
    "vid": dataclasses.replace(
        _maps(Vid, "vid.vid", "Gaussian likelihood of all stages' maps", "Ahn et al. 2019", 1.0),
        trains="three 1 x 1 convolutions a stage, a log-scale a channel",
        differs="the log-scales are trained, as in RepDistiller; mdistiller leaves them at their start",
    ),
    "ickd": dataclasses.replace(
        _maps(Icc, "maps.icc", "correlations between channels of the last map", "Liu et al. 2021", 2.5),
        trains="1 x 1 convolution, batch norm",
    ),
    "review": dataclasses.replace(
        _maps(Review, "maps.hcl", "all stages fused deep to shallow", "Chen et al. 2021 (ReviewKD)", 5.0),
        reads=frozenset({"maps", "features"}),
        trains="attention-based fusion",
        differs="no warm-up of the weight; maps as they were extracted, where the original takes them before the ReLU",
    ),
    "rdimkd-map": dataclasses.replace(
        _maps(MapDistance, "maps.hint", "RdimKD on the last map, projected when it was extracted", "RdimKD", 1.0),
        trains="1 x 1 convolution to the cached channels",
        differs="the adaptor's form is not published; it and the frozen projection of the student act as one linear map",
    ),
}


def _same_sizes(rows: StepRows) -> tuple[list[Tensor], list[Tensor]]:
    """Both sides' maps, stage by stage at the smaller of the two sizes."""
    pairs = [pool_to_smaller(s, t.to(s.dtype)) for s, t in zip(rows.student_maps, rows.teacher_maps, strict=True)]
    return [student for student, _ in pairs], [teacher for _, teacher in pairs]
