"""Crops, mirrors and normalisation of batches against a loop over images."""

import numpy as np
import pytest
import torch

from tcs.augmentation.draws import draw_crops
from tcs.augmentation.pixels import VERTICAL, change_rows, flip, normalise, pad_crop


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


@pytest.mark.parametrize("axis", [-1, VERTICAL])
def test_flip_mirrors_the_flagged_images_only(axis: int) -> None:
    batch = images()
    flags = torch.tensor([True, False, True, False, False, True])
    for image, flagged, result in zip(batch, flags, flip(batch, flags, axis), strict=True):
        assert np.array_equal(result.numpy(), np.flip(image.numpy(), axis) if flagged else image.numpy())


@pytest.mark.parametrize("flags", [[False] * 6, [True] * 6, [False, True, True, False, False, True]])
def test_rows_are_changed_where_flagged(flags: list[bool]) -> None:
    batch = images()
    offsets = torch.arange(6, dtype=torch.uint8)
    changed = change_rows(
        batch, torch.tensor(flags), lambda rows, which: rows + offsets[which][:, None, None, None] + 1
    )
    for row, (image, flagged) in enumerate(zip(batch, flags, strict=True)):
        assert torch.equal(changed[row], image + row + 1 if flagged else image)


def test_normalise_uses_a_scale_from_0_to_1() -> None:
    mean, std = torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1), torch.tensor([0.5, 0.25, 1.0]).view(3, 1, 1)
    white = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    assert normalise(white, mean, std).flatten().tolist() == pytest.approx([1.8, 3.2, 0.7])
