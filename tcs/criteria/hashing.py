"""LSH and LSHL2 as published: Gaussian hyperplanes in the teacher's feature space. eLSH is in `tcs.criteria.coordinates`.

Legend: n rows of the run, B rows of a step or block, C classes, S student dims, D teacher dims (T of the functions), H hash bits.
"""

import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tcs.criteria.base import Criterion, Loss, Setting, StepRows, given
from tcs.errors import ConfigError
from tcs.functional.lsh import draw_hash_weight, hash_bias, hash_bits, lsh, lsh_from_bits, lshl2, lshl2_s

HASH_BITS = 2048
BLOCK_ROWS = 65536

# Spread of the teacher's projections about their thresholds: how far a student must go before the loss saturates. The
# published rule (the spread of the teacher's classifier weight) has no meaning without a classifier.
SPREAD = 2.0

CHOICES = (
    f"H = {HASH_BITS}, projections spread by {SPREAD:g} about their medians, both over the run's rows; the linear map stands "
    "beside the classifier, where the original puts it before it"
)


class Hashed(Criterion):
    """Hyperplanes and thresholds from the cached rows of the run, and a linear map S -> D where the widths differ."""

    weight_HD: Tensor
    bias_H: Tensor

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        features_nD = given(setting.teacher_nD)
        same = setting.student_dims == setting.teacher_dims
        self.adaptor = nn.Identity() if same else nn.Linear(setting.student_dims, setting.teacher_dims)
        std = SPREAD / _spread(features_nD)
        self.register_buffer("weight_HD", draw_hash_weight(HASH_BITS, setting.teacher_dims, std, setting.seed))
        self.register_buffer("bias_H", hash_bias(features_nD.cpu(), self.weight_HD).float())

    def sides(self, rows: StepRows) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The student in D dims, the teacher, hyperplanes, bias."""
        return self.adaptor(rows.features_BS), given(rows.teacher_BD), self.weight_HD, self.bias_H


def _spread(features_nD: Tensor) -> float:
    """Root mean square distance of the rows from their mean, a block of rows at a time. ConfigError where it is zero or not finite."""
    total_D, squares = torch.zeros(features_nD.shape[1], dtype=torch.float64), 0.0
    for block in torch.split(features_nD, BLOCK_ROWS):
        from_first_BD = block.double() - features_nD[0].double()
        total_D += from_first_BD.sum(dim=0).cpu()
        squares += float(from_first_BD.square().sum())
    if not math.isfinite(squares):
        raise ConfigError("lsh has teacher features that are not finite (NaN or Inf); check the teacher's output.")
    variance = squares / len(features_nD) - float((total_D / len(features_nD)).square().sum())
    if not variance > 0:
        raise ConfigError(
            f"lsh has {len(features_nD)} rows of teacher features that are all the same; no hyperplane parts them: use more images."
        )
    return math.sqrt(variance)


class Lsh(Hashed):
    """LSH: the signs of the teacher's hash values."""

    def forward(self, rows: StepRows) -> Tensor:
        """Binary cross-entropy, mean over rows and bits."""
        return lsh(*self.sides(rows))


class Lshl2(Hashed):
    """LSHL2: signs and squared distance, weights 1 : 1."""

    def forward(self, rows: StepRows) -> Tensor:
        """The sum of both means."""
        return lshl2(*self.sides(rows))


class Lshl2Right(Hashed):
    """LSHL2_s: LSHL2 over the labelled rows that the probe of the teacher classifies rightly."""

    def forward(self, rows: StepRows) -> Tensor:
        """The mean over those rows; 0 where there is none."""
        right_B = given(rows.teacher_logits_BC).argmax(dim=1) == given(rows.labels_B)
        return lshl2_s(*self.sides(rows), right_B)


LSH = Loss(
    make=Lsh,
    function=lsh,
    about="signs of Gaussian projections of the teacher's features",
    source="Wang, Ge and Wu 2021 (Mimicking Features)",
    reads=frozenset({"features"}),
    trains="linear S -> T unless S = T",
    weight=6.0,
    related=(draw_hash_weight, hash_bias, hash_bits, lsh_from_bits),
    differs=CHOICES,
)

LOSSES: Mapping[str, Loss] = {
    "lsh": LSH,
    "lshl2": dataclasses.replace(LSH, make=Lshl2, function=lshl2, about="signs and squared distance, 1 : 1"),
    "lshl2_s": dataclasses.replace(
        LSH,
        make=Lshl2Right,
        function=lshl2_s,
        about="lshl2 over the labelled rows that a probe of the teacher classifies rightly",
        reads=frozenset({"features", "labels", "probe"}),
        rows="labelled",
        across_rows=True,
        differs=CHOICES
        + "; the probe stands for the teacher's classifier; a batch without a right row gives 0, not NaN",
    ),
}
