"""Batched augmentation against a loop over images."""

import numpy as np
import pytest
import torch

from tcs.augment import augment, draw_crops, draw_flips, flip, normalise, pad_crop


def images(batch: int = 6, height: int = 8, width: int = 10) -> torch.Tensor:
    return torch.randint(
        0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


@pytest.mark.parametrize("padding", [1, 3])
def test_pad_crop_equals_a_loop(padding: int) -> None:
    batch = images()
    offsets = draw_crops(len(batch), padding, torch.Generator().manual_seed(1))
    cropped = pad_crop(batch, offsets, padding).numpy()
    for image, (top, left), result in zip(batch.numpy(), offsets.numpy(), cropped, strict=True):
        padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
        assert np.array_equal(result, padded[:, top : top + 8, left : left + 10])


def test_flip_mirrors_the_flagged_images_only() -> None:
    batch = images()
    flags = torch.tensor([True, False, True, False, False, True])
    for image, flagged, result in zip(batch, flags, flip(batch, flags), strict=True):
        assert torch.equal(result, torch.flip(image, (-1,)) if flagged else image)


def test_draws_cover_their_range_and_differ_between_images() -> None:
    generator = torch.Generator().manual_seed(2)
    offsets = draw_crops(4000, 2, generator)
    assert sorted(set(offsets.flatten().tolist())) == [0, 1, 2, 3, 4]
    assert draw_flips(4000, 0.5, generator).float().mean() == pytest.approx(0.5, abs=0.05)
    assert not draw_flips(100, 0.0, generator).any()


def test_augment_is_a_function_of_its_generator() -> None:
    first, again, other = (augment(images(), 2, 0.5, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_normalise_uses_a_scale_from_0_to_1() -> None:
    mean, std = torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1), torch.tensor([0.5, 0.25, 1.0]).view(3, 1, 1)
    white = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    assert normalise(white, mean, std).flatten().tolist() == pytest.approx([1.8, 3.2, 0.7])
