"""V_kD: the student's features through a trained orthogonal projector, against a normalised teacher.

Legend: n rows of the run, B rows of a step or block, S student dims, D teacher dims (T of the functions).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tcs.criteria.base import Criterion, Loss, Setting, StepRows, given
from tcs.errors import ConfigError
from tcs.functional.orthogonal import OrthogonalProjector, expm, expm0
from tcs.functional.vkd import map_mean, patch_mean, vkd, vkd_given_target, vkd_standardised, vkd_whitened
from tcs.functional.whitening import Whitening, fit_whitening, whiten

SOURCE = "Miles, Elezi and Deng 2024 (V_kD)"
TRAINS = "orthogonal projector, exp of a skew matrix"
FEATURES = frozenset({"features"})
BLOCK_ROWS = 65536

MAP = (
    "the orthogonal map is the paper's exponential, as the published code's Householder products collapse under weight decay; "
    "it reads the student's pooled vector, where the published student averages its patch tokens"
)

RELATED = (
    *(expm0, expm, OrthogonalProjector),
    *(vkd_given_target, patch_mean, map_mean),
    *(Whitening, fit_whitening, whiten),
)


def require_no_narrower(student_dims: int, teacher_dims: int) -> None:
    """ConfigError where the teacher is narrower than the student."""
    if student_dims > teacher_dims:
        raise ConfigError(
            f"vkd has a student of {student_dims} dims and a teacher of {teacher_dims}; an orthogonal projector needs a teacher "
            "that is no narrower: use a narrower student, or rkd, lshl2 or projector."
        )


class Orthogonal(Criterion):
    """The projector that all V_kD losses share. ConfigError where the teacher is narrower than the student."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        require_no_narrower(setting.student_dims, setting.teacher_dims)
        self.projector = OrthogonalProjector(setting.student_dims, setting.teacher_dims, setting.seed)

    def undecayed(self) -> list[nn.Parameter]:
        """The raw parameter: decay would pull the projector back to its start."""
        return [self.projector.raw]


class LayerNormed(Orthogonal):
    """The published (discriminative) form: the teacher's rows layer-normalised."""

    def forward(self, rows: StepRows) -> Tensor:
        """Smooth L1."""
        return vkd(rows.features_BS, given(rows.teacher_BD), self.projector.weight())


class Standardised(Orthogonal):
    """The detection form: both sides standardised per channel over the batch."""

    def forward(self, rows: StepRows) -> Tensor:
        """Smooth L1."""
        return vkd_standardised(rows.features_BS, given(rows.teacher_BD), self.projector.weight())


class Whitened(Orthogonal):
    """The generative form: the teacher's rows whitened by a map fitted once on all cached rows of the run."""

    mean_D: Tensor
    matrix_DD: Tensor

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        fitted = fit_whitening(*_moments(given(setting.teacher_nD)))
        self.register_buffer("mean_D", fitted.mean_T)
        self.register_buffer("matrix_DD", fitted.matrix_TT)

    def forward(self, rows: StepRows) -> Tensor:
        """Smooth L1."""
        whitening = Whitening(mean_T=self.mean_D, matrix_TT=self.matrix_DD)
        return vkd_whitened(rows.features_BS, given(rows.teacher_BD), self.projector.weight(), whitening)


def _moments(features_nD: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) in float64, a block of rows at a time."""
    blocks = torch.split(features_nD, BLOCK_ROWS)
    mean_D = torch.stack([block.double().sum(dim=0) for block in blocks]).sum(dim=0) / len(features_nD)
    covariance_DD = torch.zeros(len(mean_D), len(mean_D), dtype=torch.float64, device=features_nD.device)
    for block in blocks:
        centred_BD = block.double() - mean_D
        covariance_DD += centred_BD.T @ centred_BD
    return mean_D, covariance_DD / len(features_nD)


LOSSES: Mapping[str, Loss] = {
    "vkd": Loss(
        make=LayerNormed,
        function=vkd,
        about="orthogonal projection against layer-normalised features",
        source=SOURCE,
        reads=FEATURES,
        trains=TRAINS,
        weight=1.0,
        related=RELATED,
        check_dims=require_no_narrower,
        differs=MAP,
    ),
    "vkd-standardised": Loss(
        make=Standardised,
        function=vkd_standardised,
        about="both sides standardised over the batch (its detection form)",
        source=SOURCE,
        reads=FEATURES,
        across_rows=True,
        trains=TRAINS,
        related=RELATED,
        check_dims=require_no_narrower,
        differs=MAP + "; the scale and bias after the projector cancel in the standardisation and are left out",
    ),
    "vkd-whitened": Loss(
        make=Whitened,
        function=vkd_whitened,
        about="features whitened (ZCA) by a map fitted on the cache (its generative form)",
        source=SOURCE,
        reads=FEATURES,
        trains=TRAINS,
        related=RELATED,
        check_dims=require_no_narrower,
        differs=MAP + "; the whitening is fitted once on all rows, where the paper whitens each batch iteratively",
    ),
}
