"""Augmentation of batches: an image is changed by its own draws alone, however the batch is cut, and old runs stay what they were."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from pictures import as_batch, as_pil, drawn, gaps, noise_pictures
from PIL import Image, ImageEnhance
from torch import Tensor

from tcs.augmentation import pixels
from tcs.augmentation.apply import apply, augment
from tcs.augmentation.draws import Draws
from tcs.errors import DataError

EVERYTHING = {
    "hflip": 0.5,
    "vflip": 0.5,
    "color_jitter": 0.4,
    "color_jitter_prob": 0.7,
    "grayscale_prob": 0.3,
    "reprob": 0.5,
    "recount": 2,
}
POLICIES = [
    {"crop_padding": 0.15, "hflip": 0.5},
    {"crop_padding": 0.15, "remode": "pixel"} | EVERYTHING,
    {"scale": (0.08, 1.0), "remode": "rand"} | EVERYTHING,
    {"train_interpolation": "bilinear", "scale": (0.4, 0.6)},
    EVERYTHING,
]


def crops_and_flips_of_0_1(images: Tensor, padding: int, hflip: float, generator: torch.Generator) -> Tensor:
    """What version 0.1 did, for a run to give the same numbers still."""
    batch, _, height, width = images.shape
    offsets = torch.randint(0, 2 * padding + 1, (batch, 2), generator=generator)
    flips = torch.rand(batch, generator=generator) < hflip
    padded = F.pad(images, (padding,) * 4)
    shown = [
        image[:, top : top + height, left : left + width]
        for image, (top, left) in zip(padded, offsets.tolist(), strict=True)
    ]
    return torch.stack([image.flip(-1) if flipped else image for image, flipped in zip(shown, flips, strict=True)])


@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("hflip", [0.0, 0.5, 1.0])
def test_crops_and_flips_are_those_of_version_0_1(padding: int, hflip: float) -> None:
    images = noise_pictures(37, 12)
    expected = crops_and_flips_of_0_1(images, padding, hflip, torch.Generator().manual_seed(5))
    assert torch.equal(augment(images, padding, hflip, torch.Generator().manual_seed(5)), expected)
    draws = drawn(37, 12, seed=5, crop_padding=padding / 12, hflip=hflip)
    assert draws.padding == padding
    assert torch.equal(apply(images, draws, 12), expected)


def test_nothing_asked_for_changes_nothing() -> None:
    images = noise_pictures(3, 9)
    for draws in (Draws(count=3), drawn(3, 9)):
        assert torch.equal(apply(images, draws, 9), images)
    assert apply(images[:0], Draws(count=0), 5).shape == (0, 3, 5, 5)


@pytest.mark.parametrize("options", POLICIES)
def test_an_image_does_not_see_the_others(options: dict[str, Any]) -> None:
    images, draws = noise_pictures(11, 24), drawn(11, 20, **options)
    whole = apply(images, draws, 20)
    assert (whole.dtype, whole.shape) == (torch.uint8, (11, 3, 20, 20))
    for row in range(11):
        part = slice(row, row + 1)
        assert torch.equal(apply(images[part], draws.rows(part), 20), whole[part])
        others = noise_pictures(11, 24, seed=1)
        others[row] = images[row]
        assert torch.equal(apply(others, draws, 20)[row], whole[row])
    order = torch.tensor([4, 10, 0, 4])
    assert torch.equal(apply(images[order], draws.rows(order), 20), whole[order])


@pytest.mark.parametrize("options", POLICIES)
def test_the_cut_into_groups_changes_nothing(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    images, draws = noise_pictures(11, 24), drawn(11, 20, **options)
    whole = apply(images, draws, 20)
    for most in (1, 3 * 24 * 24 * 4):  # groups of 1, and of 4, 4 and 3
        monkeypatch.setitem(pixels.GROUP_VALUES, "cpu", most)
        assert torch.equal(apply(images, draws, 20), whole)


@pytest.mark.parametrize("options", POLICIES)
def test_images_are_left_as_they_were(options: dict[str, Any]) -> None:
    images = noise_pictures(11, 24)
    first = apply(images, drawn(11, 24, **options), 24)
    assert torch.equal(images, noise_pictures(11, 24))
    assert torch.equal(apply(images, drawn(11, 24, **options), 24), first)
    assert not torch.equal(apply(images, drawn(11, 24, seed=1, **options), 24), first)


def test_everything_equals_pillow_one_image_after_another() -> None:
    options = {"scale": (0.08, 1.0)} | EVERYTHING | {"reprob": 0.0, "recount": 1}
    images, draws = noise_pictures(40, 40), drawn(40, 32, **options)
    found = apply(images, draws, 32)
    expected = as_batch([shown_by_pillow(as_pil(image), draws, row) for row, image in enumerate(images)])
    # A level that resampling rounds apart may move a hue or a mean: little, and seldom.
    difference = gaps(found, expected).float()
    assert (difference > 1).float().mean() < 0.002
    assert difference.mean() < 0.02


def shown_by_pillow(image: Image.Image, draws: Draws, row: int) -> Image.Image:
    assert draws.boxes_B4 is not None
    assert draws.colours_B4 is not None
    top, left, height, width = (40 * draws.boxes_B4[row].double()).tolist()
    image = image.resize((32, 32), Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
    for flags, turn in ((draws.hflips_B, "FLIP_LEFT_RIGHT"), (draws.vflips_B, "FLIP_TOP_BOTTOM")):
        assert flags is not None
        image = image.transpose(Image.Transpose[turn]) if flags[row] else image
    *factors, hue = draws.colours_B4[row].double().tolist()
    for change, factor in zip(
        (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), factors, strict=True
    ):
        image = change(image).enhance(factor)
    if hue:
        hues, saturations, values = image.convert("HSV").split()
        turned = (np.asarray(hues).astype(int) + round(hue * 256)) % 256
        image = Image.merge("HSV", (Image.fromarray(turned.astype(np.uint8)), saturations, values)).convert("RGB")
    assert draws.greys_B is not None
    return image.convert("L").convert("RGB") if draws.greys_B[row] else image


@pytest.mark.parametrize("draws", [Draws(count=4), drawn(4, 16)])
def test_without_a_box_an_image_of_another_size_is_shown_whole(draws: Draws) -> None:
    images = noise_pictures(4, 30)
    found = apply(images, draws, 16)
    expected = as_batch([as_pil(image).resize((16, 16), Image.Resampling.BICUBIC) for image in images])
    assert gaps(found, expected).max() <= 1


@pytest.mark.parametrize(
    ("shape", "dtype"), [((2, 3, 8, 9), torch.uint8), ((2, 1, 8, 8), torch.uint8), ((2, 3, 8, 8), torch.float32)]
)
def test_what_is_no_batch_of_squares_is_refused(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    with pytest.raises(DataError, match=r"it must be uint8 of shape \(B, 3, S, S\), square images: resize or crop"):
        apply(torch.zeros(shape, dtype=dtype), Draws(count=2), 8)


def test_draws_for_another_number_of_images_are_refused() -> None:
    with pytest.raises(DataError, match="has 2 images and 3 draws; draw for as many, or take rows"):
        apply(noise_pictures(2, 8), Draws(count=3), 8)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("options", POLICIES)
def test_gpu_gives_the_same_levels(options: dict[str, Any]) -> None:
    images, draws = noise_pictures(64, 48), drawn(64, 40, **options)
    assert torch.equal(apply(images.cuda(), draws, 40).cpu(), apply(images, draws, 40))
