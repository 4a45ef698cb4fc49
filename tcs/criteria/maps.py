"""Losses between maps. Stages are paired in order of depth; of two sizes the larger is average-pooled where the original does.

Legend: maps are (B, channels, height, width), shallow to deep; B batch rows, S student dims, D teacher dims (T of the functions).
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from tcs.criteria.base import Criterion, Loss, Plain, Setting, StepRows, given
from tcs.errors import ConfigError
from tcs.functional.composed import fitnet, ickd, reviewkd, vid_regressed
from tcs.functional.fusion import FusionWeights, ReviewFusion, fuse, start_fusion
from tcs.functional.maps import at, at_cached, at_stage, attention, hcl, hcl_level, hint, icc, nst, nst_stage
from tcs.functional.rdimkd import orthonormal, rdimkd, rdimkd_cached, rdimkd_encoded
from tcs.functional.regressors import ChannelEmbed, HintRegressor, VidRegressor
from tcs.functional.vid import start_log_scale, vid


def _require_positions(setting: Setting, loss: str) -> None:
    """ConfigError where a map has one position: it would be constant after the loss's own normalisation."""
    sides = {"student": setting.student_maps, "teacher": setting.teacher_maps}
    for side, maps in sides.items():
        if any(height * width < 2 for _, height, width in maps):
            remedy = "use a larger --img-size" if side == "student" else "extract maps of shallower stages"
            raise ConfigError(
                f"{loss} has {side} maps of {_sizes(maps)} positions, and one of them is a single one, on which it says nothing; "
                f"{remedy}."
            )


def _require_nested(setting: Setting, loss: str) -> None:
    """ConfigError where neither of two paired maps fits inside the other, so that none can be pooled to the other's size."""
    for (_, *size_s), (_, *size_t) in zip(setting.student_maps, setting.teacher_maps, strict=True):
        if (size_s[0] - size_t[0]) * (size_s[1] - size_t[1]) < 0:
            raise ConfigError(
                f"{loss} has student maps of {_sizes(setting.student_maps)} positions and teacher maps of "
                f"{_sizes(setting.teacher_maps)}; of each pair one must fit inside the other: extract square maps."
            )


def _sizes(maps: Sequence[tuple[int, int, int]]) -> str:
    return ", ".join(f"{height}x{width}" for _, height, width in maps)


def _stages(
    loss: str, function: Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]
) -> Callable[[Setting], Criterion]:
    """A criterion of all stages of both sides, whose sizes are checked when it is built."""

    def make(setting: Setting) -> Criterion:
        _require_positions(setting, loss)
        _require_nested(setting, loss)
        return Plain(lambda rows: function(rows.student_maps, rows.teacher_maps))

    return make


class FitNet(Criterion):
    """The hint loss on the middle stage (the second of three, as in the CRD benchmark).

    Here and below norms normalise by the batch; their running statistics, which a run's file holds, are never read.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self._stage = (len(setting.teacher_maps) - 1) // 2
        (channels_s, *size_s), (channels_t, *size_t) = (
            maps[self._stage] for maps in (setting.student_maps, setting.teacher_maps)
        )
        self.regressor = HintRegressor(channels_s, channels_t, (size_s[0], size_s[1]), (size_t[0], size_t[1]))

    def forward(self, rows: StepRows) -> Tensor:
        """Mean squared error between the regressed student map and the teacher's."""
        stage = self._stage
        return fitnet(rows.student_maps[stage], rows.teacher_maps[stage], *self.regressor.weights())


class Vid(Criterion):
    """VID on every stage: a regressor and a trained log-scale for each channel."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        _require_nested(setting, "vid")
        pairs = list(zip(setting.student_maps, setting.teacher_maps, strict=True))
        self.regressors = nn.ModuleList([VidRegressor(student[0], teacher[0]) for student, teacher in pairs])
        self.log_scales = nn.ParameterList([start_log_scale(teacher[0]) for _, teacher in pairs])

    def forward(self, rows: StepRows) -> Tensor:
        """The sum over stages of the Gaussian negative log-likelihood (without its constant); a larger student map is pooled first."""
        total = rows.features_BS.new_zeros(())
        for index, (student, teacher) in enumerate(zip(rows.student_maps, rows.teacher_maps, strict=True)):
            regressor = self.regressors[index]
            assert isinstance(regressor, VidRegressor)
            total = total + vid_regressed(student, teacher, *regressor.weights(), self.log_scales[index])
        return total


class Ickd(Criterion):
    """ICKD-C on the last stage: correlations between channels, the student's after an embedding. Nothing is pooled."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        _require_positions(setting, "ickd")
        self.embed = ChannelEmbed(setting.student_maps[-1][0], setting.teacher_maps[-1][0])

    def forward(self, rows: StepRows) -> Tensor:
        """Squared distance of the two matrices of channel correlations."""
        return ickd(rows.student_maps[-1], rows.teacher_maps[-1], *self.embed.weights())


