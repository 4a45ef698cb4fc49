"""The forward pass: uint8 images in, logits out, by torch.

Legend: N images, B batch, S image side in pixels, C classes.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tcs.augmentation.pixels import network_inputs
from tcs.errors import DivergedError

# Pixels of the images that a CPU scores at once: 64 images of 64 px, never fewer than 16. Against 256 of any size this was 1.2 to 2.5 x as
# fast at 32 to 224 px, with the same logits; a GPU is given 256.
CPU_PIXELS, CPU_IMAGES, IMAGES = 64 * 64 * 64, (16, 64), 256


def scored_at_once(size: int, device: torch.device) -> int:
    """How many images of `size` px a student scores at once: a function of these two alone, so that equal runs give equal bytes."""
    least, most = CPU_IMAGES
    return max(least, min(most, CPU_PIXELS // size**2)) if device.type == "cpu" else IMAGES


class Network(Protocol):
    """What gives the logits of images, wherever it runs."""

    def inputs(self, images_B3SS: Tensor) -> Any:
        """What it is fed for uint8 images on the CPU."""

    def forward(self, inputs_B3SS: Any) -> Any:
        """What it gives for that: logits (B, C), where it runs."""

    def __call__(self, images_B3SS: Tensor) -> NDArray[np.float32]:
        """Logits (B, C) float32 of uint8 images on the CPU."""


class TorchNetwork:
    """A timm model in evaluation mode on `device`, its inputs normalised there, its layout channels last."""

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self.model: nn.Module = model.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.device = device
        self._mean, self._std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (mean, std))

    def inputs(self, images_B3SS: Tensor) -> Tensor:
        """What the model is fed: normalised float32, channels last, on the device."""
        return network_inputs(images_B3SS.to(self.device), self._mean, self._std, channels_last=True)

    @torch.inference_mode()
    def forward(self, inputs_B3SS: Tensor) -> Tensor:
        """Logits (B, C) of what `inputs` made, on the device."""
        logits_BC: Tensor = self.model(inputs_B3SS)
        return logits_BC

    def __call__(self, images_B3SS: Tensor) -> NDArray[np.float32]:
        """Logits (B, C) float32 of uint8 images."""
        return require_finite(self.forward(self.inputs(images_B3SS)).float().cpu().numpy())


def require_finite(logits_BC: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logits; DivergedError where some are NaN or infinite, whose largest is no answer but the first class."""
    broken = int((~np.isfinite(logits_BC)).any(axis=1).sum())
    if broken:
        raise DivergedError(
            f"the student's logits are not finite for {broken} of {len(logits_BC)} images, so it can neither be scored nor used; train "
            "it again with a lower --lr."
        )
    return logits_BC


def logits_of(
    model: nn.Module,
    images_N3SS: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
    batch_size: int,
) -> NDArray[np.float32]:
    """Logits (N, C) float32 of uint8 images, in evaluation mode."""
    network = TorchNetwork(model, mean, std, device)
    return np.concatenate([network(part) for part in torch.split(images_N3SS, batch_size)])
