"""Students: any timm model whose classifier can be folded, with the head that is trained on top.

Legend: B batch rows, S student width (measured pre-logits), K coordinates, C classes. A map is (B, channels, height, width).
"""

import ast
import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import timm
import torch
from torch import Tensor, nn

from tcs.errors import ConfigError, ModelError, did_you_mean
from tcs.gates import Gates
from tcs.runtime import seed_for
from tcs.students.cifar import register

FOLD_TOLERANCE = 1e-4
WORKING_STUDENTS = "resnet18, mobilenetv3_small_100, vit_tiny_patch16_224"


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudentSpec:
    """A student as named on the command line: timm name and keyword arguments."""

    text: str
    name: str
    kwargs: Mapping[str, Any]

    @property
    def folder(self) -> str:
        """The name of its folder in a run."""
        return re.sub(r"[^A-Za-z0-9_.]+", "-", self.text).strip("-")


def parse_student(text: str) -> StudentSpec:
    """A StudentSpec from ``NAME[,k=v...]``, for example ``resnet18,layers=(1,1,1,1)``. Values are Python literals, else strings."""
    name, *pairs = re.split(r",(?![^(\[{]*[)\]}])", text.strip())
    kwargs = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip().isidentifier():
            raise ConfigError(
                f"--model is '{text}'; '{pair}' is not k=v. Write NAME,k=v,k=v as in resnet18,layers=(1,1,1,1)."
            )
        kwargs[key.strip()] = parse_value(value.strip())
    return StudentSpec(text=text.strip(), name=name.strip(), kwargs=kwargs)


def parse_value(text: str) -> Any:
    """A Python literal where `text` is one, else `text` itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def create_backbone(spec: StudentSpec, n_classes: int, pretrained: bool = False) -> nn.Module:
    """The timm model of `spec` with `n_classes` outputs. ModelError for an unknown name or an argument that it refuses."""
    register()
    if not timm.is_model(spec.name.partition(".")[0]) and ":" not in spec.name:
        near = did_you_mean(spec.name, timm.list_models())
        raise ModelError(f"--model names '{spec.name}', which timm {timm.__version__} does not have.{near}")
    try:
        model: nn.Module = timm.create_model(spec.name, pretrained=pretrained, num_classes=n_classes, **spec.kwargs)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        reason, given = first_line(error), ", or leave --pretrained out" if pretrained else ""
        raise ModelError(f"--model '{spec.text}' cannot be built: {reason}; check its k=v arguments{given}.") from error
    return model


def first_line(error: BaseException) -> str:
    """Kind and first line of an exception that is not ours, for a message of one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def classifiers(backbone: nn.Module) -> tuple[nn.Module, ...]:
    """The backbone's classifier layers: one, or the two whose outputs are averaged."""
    found = backbone.get_classifier()  # type: ignore[operator]
    return tuple(found) if isinstance(found, tuple | list | nn.ModuleList) else (found,)


def write_classifier(backbone: nn.Module, weight_CS: Tensor, bias_C: Tensor) -> None:
    """Write one linear map into the classifier(s) of a timm model. ModelError where the classifier is no single linear map."""
    for layer in classifiers(backbone):
        if not _is_linear(layer) or layer.weight.shape[:2] != weight_CS.shape or layer.bias is None:
            raise ModelError(
                f"its classifier is a {type(layer).__name__}, not one Linear({weight_CS.shape[1]}, {len(bias_C)}) with a bias"
            )
        with torch.no_grad():
            layer.weight.copy_(weight_CS.view(layer.weight.shape))
            layer.bias.copy_(bias_C)


def _is_linear(layer: nn.Module) -> TypeGuard[nn.Linear | nn.Conv2d]:
    is_pointwise = isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1
    return is_pointwise or isinstance(layer, nn.Linear)


def pre_logits(backbone: nn.Module, images_B3HW: Tensor) -> Tensor:
    """The vector (B, S) that the classifier reads: forward_head(forward_features(x), pre_logits=True)."""
    features: Tensor = backbone.forward_head(backbone.forward_features(images_B3HW), pre_logits=True)  # type: ignore[operator]
    return features.flatten(1)


def features_and_maps(backbone: nn.Module, images_B3HW: Tensor, maps: int) -> tuple[Tensor, tuple[Tensor, ...]]:
    """`pre_logits` and the maps of the last `maps` stages (blocks of a ViT), shallow to deep, from one forward pass."""
    final, stages = backbone.forward_intermediates(images_B3HW, indices=maps, norm=False, output_fmt="NCHW")  # type: ignore[operator]
    features: Tensor = backbone.forward_head(final, pre_logits=True)  # type: ignore[operator]
    return features.flatten(1), tuple(stages)


def measured_width(backbone: nn.Module, spec: StudentSpec, image_size: int) -> int:
    """S, measured on a forward pass. Never `num_features`, which is another number for 10 of 53 architectures."""
    was_training = backbone.training
    try:
        with torch.no_grad():
            return pre_logits(backbone.eval(), torch.zeros(2, 3, image_size, image_size)).shape[1]
    except (AttributeError, IndexError, KeyError) as error:  # a part that forward_features looks for is not there
        raise ModelError(
            f"--model '{spec.text}' cannot be run ({first_line(error)}); check its k=v arguments."
        ) from error
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        remedy = f"give the student that size (for a ViT: {spec.name},img_size={image_size}) or use another --img-size"
        raise ModelError(
            f"--model '{spec.text}' cannot take {image_size}-px images ({first_line(error)}); {remedy}."
        ) from error
    finally:
        backbone.train(was_training)


