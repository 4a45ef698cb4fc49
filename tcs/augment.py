"""Augmentation of uint8 batches on the device, one draw per image.

Legend: B batch rows, H and W image height and width in pixels.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def draw_crops(batch: int, padding: int, generator: torch.Generator) -> Tensor:
    """Offsets (B, 2) int64 in 0..2 padding, one (top, left) pair an image."""
    return torch.randint(0, 2 * padding + 1, (batch, 2), generator=generator)


def draw_flips(batch: int, probability: float, generator: torch.Generator) -> Tensor:
    """Bool (B,), true with `probability`."""
    return torch.rand(batch, generator=generator) < probability


def pad_crop(images_B3HW: Tensor, offsets_B2: Tensor, padding: int) -> Tensor:
    """Each image padded by `padding` black pixels and cut back to its size at its own offset. uint8 (B, 3, H, W), same device."""
    if padding == 0:
        return images_B3HW
    batch, _, height, width = images_B3HW.shape
    device = images_B3HW.device
    padded = F.pad(images_B3HW, (padding,) * 4)
    rows_BH = offsets_B2[:, :1].to(device) + torch.arange(height, device=device)
    columns_BW = offsets_B2[:, 1:].to(device) + torch.arange(width, device=device)
    image_B = torch.arange(batch, device=device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[image_B, rows_BH[:, :, None], columns_BW[:, None, :]].permute(0, 3, 1, 2)


def flip(images_B3HW: Tensor, flips_B: Tensor) -> Tensor:
    """Mirror left to right the images whose flag is set."""
    return torch.where(flips_B.to(images_B3HW.device)[:, None, None, None], images_B3HW.flip(-1), images_B3HW)


def augment(images_B3HW: Tensor, padding: int, hflip: float, generator: torch.Generator) -> Tensor:
    """Pad-and-crop, then flip, with one draw per image from `generator` (a CPU generator, so that every device sees the same draws)."""
    batch = len(images_B3HW)
    offsets_B2 = draw_crops(batch, padding, generator)
    flips_B = draw_flips(batch, hflip, generator)
    return flip(pad_crop(images_B3HW, offsets_B2, padding), flips_B)


def normalise(images_B3HW: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """float32 (B, 3, H, W) = (uint8 / 255 - mean) / std; mean and std have shape (3, 1, 1)."""
    return (images_B3HW.float() / 255.0 - mean) / std
