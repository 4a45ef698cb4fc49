"""Batches of small pictures for the tests of augmentation, and the way to Pillow and back. B batch, S side in pixels."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tcs.augmentation.draws import Draws, draw
from tcs.config.augment import AugmentConfig


def noise_pictures(count: int, side: int, seed: int = 0) -> Tensor:
    """uint8 (B, 3, S, S): every level anywhere, the hardest case for rounding."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def smooth_picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Soft blots of colour with a bright square in the upper left."""
    blots = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(blots).resize((width, height), Image.Resampling.BICUBIC)
    picture.paste((255, 255, 0), (0, 0, width // 4, height // 4))
    return picture


def drawn(batch: int, size: int, seed: int = 0, **options: Any) -> Draws:
    """Draws for images of `size` pixels with nothing on but the `options`: padding and flips are else on by default."""
    config = AugmentConfig(**({"hflip": 0.0} | ({} if "scale" in options else {"crop_padding": 0.0}) | options))
    return draw(config, size, batch, torch.Generator().manual_seed(seed))


def as_pil(image_3SS: Tensor) -> Image.Image:
    """The Pillow image of uint8 (3, S, S)."""
    return Image.fromarray(image_3SS.permute(1, 2, 0).numpy())


def as_batch(pictures: list[Image.Image]) -> Tensor:
    """uint8 (B, 3, height, width) of RGB images of one size."""
    return torch.from_numpy(np.stack([np.array(picture) for picture in pictures])).permute(0, 3, 1, 2).contiguous()


def gaps(first: Tensor, second: Tensor) -> Tensor:
    """Absolute differences of levels, int16."""
    return (first.short() - second.short()).abs()
