"""timm models as students: named with their arguments, built, checked before training, and read as features and maps.

Widths and the shapes of maps are measured, not looked up.

Legend: B batch rows, S student width (of the measured pre-logits), C classes. A map is (B, channels, height, width).
"""

import ast
import dataclasses
import re
from collections.abc import Mapping
from typing import Any, TypeGuard

import timm
import torch
from torch import Tensor, nn

from tcs.errors import ConfigError, ModelError, did_you_mean, shown
from tcs.students.bounds import BUILD_ERRORS, Room, TooLargeError, built, require_no_file, sketched
from tcs.students.zoo.cifar import register

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


def is_known(spec: StudentSpec) -> bool:
    """Whether timm has a model of that name, or is told elsewhere (`hf-hub:...`) where it lies."""
    register()
    return timm.is_model(spec.name.partition(".")[0]) or ":" in spec.name


def create_backbone(spec: StudentSpec, n_classes: int, pretrained: bool = False, room: Room | None = None) -> nn.Module:
    """The timm model of `spec` with `n_classes` outputs. ModelError for an unknown name, a folder that is not there, an argument
    that it refuses, or one that makes it larger than there is `room` for (None: than there is memory), found before the memory is taken."""
    require_no_file(spec.kwargs, f"--model '{shown(spec.text, 200)}'", "--student-checkpoint")
    if not is_known(spec):
        near = did_you_mean(spec.name, timm.list_models())
        raise ModelError(f"--model names '{spec.name}', which timm {timm.__version__} does not have.{near}")

    def build(pretrained: bool = False) -> nn.Module:
        model: nn.Module = timm.create_model(spec.name, pretrained=pretrained, num_classes=n_classes, **spec.kwargs)
        return model

    try:
        if ":" not in spec.name:  # else the config of its repository is read, once
            sketched(build, spec.kwargs, room)
        return built(lambda: build(pretrained), spec.kwargs, room)
    except TooLargeError as error:
        raise ModelError(
            f"--model '{shown(spec.text, 200)}' cannot be built: {error}; give it smaller arguments."
        ) from error
    except BUILD_ERRORS as error:
        reason, given = first_line(error), ", or leave --pretrained out" if pretrained else ""
        raise ModelError(f"--model '{spec.text}' cannot be built: {reason}; check its k=v arguments{given}.") from error


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


def measured_maps(
    backbone: nn.Module, spec: StudentSpec, image_size: int, maps: int
) -> tuple[tuple[int, int, int], ...]:
    """(channels, height, width) of the last `maps` stages. ModelError where the model has fewer, or no way to give them."""
    images_B3HW = torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    was_training = backbone.training
    try:
        with torch.no_grad():
            features_BS, stages = features_and_maps(backbone.eval(), images_B3HW, maps)
            same = torch.equal(features_BS, pre_logits(backbone, images_B3HW))
    except (AttributeError, AssertionError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"--model '{spec.text}' cannot give the maps of its last {maps} stages ({first_line(error)}); use a student with "
            f"more stages, a store with fewer map readouts, or a loss that reads no maps."
        ) from error
    finally:
        backbone.train(was_training)
    if not same or len(stages) != maps:
        raise ModelError(f"--model '{spec.text}' gives other features beside its maps; use a loss that reads no maps.")
    shapes = [(int(stage.shape[1]), int(stage.shape[2]), int(stage.shape[3])) for stage in stages]
    return tuple(shapes)