def check_foldable(backbone: nn.Module, spec: StudentSpec, image_size: int, width: int) -> None:
    """Prove before training that a linear map on the pre-logits can be written into this model; ModelError names the reason."""
    generator = torch.Generator().manual_seed(0)
    n_classes = int(backbone.num_classes)  # type: ignore[arg-type]
    weight_CS = torch.randn(n_classes, width, generator=generator) / width**0.5
    bias_C = torch.randn(n_classes, generator=generator)
    images_B3HW = torch.randn(2, 3, image_size, image_size, generator=generator)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    was_training = backbone.training
    try:
        write_classifier(backbone.eval(), weight_CS, bias_C)
        with torch.no_grad():
            expected_BC = pre_logits(backbone, images_B3HW) @ weight_CS.T + bias_C
            error = float((backbone(images_B3HW) - expected_BC).abs().max() / expected_BC.abs().max().clamp_min(1e-6))
    except ModelError as reason:
        raise ModelError(
            f"--model '{spec.text}' cannot be folded: {reason}; use for example {WORKING_STUDENTS}."
        ) from reason
    finally:
        backbone.load_state_dict(before)
        backbone.train(was_training)
    if not error < FOLD_TOLERANCE:
        raise ModelError(
            f"--model '{spec.text}' cannot be folded: its logits differ from a linear map of its pre-logits by {error:.1e} "
            f"(more than {FOLD_TOLERANCE:.0e}); use for example {WORKING_STUDENTS}."
        )


def check_headless(backbone: nn.Module, spec: StudentSpec, image_size: int) -> None:
    """Prove that timm's model without a classifier gives the very features that are trained; ModelError where it does not."""
    images_B3HW = torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected_BS, found = pre_logits(backbone.eval(), images_B3HW), backbone(images_B3HW)
    backbone.train()
    if not isinstance(found, Tensor) or not torch.equal(found, expected_BS):
        raise ModelError(
            f"--model '{spec.text}' cannot go without a classifier: its output with num_classes=0 is not its pre-logits; use "
            f"for example {WORKING_STUDENTS}."
        )


@dataclasses.dataclass(frozen=True)
class StudentOutput:
    """features_BS, logits_BC (no columns without a classifier), z_BK where the head has coordinates (before the selection),
    and the maps that were asked for."""

    features_BS: Tensor
    logits_BC: Tensor
    z_BK: Tensor | None
    maps: tuple[Tensor, ...] = ()

    def tensors(self) -> list[Tensor]:
        """The tensors that are there: features, logits, z where there is one, maps. Each has the rows of the batch first."""
        return [self.features_BS, self.logits_BC, *([] if self.z_BK is None else [self.z_BK]), *self.maps]

    def with_tensors(self, tensors: Sequence[Tensor]) -> "StudentOutput":
        """The same kind of output with other tensors, in the order of `tensors`."""
        features_BS, logits_BC, *rest = tensors
        z_BK = None if self.z_BK is None else rest.pop(0)
        return StudentOutput(features_BS, logits_BC, z_BK, tuple(rest))


class Student(nn.Module):
    """A timm backbone, an optional projection S -> K, and a classifier on the features or on the selected coordinates.

    With `reads_coordinates` the classifier reads mask * z (head `tcs`), z = P f + p, which folds into one Linear(S, C);
    otherwise it reads f (head `linear`) and the projection, if any, only serves mimic losses and is dropped at export.
    Without classes (head `none`) there is no classifier, and what is exported is timm's model with num_classes=0.
    """

    mask_K: Tensor

    def __init__(
        self, backbone: nn.Module, width: int, n_classes: int, components: int | None, reads_coordinates: bool
    ) -> None:
        super().__init__()
        assert components is not None or not reads_coordinates
        self.backbone, self.width, self.n_classes = backbone, width, n_classes
        self.projection = nn.Linear(width, components) if components is not None else None
        self.reads_coordinates = reads_coordinates
        read = components if reads_coordinates and components else width
        self.classifier = nn.Linear(read, n_classes) if n_classes else None
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
        return StudentOutput(features_BS, logits_BC, z_BK, stages)

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
        weight, bias = self.classifier.weight.double(), self.classifier.bias.double()
        if not self.reads_coordinates:
            return weight.float(), bias.float()
        assert self.projection is not None
        masked_CK = weight * self.mask_K.double()
        if self.gates is not None:
            masked_CK = masked_CK * self.gates.factors().double()
        weight_CS = masked_CK @ self.projection.weight.double()
        return weight_CS.float(), (masked_CK @ self.projection.bias.double() + bias).float()

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
    """What is needed to build a student: classes (0 for no classifier), coordinates (None for none), head, image size and start."""

    spec: StudentSpec
    n_classes: int
    components: int | None
    reads_coordinates: bool
    image_size: int
    pretrained: bool
    seed: int


def build_student(plan: StudentPlan) -> Student:
    """Build and check a student; its random start is a pure function of (seed, student name). ModelError where it cannot be
    folded, or, without classes, where timm's model without a classifier is not what is trained."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(plan.seed, f"start {plan.spec.text}"))
        backbone = create_backbone(plan.spec, plan.n_classes, plan.pretrained)
        width = measured_width(backbone, plan.spec, plan.image_size)
        if plan.n_classes:
            check_foldable(backbone, plan.spec, plan.image_size, width)
        else:
            check_headless(backbone, plan.spec, plan.image_size)
        return Student(backbone, width, plan.n_classes, plan.components, plan.reads_coordinates)


def normalisation(backbone: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The student's own mean and std (timm data config), on a 0..1 scale."""
    config = timm.data.resolve_model_data_config(backbone)
    return tuple(config["mean"]), tuple(config["std"])