class ReviewKd(Criterion):
    """ReviewKD: every student stage and its pooled vector, fused deep to shallow, against the teacher's of the same depth."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.fusion = ReviewFusion(
            [stage[0] for stage in setting.student_maps] + [setting.student_dims],
            [stage[0] for stage in setting.teacher_maps] + [setting.teacher_dims],
        )

    def forward(self, rows: StepRows) -> Tensor:
        """The hierarchical context loss, summed over levels."""
        levels_s, levels_t = [*rows.student_maps, rows.features_BS], [*rows.teacher_maps, given(rows.teacher_BD)]
        return reviewkd(levels_s, levels_t, self.fusion.weights())


class RdimkdMap(Criterion):
    """RdimKD on the last stage: a 1 x 1 convolution to the cached (projected) channels, mean squared error."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        _require_nested(setting, "rdimkd-map")
        self.adaptor = nn.Conv2d(setting.student_maps[-1][0], setting.teacher_maps[-1][0], 1)

    def forward(self, rows: StepRows) -> Tensor:
        """Mean over rows, positions and channels."""
        return rdimkd_cached(
            rows.student_maps[-1],
            rows.teacher_maps[-1],
            projection_TK=None,  # the adaptor's channels are those of the projection
            adaptor_TS=self.adaptor.weight,
            adaptor_bias_T=self.adaptor.bias,
        )


def _maps(
    make: Callable[[Setting], Criterion],
    function: Callable[..., Tensor],
    about: str,
    source: str,
    weight: float | None,
) -> Loss:
    """The entry of a loss of maps that trains nothing and follows the published code."""
    return Loss(
        make=make,
        function=function,
        about=about,
        source=source,
        reads=frozenset({"maps"}),
        student_maps=True,
        weight=weight,
    )


LOSSES: Mapping[str, Loss] = {
    "fitnet": dataclasses.replace(
        _maps(
            FitNet,
            fitnet,
            "squared error of the middle stage after a regressor",
            "Romero et al. 2015",
            100.0,
        ),
        across_rows=True,
        trains="convolution by size, batch norm",
        differs="ReLU ends the regressor, as in RepDistiller: targets below zero cannot be matched",
        related=(hint, HintRegressor),
    ),
    "at": dataclasses.replace(
        _maps(_stages("at", at), at, "attention maps of all stages", "Zagoruyko and Komodakis 2017", 1000.0),
        related=(at_stage, attention, at_cached),
    ),
    "nst": dataclasses.replace(
        _maps(
            _stages("nst", nst),
            nst,
            "squared MMD between the channels' maps of all stages, polynomial kernel",
            "Huang and Wang 2017",
            50.0,
        ),
        related=(nst_stage,),
    ),
    "vid": dataclasses.replace(
        _maps(Vid, vid_regressed, "Gaussian likelihood of all stages' maps", "Ahn et al. 2019", 1.0),
        trains="three 1 x 1 convolutions a stage, a log-scale a channel",
        differs="the log-scales are trained, as in RepDistiller; mdistiller leaves them at their start",
        related=(vid, start_log_scale, VidRegressor),
    ),
    "ickd": dataclasses.replace(
        _maps(Ickd, ickd, "correlations between channels of the last map", "Liu et al. 2021", 2.5),
        across_rows=True,
        trains="1 x 1 convolution, batch norm",
        related=(icc, ChannelEmbed),
    ),
    "review": dataclasses.replace(
        _maps(ReviewKd, reviewkd, "all stages fused deep to shallow", "Chen et al. 2021 (ReviewKD)", 5.0),
        reads=frozenset({"maps", "features"}),
        across_rows=True,
        trains="attention-based fusion",
        differs="no warm-up of the weight; maps as they were extracted, where the original takes them before the ReLU",
        related=(start_fusion, FusionWeights, fuse, hcl, hcl_level, ReviewFusion),
    ),
    "rdimkd-map": dataclasses.replace(
        _maps(
            RdimkdMap,
            rdimkd_cached,
            "RdimKD on the last map, projected when it was extracted",
            "RdimKD",
            None,
        ),
        trains="1 x 1 convolution to the cached channels",
        differs="reduction, weight and the adaptor's form are not published: mean over rows, positions and dims; the adaptor and "
        "the frozen projection of the student are trained as one linear map",
        related=(rdimkd, rdimkd_encoded, orthonormal),
    ),
}
