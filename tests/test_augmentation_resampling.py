"""Batched resampling against Pillow's, image by image.

Tolerance: Pillow's weights are finer (2^-22 against 2^-15), so now and then a value falls on the other side of a rounding:
fewer than 1 level in 100 differs, by 1, or by 2 where both passes rounded apart.
"""

import numpy as np
import pytest
import torch
from pictures import as_batch, as_pil, gaps, noise_pictures, smooth_picture
from PIL import Image
from torch import Tensor

from tcs.augmentation.resampling import STEPS, resample_boxes, source_weights

SHAPES = [(32, 32), (48, 32), (64, 150), (150, 20)]


def random_boxes(count: int, seed: int = 0) -> Tensor:
    """Anywhere in the image, of any form; the first is the whole image, the second ends on the border but for rounding."""
    numbers = np.random.default_rng(seed).random((count, 4)).astype(np.float32)
    numbers[:, 2:] = 0.05 + 0.95 * numbers[:, 2:]
    numbers[:, :2] *= 1 - numbers[:, 2:]
    numbers[0] = (0, 0, 1, 1)
    numbers[1] = (0.3, 0.70000005, 0.70000005, 0.3)
    return torch.from_numpy(numbers)


def resampled_by_pillow(image: Image.Image, box: list[float], size: int, interpolation: str) -> Image.Image:
    top, left, height, width = box
    right, bottom = min(left + width, 1), min(top + height, 1)
    across, down = image.size
    pixels = (left * across, top * down, right * across, bottom * down)
    return image.resize((size, size), Image.Resampling[interpolation.upper()], box=pixels)


def by_pillow(images: Tensor, boxes: Tensor, size: int, interpolation: str) -> Tensor:
    return as_batch(
        [
            resampled_by_pillow(as_pil(image), box, size, interpolation)
            for image, box in zip(images, boxes.double().tolist(), strict=True)
        ]
    )


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("source", "size"), SHAPES)
def test_boxes_equal_pillow_within_rounding(source: int, size: int, interpolation: str) -> None:
    boxes = random_boxes(12)
    smooth = as_batch([smooth_picture(source, source, seed) for seed in range(12)])
    for images in (noise_pictures(12, source), smooth):
        found = resample_boxes(images, boxes, size, interpolation)
        assert (found.dtype, found.shape) == (torch.uint8, (12, 3, size, size))
        difference = gaps(found, by_pillow(images, boxes, size, interpolation))
        assert difference.max() <= 2
        assert (difference > 0).float().mean() < 0.01


def test_oblong_images_are_resampled_as_well() -> None:
    images = as_batch([smooth_picture(50, 30, seed) for seed in range(5)])
    boxes = random_boxes(5)
    difference = gaps(resample_boxes(images, boxes, 24, "bicubic"), by_pillow(images, boxes, 24, "bicubic"))
    assert difference.max() <= 2
    assert (difference > 0).float().mean() < 0.01


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_whole_image_at_its_size_is_itself(interpolation: str) -> None:
    images = noise_pictures(3, 21)
    whole = torch.tensor([0.0, 0, 1, 1]).expand(3, 4)
    assert torch.equal(resample_boxes(images, whole, 21, interpolation), images)


@pytest.mark.parametrize("level", [0, 1, 77, 254, 255])
def test_flat_areas_stay_flat(level: int) -> None:
    images = torch.full((20, 3, 40, 40), level, dtype=torch.uint8)
    for size in (7, 64):
        assert (resample_boxes(images, random_boxes(20), size, "bicubic") == level).all()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("source", "size"), [*SHAPES, (512, 7)])
def test_sums_are_whole_numbers_that_float32_holds(source: int, size: int, interpolation: str) -> None:
    boxes = random_boxes(200, seed=1).double() * source
    start, stop = boxes[:, 0], (boxes[:, 0] + boxes[:, 2]).clamp_max(source)
    places, weights = source_weights(start, stop, source, size, interpolation)
    whole = weights.double() * STEPS
    assert torch.equal(whole, whole.round())
    assert (whole.sum(-1) == STEPS).all()
    assert whole.abs().sum(-1).max() * 255 + STEPS / 2 < 2**24
    assert places.min() >= 0
    assert places.max() < source


def test_sums_do_not_depend_on_the_order_of_rows() -> None:
    images, boxes = noise_pictures(9, 40), random_boxes(9)
    whole = resample_boxes(images, boxes, 33, "bicubic")
    order = torch.tensor([8, 3, 1, 7, 0, 2, 6, 5, 4])
    assert torch.equal(resample_boxes(images[order], boxes[order], 33, "bicubic"), whole[order])
    alone = [resample_boxes(images[row : row + 1], boxes[row : row + 1], 33, "bicubic") for row in range(9)]
    assert torch.equal(torch.cat(alone), whole)
