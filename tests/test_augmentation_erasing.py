"""Random erasing against a loop over images and rectangles; its noise is even and without pattern."""

from typing import Any

import numpy as np
import pictures
import pytest
import torch
from pictures import noise_pictures

from tcs.augmentation.draws import Draws
from tcs.augmentation.erasing import MEAN_COLOUR, erase, noise


def drawn(batch: int, **options: Any) -> Draws:
    return pictures.drawn(batch, 16, **({"reprob": 0.7, "recount": 3} | options))


def erased_by_hand(images: np.ndarray, draws: Draws, side: int) -> np.ndarray:
    """Rectangle after rectangle; noise by the formula, in Python's whole numbers."""
    assert draws.holes_BR4 is not None
    images = images.copy()
    for row, holes in enumerate(draws.holes_BR4.double().tolist()):
        for number, (high, wide, down, across) in enumerate(holes):
            height, width = min(round(high * side), side), min(round(wide * side), side)
            top, left = int(down * (side - height + 1)), int(across * (side - width + 1))
            for channel, y, x in np.ndindex(3, height, width):
                spot = (channel, top + y, left + x)
                images[(row, *spot)] = paint_by_hand(draws, row, number, spot, side)
    return images


def paint_by_hand(draws: Draws, row: int, number: int, spot: tuple[int, ...], side: int) -> int:
    if draws.paint_BR3 is None and draws.noise_B is None:
        return (124, 116, 104)[spot[0]]
    if draws.paint_BR3 is not None:
        return int(draws.paint_BR3[row, number, spot[0]])
    assert draws.noise_B is not None
    value = (int(draws.noise_B[row]) ^ (int(np.ravel_multi_index(spot, (3, side, side))) * 0x1E3779B1)) % 2**31
    for odd in (0x45D9F3B3, 0x2C1B3C6D):
        value = (value ^ value >> 15) * odd % 2**31
    return value >> 19 & 255


@pytest.mark.parametrize("remode", ["const", "rand", "pixel"])
def test_rectangles_equal_a_loop(remode: str) -> None:
    images, draws = noise_pictures(10, 17), drawn(10, remode=remode)
    assert np.array_equal(erase(images, draws).numpy(), erased_by_hand(images.numpy(), draws, 17))


def test_images_without_a_rectangle_stay_as_they_are() -> None:
    images, draws = noise_pictures(40, 16), drawn(40, reprob=0.5, recount=1)
    assert draws.holes_BR4 is not None
    whole = draws.holes_BR4[:, 0, 0] == 0
    assert 0 < whole.sum() < 40
    same = (erase(images, draws) == images).flatten(1).all(1)
    assert torch.equal(same, whole)


def test_the_erased_share_is_what_the_paper_draws() -> None:
    images = torch.zeros(2000, 3, 32, 32, dtype=torch.uint8)
    share = (erase(images, drawn(2000, reprob=1.0, recount=1))[:, 0] == MEAN_COLOUR[0]).float().mean((1, 2))
    assert share.mean() == pytest.approx((0.02 + 1 / 3) / 2, abs=0.01)
    assert share.min() > 0.01
    assert share.max() < 0.36


def test_noise_is_even_and_without_pattern() -> None:
    seeds = torch.tensor([0, 1, 2, 12345, 2**31 - 1])
    pixels = noise(seeds, 96)
    counts = torch.stack([torch.bincount(image.flatten().int(), minlength=256) for image in pixels]).double()
    mean = 3 * 96 * 96 / 256
    assert ((counts - mean).square() / mean).sum(1).max() < 330  # chi-squared, 255 degrees of freedom: p of about 0.001
    flat = pixels.double().flatten(1)
    assert (flat.corrcoef() - torch.eye(5)).abs().max() < 0.03
    for lag in (1, 96, 96 * 96):
        assert torch.stack([torch.stack([row[:-lag], row[lag:]]).corrcoef()[0, 1] for row in flat]).abs().max() < 0.03
