"""Cross-entropy to labels and to those spread over the pool, and losses against the logits of a probe of the frozen teacher.

Legend: B batch rows, C classes.
"""

from collections.abc import Mapping

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tcs.criteria.base import Loss, Plain, StepRows, given
from tcs.functional.logits import dist, dkd, kd, soft_cross_entropy

SPREAD = "no online teacher has it: labels are spread over the cached features of the whole pool"
PROBED = "exact for the probe's logits; a teacher trained with labels would have its own"


def _cross_entropy(rows: StepRows) -> Tensor:
    return F.cross_entropy(rows.logits_BC, given(rows.labels_B) if rows.soft_labels_BC is None else rows.soft_labels_BC)


LOSSES: Mapping[str, Loss] = {
    "ce": Loss(
        make=lambda _: Plain(_cross_entropy),
        function=F.cross_entropy,
        about="cross-entropy on the labelled rows",
        source="-",
        reads=frozenset({"labels"}),
        rows="labelled",
        weight=1.0,
        exact="exact",
    ),
    "pool": Loss(
        make=lambda _: Plain(lambda rows: soft_cross_entropy(rows.logits_BC, given(rows.pool_labels_BC))),
        function=soft_cross_entropy,
        about="cross-entropy to soft labels of every row: the run's labels spread over the pool (T = 1), labelled rows with theirs",
        source="-",
        reads=frozenset({"pool"}),
        weight=1.0,
        exact=SPREAD,
    ),
    "kd": Loss(
        make=lambda _: Plain(lambda rows: kd(rows.logits_BC, given(rows.teacher_logits_BC))),
        function=kd,
        about="KL of softened logits, T = 4, on labelled and unlabelled rows",
        source="Hinton et al. 2015",
        reads=frozenset({"labels", "probe"}),
        weight=0.9,
        exact=PROBED,
    ),
    "dkd": Loss(
        make=lambda _: Plain(
            lambda rows: dkd(rows.logits_BC, given(rows.teacher_logits_BC), given(rows.labels_B)),
        ),
        function=dkd,
        about="decoupled KD (alpha 1, beta 8, T = 4) on the labelled rows: it needs the label of each",
        source="Zhao et al. 2022",
        reads=frozenset({"labels", "probe"}),
        rows="labelled",
        weight=1.0,
        exact=PROBED,
        differs="no warm-up of the weight over the first 20 epochs",
    ),
    "dist": Loss(
        make=lambda _: Plain(lambda rows: dist(rows.logits_BC, given(rows.teacher_logits_BC))),
        function=dist,
        about="correlations of probabilities within rows and within classes",
        source="Huang et al. 2022",
        reads=frozenset({"labels", "probe"}),
        across_rows=True,
        weight=2.0,
        exact=PROBED,
    ),
}
