"""A student: a timm backbone, a head that folds into its classifier, and gates that select coordinates while it trains.

A gate is a trainable factor of a coordinate. After a period the open gates with the least importance, the sum over its steps of
|gate * dL/dgate| (what closing a gate would change in the loss, to first order), are closed for good. Periods are equally
long, and each closes an equal share of what is open, so that `keep` of K are left after the last one.

Legend: B batch rows, S student width, K coordinates, C classes.
"""

import dataclasses
from collections.abc import Sequence

import timm.data
import torch
from torch import Tensor, nn

from tcs.functional.two_heads import fold_heads
from tcs.runtime import seed_for
from tcs.students.backbone import (
    StudentSpec,
    check_foldable,
    check_headless,
    create_backbone,
    features_and_maps,
    measured_width,
    pre_logits,
    write_classifier,
)
from tcs.students.start import load_start

PERIODS = 8
FIRST_SHARE = 0.5  # of the first classifier in the mix of two: fixed, since a few-shot run has no rows to choose it on
LAST_SHARE = 0.6  # of the steps: closing ends here, so that the classifier settles on the coordinates that stay


@dataclasses.dataclass(frozen=True)
class StudentOutput:
    """features_BS, logits_BC (no columns without a classifier), z_BK where the head has coordinates (before the selection),
    the maps that were asked for, and second_BC where there is a second classifier."""

    features_BS: Tensor
    logits_BC: Tensor
    z_BK: Tensor | None
    maps: tuple[Tensor, ...] = ()
    second_BC: Tensor | None = None

    def tensors(self) -> list[Tensor]:
        """The tensors that are there: features, logits, z, second logits, maps. Each has the rows of the batch first."""
        some = [values for values in (self.z_BK, self.second_BC) if values is not None]
        return [self.features_BS, self.logits_BC, *some, *self.maps]

    def with_tensors(self, tensors: Sequence[Tensor]) -> "StudentOutput":
        """The same kind of output with other tensors, in the order of `tensors`."""
        features_BS, logits_BC, *rest = tensors
        z_BK = None if self.z_BK is None else rest.pop(0)
        second_BC = None if self.second_BC is None else rest.pop(0)
        return StudentOutput(features_BS, logits_BC, z_BK, tuple(rest), second_BC)


class Student(nn.Module):
    """A timm backbone, an optional projection S -> K, and a classifier on the features or on the selected coordinates.

    With `reads_coordinates` the classifier reads mask * z (head `tcs`), z = P f + p, which folds into one Linear(S, C);
    otherwise it reads f (head `linear`) and the projection, if any, only serves mimic losses and is dropped at export.
    Without classes (head `none`) there is no classifier, and what is exported is timm's model with num_classes=0. A
    `second_head` reads what the classifier reads; what is exported has the mix of both, by their logits.
    """

    mask_K: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        width: int,
        n_classes: int,
        components: int | None,
        reads_coordinates: bool,
        second_head: bool = False,
    ) -> None:
        super().__init__()
        assert components is not None or not reads_coordinates
        self.backbone, self.width, self.n_classes = backbone, width, n_classes
        self.projection = nn.Linear(width, components) if components is not None else None
        self.reads_coordinates = reads_coordinates
        read = components if reads_coordinates and components else width
        self.classifier = nn.Linear(read, n_classes) if n_classes else None
        self.second = nn.Linear(read, n_classes) if n_classes and second_head else None
        self.register_buffer("mask_K", torch.ones(components or 0))
        self.gates: Gates | None = None
        if self.projection is not None:
            nn.init.zeros_(self.projection.bias)  # a = o in z = V'(A f + a - o): coordinates start centred

    def forward(self, images_B3HW: Tensor, maps: int = 0) -> StudentOutput:
        """Student output of normalised images (B, 3, H, W), with the maps of the last `maps` stages."""
        if maps:
            features_BS, stages = features_and_maps(self.backbone, images_B3HW, maps)
        else:
            features_BS, stages = pre_logits(self.backbone, images_B3HW), ()
        z_BK = self.projection(features_BS) if self.projection is not None else None
        read = features_BS
        if self.reads_coordinates and z_BK is not None:
            read = self.gates(z_BK * self.mask_K) if self.gates is not None else z_BK * self.mask_K
        logits_BC = read.new_zeros(len(read), 0) if self.classifier is None else self.classifier(read)
        second_BC = None if self.second is None else self.second(read)
        return StudentOutput(features_BS, logits_BC, z_BK, stages, second_BC)

    def select(self, active_k: Tensor) -> None:
        """Let the classifier read the coordinates `active_k` (int64) only."""
        self.mask_K.zero_()
        self.mask_K[active_k] = 1.0

    def add_gates(self) -> None:
        """Put a trainable gate on every coordinate that the classifier reads."""
        self.gates = Gates(len(self.mask_K)).to(self.mask_K.device)

    def folded_classifier(self) -> tuple[Tensor, Tensor]:
        """(weight_CS, bias_C) of the one linear map that this head is; computed in float64."""
        assert self.classifier is not None
        weight, bias = self._mixed_classifier()
        if not self.reads_coordinates:
            return weight.float(), bias.float()
        assert self.projection is not None
        masked_CK = weight * self.mask_K.double()
        if self.gates is not None:
            masked_CK = masked_CK * self.gates.factors().double()
        weight_CS = masked_CK @ self.projection.weight.double()
        return weight_CS.float(), (masked_CK @ self.projection.bias.double() + bias).float()

    def _mixed_classifier(self) -> tuple[Tensor, Tensor]:
        """(weight, bias), float64, of the classifier, or of the mix of both of them."""
        assert self.classifier is not None
        weight, bias = self.classifier.weight.double(), self.classifier.bias.double()
        if self.second is None:
            return weight, bias
        return fold_heads(weight, bias, self.second.weight.double(), self.second.bias.double(), FIRST_SHARE)

    @torch.no_grad()
    def folded_state(self) -> dict[str, Tensor]:
        """The state dict of the plain timm model with this head folded into its classifier, if there is one."""
        before = {key: value.clone() for key, value in self.backbone.state_dict().items()}
        if self.classifier is not None:
            write_classifier(self.backbone, *self.folded_classifier())
        folded = {key: value.detach().cpu().contiguous().clone() for key, value in self.backbone.state_dict().items()}
        self.backbone.load_state_dict(before)
        return folded


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudentPlan:
    """What is needed to build a student: classes (0 for no classifier), coordinates (None for none), heads, image size and start:
    random, timm's published weights (`pretrained`), or a file (`checkpoint`)."""

    spec: StudentSpec
    n_classes: int
    components: int | None
    reads_coordinates: bool
    image_size: int
    pretrained: bool
    seed: int
    checkpoint: str | None = None
    second_head: bool = False


