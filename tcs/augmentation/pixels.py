"""Whole-pixel moves of uint8 batches, and their normalisation.

Legend: B batch rows, H and W image height and width in pixels.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

HORIZONTAL, VERTICAL = -1, -2  # the axis that a mirror turns round


def pad_crop(images_B3HW: Tensor, offsets_B2: Tensor, padding: int) -> Tensor:
    """Each image padded by `padding` black pixels and cut back to its size at its own offset. uint8 (B, 3, H, W), same device."""
    if padding == 0:
        return images_B3HW
    batch, _, height, width = images_B3HW.shape
    top_B, left_B = offsets_B2.to(images_B3HW.device).unbind(1)
    windows = (
        F.pad(images_B3HW, (padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    )  # a view: (B, 3, tops, lefts, H, W)
    return windows[torch.arange(batch, device=images_B3HW.device), :, top_B, left_B]


def flip(images_B3HW: Tensor, flips_B: Tensor, axis: int = HORIZONTAL) -> Tensor:
    """Mirror the images whose flag (bool, CPU) is set: left to right, or top to bottom with axis VERTICAL."""
    return change_rows(images_B3HW, flips_B, lambda images, _: images.flip(axis))


def change_rows(images_B3HW: Tensor, flags_B: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The batch with the flagged images (bool, CPU) replaced by `change(those images, their positions on the CPU)`."""
    which, batch, device = flags_B.nonzero()[:, 0], len(images_B3HW), images_B3HW.device
    if len(which) == 0:
        return images_B3HW
    if len(which) == batch:
        return change(images_B3HW, which)
    changed = change(images_B3HW.index_select(0, which.to(device)), which)
    source_B = torch.arange(batch).index_put((which,), batch + torch.arange(len(which)))
    # Whole images are copied, byte for byte: on a CPU several times as fast as torch.where or index_copy.
    return torch.cat([images_B3HW, changed]).index_select(0, source_B.to(device))


def normalise(images_B3HW: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """float32 (B, 3, H, W) = (uint8 / 255 - mean) / std; mean and std have shape (3, 1, 1)."""
    return (images_B3HW.float() / 255.0 - mean) / std
