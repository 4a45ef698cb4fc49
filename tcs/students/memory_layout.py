"""The memory layout in which a student trains, and the one convolution that must not be trained in channels_last on a CPU.

oneDNN (3.12, which torch 2.14 ships) writes outside its workspace in the backward pass of a strided 1x1 convolution of a few channels in
channels_last (https://github.com/uxlfoundation/oneDNN/issues/6035): gradients of the weights are wrong, or the process dies. Narrow
ResNets have such shortcuts. In the default layout the same convolution is right, so it alone gets its images in that.
"""

from typing import TypeVar

import torch
from torch import Tensor, nn

SAFE_CHANNELS = 16  # a block of channels of oneDNN on AVX-512, the widest there is; on AVX2 it is 8

Model = TypeVar("Model", bound=nn.Module)


def laid_out(model: Model, device: torch.device, *, channels_last: bool) -> Model:
    """The model on `device`, ready to be trained on images of that layout."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    if device.type == "cpu":
        for module in model.modules():
            if is_unsafe(module):
                _keep_default(module)
    return model


def is_unsafe(module: nn.Module) -> bool:
    """Whether oneDNN's backward pass of it is broken in channels_last."""
    return (
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and max(module.stride) > 1
        and module.groups == 1
        and module.in_channels < SAFE_CHANNELS
    )


def _keep_default(convolution: nn.Module) -> None:
    """Give it weights and images in the default layout: torch takes channels_last where either is of it."""
    weight = convolution.weight
    assert isinstance(weight, nn.Parameter)
    weight.data = weight.detach().clone(memory_format=torch.contiguous_format)
    convolution.register_forward_pre_hook(_in_default_layout)


def _in_default_layout(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    # Not contiguous(): of a single channel both layouts are the same memory, and torch reads the strides
    return (inputs[0].clone(memory_format=torch.contiguous_format),)
