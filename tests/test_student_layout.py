"""The layout in which a student trains, and strided 1x1 convolutions of a few channels, which oneDNN breaks in channels_last."""

import copy

import pytest
import timm
import torch
from torch import Tensor, nn
from trainers import images, make, one_step

from tcs.students.memory_layout import is_unsafe, laid_out

CPU = torch.device("cpu")
NARROW = {"layers": (1, 1, 1, 1), "channels": (4, 4, 8, 8), "num_classes": 2}  # the crash was found with these


def narrow() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("resnet18", **NARROW).train()  # type: ignore[arg-type]


def unsafe(model: nn.Module) -> dict[str, nn.Conv2d]:
    return {
        name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d) and is_unsafe(module)
    }


def is_last(tensor: Tensor) -> bool:
    return tensor.stride(1) < tensor.stride(3)  # as torch reads it where sides are 1


@pytest.mark.parametrize(
    ("convolution", "broken"),
    [
        (nn.Conv2d(4, 4, 1, 2), True),
        (nn.Conv2d(15, 64, 1, (1, 2)), True),
        (nn.Conv2d(16, 4, 1, 2), False),
        (nn.Conv2d(4, 4, 1, 1), False),
        (nn.Conv2d(4, 4, 3, 2), False),
        (nn.Conv2d(8, 8, 1, 2, groups=2), False),
        (nn.Linear(4, 4), False),
    ],
)
def test_which_convolutions_are_broken(convolution: nn.Module, broken: bool) -> None:
    assert is_unsafe(convolution) is broken


def seen_layouts(model: nn.Module, images_B3SS: Tensor) -> dict[str, tuple[bool, bool]]:
    """Of each unsafe convolution, whether the images that it gets and its weights are in channels_last."""
    found: dict[str, tuple[bool, bool]] = {}
    kept = copy.deepcopy(model)
    for name, module in unsafe(kept).items():

        def look(layer: nn.Module, inputs: tuple[Tensor], _output: Tensor, name: str = name) -> None:
            found[name] = is_last(inputs[0]), is_last(layer.get_parameter("weight"))

        module.register_forward_hook(look)
    kept(images_B3SS)
    return found


@pytest.mark.parametrize("size", [32, 56])
def test_gradients_of_a_narrow_student_are_those_in_double_precision(size: int) -> None:
    """Without the default layout of its shortcuts they were wrong by as much as themselves, or the process died.

    On some processors oneDNN takes another kernel, and the gradients are right without the fix: there only the asserts on strides,
    here and below, guard it.
    """
    images_B3SS = torch.randn(8, 3, size, size, generator=torch.Generator().manual_seed(1))
    model, reference = laid_out(narrow(), CPU, channels_last=True), narrow().double()
    fed_B3SS = images_B3SS.contiguous(memory_format=torch.channels_last)
    assert set(unsafe(model)) == {f"layer{number}.0.downsample.0" for number in (2, 3, 4)}
    assert set(seen_layouts(model, fed_B3SS).values()) == {(False, False)}  # else the heap is broken below
    for _ in range(3):
        model.zero_grad()
        model(fed_B3SS).square().sum().backward()
    reference(images_B3SS.double()).square().sum().backward()
    expected = dict(reference.named_parameters())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        wanted = expected[name].grad
        assert wanted is not None
        assert (parameter.grad.double() - wanted).abs().max() <= 1e-3 * wanted.abs().max() + 1e-6, name


def test_all_other_convolutions_train_in_channels_last() -> None:
    model, plain = (laid_out(narrow(), CPU, channels_last=on) for on in (True, False))
    assert is_last(model.get_parameter("layer2.0.conv1.weight"))
    assert not is_last(plain.get_parameter("layer2.0.conv1.weight"))
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), plain.parameters(), strict=True))


def test_a_trained_student_keeps_its_shortcuts_in_the_default_layout() -> None:
    trainer = make("labels", model_ema=True)
    fed_B3SS = trainer.normalised(images()[:8])
    assert is_last(fed_B3SS)
    one_step(trainer)
    trainer.student.load_state_dict(copy.deepcopy(trainer.student.state_dict()))
    for student in (trainer.student, trainer.final):
        assert set(seen_layouts(student.backbone, fed_B3SS).values()) == {(False, False)}
