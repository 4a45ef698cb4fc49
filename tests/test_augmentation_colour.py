"""Batched colours against Pillow's ImageEnhance and HSV, image by image.

Tolerance: on x86 all but the way back from HSV (20 of 2^24 colours off by one) are equal; where a compiler has contracted
Pillow's multiplications and additions, a level may be off by one now and then, and a hue by one step.
"""

import itertools

import numpy as np
import pytest
import torch
from pictures import as_batch, as_pil, gaps, noise_pictures, smooth_picture
from PIL import Image, ImageEnhance
from torch import Tensor

from tcs.augmentation.colour import change_colours, make_grey

NEUTRAL = (1.0, 1.0, 1.0, 0.0)


def pictures(count: int, side: int = 24) -> Tensor:
    """Noise, soft blots, all greys, and black."""
    ramp = torch.arange(side * side).reshape(side, side).remainder(256).to(torch.uint8).expand(1, 3, side, side)
    black = torch.zeros(1, 3, side, side, dtype=torch.uint8)
    smooth = as_batch([smooth_picture(side, side, seed) for seed in range(count // 2)])
    return torch.cat([noise_pictures(count - count // 2 - 2, side), smooth, ramp, black])


def by_pillow(image: Image.Image, brightness: float, contrast: float, saturation: float, hue: float) -> Image.Image:
    image = ImageEnhance.Brightness(image).enhance(brightness)
    image = ImageEnhance.Contrast(image).enhance(contrast)
    image = ImageEnhance.Color(image).enhance(saturation)
    if hue == 0:
        return image
    hues, saturations, values = image.convert("HSV").split()
    turned = (np.asarray(hues).astype(int) + round(hue * 256)) % 256
    return Image.merge("HSV", (Image.fromarray(turned.astype(np.uint8)), saturations, values)).convert("RGB")


def expected(images: Tensor, colours: Tensor) -> Tensor:
    changed = [by_pillow(as_pil(image), *row) for image, row in zip(images, colours.double().tolist(), strict=True)]
    return as_batch(changed)


@pytest.mark.parametrize("column", range(4))
def test_one_change_equals_pillow(column: int) -> None:
    images = pictures(16)
    colours = torch.tensor(NEUTRAL).repeat(16, 1)
    values = torch.linspace(-0.5, 0.5, 16) if column == 3 else torch.linspace(0, 2, 16)
    colours[:, column] = values[torch.randperm(16, generator=torch.Generator().manual_seed(0))]
    difference = gaps(change_colours(images, colours), expected(images, colours))
    assert difference.max() <= 1
    assert (difference > 0).float().mean() < 1e-3


def test_all_changes_together_come_in_pillows_order() -> None:
    images = pictures(32)
    numbers = np.random.default_rng(0).uniform(-1, 1, (32, 4)).astype(np.float32)
    colours = torch.from_numpy(np.float32(NEUTRAL) + numbers * np.float32((0.6, 0.6, 0.6, 0.15)))
    difference = gaps(change_colours(images, colours), expected(images, colours)).float()
    assert (difference > 0).float().mean() < 1e-3
    assert difference.mean() < 0.01
    backwards = gaps(change_colours(images, colours[:, [1, 0, 2, 3]]), expected(images, colours)).float()
    assert backwards.mean() > 1  # the comparison sees the order


def test_hues_of_all_kinds_of_colours_equal_pillow() -> None:
    steps = torch.arange(0, 256, 5, dtype=torch.uint8)
    colours = torch.cartesian_prod(steps, steps, steps)  # 140,608 of them
    images = colours.T.reshape(1, 3, 416, 338)
    for turn in (1.0, 0.1, -0.25):  # once round is there and back
        difference = gaps(change_colours(images, torch.tensor([[1, 1, 1, turn]])), expected_one(images, turn))
        assert difference.max() <= 1
        assert (difference > 0).sum() <= 3


def expected_one(images: Tensor, turn: float) -> Tensor:
    return as_batch([by_pillow(as_pil(images[0]), 1, 1, 1, float(np.float32(turn)))])


def test_neutral_numbers_change_nothing() -> None:
    images = noise_pictures(4, 9)
    assert torch.equal(change_colours(images, torch.tensor(NEUTRAL).repeat(4, 1)), images)


def test_a_neutral_image_among_others_stays_as_it_is() -> None:
    images = noise_pictures(4, 9)
    colours = torch.tensor([NEUTRAL, (1.5, 1, 1, 0), NEUTRAL, (1, 1, 1, 0.2)])
    changed = change_colours(images, colours)
    for row, is_same in enumerate((True, False, True, False)):
        assert torch.equal(changed[row], images[row]) == is_same
        assert torch.equal(changed[row], change_colours(images[row : row + 1], colours[row : row + 1])[0])


@pytest.mark.parametrize("flags", list(itertools.product([False, True], repeat=3)))
def test_grey_equals_pillow(flags: tuple[bool, ...]) -> None:
    images = noise_pictures(3, 31)
    greyed = make_grey(images, torch.tensor(flags))
    for image, is_grey, found in zip(images, flags, greyed, strict=True):
        luma = as_batch([as_pil(image).convert("L").convert("RGB")])[0]
        assert torch.equal(found, luma if is_grey else image)
