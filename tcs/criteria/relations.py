"""Losses between relations among the rows of a batch; their value depends on the batch size.

Legend: B batch rows, S student dims, D teacher dims.
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from tcs.criteria.base import Criterion, Loss, Plain, Setting, StepRows, given
from tcs.functional.composed import cc_embedded
from tcs.functional.regressors import LinearEmbed
from tcs.functional.relations import cc, pkt, rkd, rkd_angle, rkd_distance, sp

FEATURES = frozenset({"features"})
BATCH = "exact for the cached view; relations are those of the rows of a step"


def _features(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Setting], Criterion]:
    """A criterion of both sides' pooled vectors, of any widths."""
    return lambda _: Plain(lambda rows: function(rows.features_BS, given(rows.teacher_BD)))


class Correlation(Criterion):
    """CC: both sides embedded in 128 dims by trained linear maps; neighbouring rows of the batch are compared."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.embed_s = LinearEmbed(setting.student_dims)
        self.embed_t = LinearEmbed(setting.teacher_dims)

    def forward(self, rows: StepRows) -> Tensor:
        """The loss of the batch in its order."""
        weights = (*self.embed_s.weights(), *self.embed_t.weights())
        return cc_embedded(rows.features_BS, given(rows.teacher_BD), *weights)


def _relation(function: Callable[[Tensor, Tensor], Tensor], about: str, source: str, weight: float | None) -> Loss:
    """The entry of a loss of pooled vectors that trains nothing."""
    return Loss(
        make=_features(function),
        function=function,
        about=about,
        source=source,
        reads=FEATURES,
        across_rows=True,
        weight=weight,
        exact=BATCH,
    )


LOSSES: Mapping[str, Loss] = {
    "rkd": _relation(rkd, "25 x distances + 50 x angles", "Park et al. 2019", 1.0),
    "rkd-distance": _relation(rkd_distance, "pairwise distances over their mean", "Park et al. 2019, eq. 7", 25.0),
    "rkd-angle": _relation(rkd_angle, "angles of all triplets: B^3 terms", "Park et al. 2019, eq. 9", 50.0),
    "pkt": _relation(pkt, "probabilities over the batch from cosines", "Passalis and Tefas 2018", 30000.0),
    "sp-pooled": _relation(
        sp, "similarity matrices of pooled features: not the published SP, which reads the last map", "-", None
    ),
    "sp": Loss(
        make=lambda _: Plain(lambda rows: sp(rows.student_maps[-1], rows.teacher_maps[-1])),
        function=sp,
        about="similarity matrices of the flattened last maps",
        source="Tung and Mori 2019",
        reads=frozenset({"maps"}),
        student_maps=True,
        across_rows=True,
        weight=3000.0,
        exact=BATCH,
    ),
    "cc": Loss(
        make=Correlation,
        function=cc_embedded,
        about="products of neighbouring rows' differences; the order of the batch matters",
        source="Peng et al. 2019, as in RepDistiller",
        reads=FEATURES,
        across_rows=True,
        trains="two linear maps to 128 dims",
        weight=0.02,
        exact=BATCH,
        differs="the teacher's embedding is trained as well, as in the published code",
        related=(cc, LinearEmbed),
    ),
}