def build_student(plan: StudentPlan) -> Student:
    """Build and check a student; its random start is a pure function of (seed, student name). ModelError where it cannot be
    folded, or, without classes, where timm's model without a classifier is not what is trained."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(plan.seed, f"start {plan.spec.text}"))
        backbone = create_backbone(plan.spec, plan.n_classes, plan.pretrained)
        if plan.checkpoint is not None:
            load_start(backbone, plan.checkpoint, plan.spec)
        width = measured_width(backbone, plan.spec, plan.image_size)
        if plan.n_classes:
            check_foldable(backbone, plan.spec, plan.image_size, width)
        else:
            check_headless(backbone, plan.spec, plan.image_size)
        return Student(backbone, width, plan.n_classes, plan.components, plan.reads_coordinates, plan.second_head)


def normalisation(backbone: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The student's own mean and std (timm data config), on a 0..1 scale."""
    config = timm.data.resolve_model_data_config(backbone)
    return tuple(config["mean"]), tuple(config["std"])


class Gates(nn.Module):
    """gate_K (trained), open_K (0 or 1) and importance_K (since the last period began), float32."""

    open_K: Tensor
    importance_K: Tensor

    def __init__(self, components: int) -> None:
        super().__init__()
        self.gate_K = nn.Parameter(torch.ones(components))
        self.register_buffer("open_K", torch.ones(components))
        self.register_buffer("importance_K", torch.zeros(components))

    def forward(self, z_BK: Tensor) -> Tensor:
        """The coordinates as the classifier reads them."""
        return z_BK * self.factors()

    def factors(self) -> Tensor:
        """What each coordinate is multiplied with, (K,)."""
        return self.gate_K * self.open_K

    @torch.no_grad()
    def observe(self) -> None:
        """Add the last backward pass to the importance; nothing where no loss reached the gates."""
        if self.gate_K.grad is not None:
            self.importance_K += (self.gate_K * self.gate_K.grad).abs()

    @torch.no_grad()
    def close_weakest(self, keep: int) -> None:
        """Close open gates until `keep` are left, the least important first (ties: the later coordinate), and begin a period."""
        importance_K = torch.where(self.open_K > 0, self.importance_K, -1.0)
        order_K = torch.argsort(importance_K, descending=True, stable=True)
        self.open_K[order_K[min(keep, int(self.open_K.sum())) :]] = 0.0
        self.importance_K.zero_()


def kept_after(period: int, components: int, keep: int) -> int:
    """How many of `components` gates are open after `period` (1-based) of PERIODS."""
    share: float = (keep / components) ** (period / PERIODS)
    return max(keep, round(components * share))


def period_ending(step: int, start: int, stop: int) -> int | None:
    """The period (1-based) that the `step`-th step of the phase [start, stop) ends; None within a period.

    Where there are fewer steps than periods, all of them end at once.
    """
    span = max(1, int((stop - start) * LAST_SHARE))
    if span < PERIODS:
        return PERIODS if step - start == span else None
    length = span // PERIODS
    period, rest = divmod(step - start, length)
    return period if rest == 0 and 1 <= period <= PERIODS else None
