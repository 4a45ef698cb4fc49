"""Crops, mirrors and normalisation of batches against a loop over images."""

import numpy as np
import pytest
import torch

from tcs.augmentation.draws import draw_crops
from tcs.augmentation.pixels import (
    GROUP_VALUES,
    VERTICAL,
    change_rows,
    flip,
    groups,
    move,
    network_inputs,
    normalise,
    pad_crop,
)


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


def moved_one_by_one(
    batch: torch.Tensor,
    offsets: torch.Tensor | None,
    padding: int,
    hflips: torch.Tensor | None,
    vflips: torch.Tensor | None,
) -> np.ndarray:
    shown = []
    for row, image in enumerate(batch.numpy()):
        top, left = (padding, padding) if offsets is None else offsets[row].tolist()
        window = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))[:, top : top + 8, left : left + 10]
        window = window[:, :, ::-1] if hflips is not None and hflips[row] else window
        shown.append(window[:, ::-1] if vflips is not None and vflips[row] else window)
    return np.stack(shown)


@pytest.mark.parametrize("padding", [0, 3, 13])  # with 13 a window may show nothing of its image
@pytest.mark.parametrize("vertical", [False, True])
@pytest.mark.parametrize("horizontal", [False, True])
def test_moves_equal_a_loop_whatever_the_layout(padding: int, vertical: bool, horizontal: bool) -> None:
    batch, generator = images(40), torch.Generator().manual_seed(2)
    offsets = draw_crops(40, padding, generator)
    hflips = torch.rand(40, generator=generator) < 0.5 if horizontal else None
    vflips = torch.rand(40, generator=generator) < 0.5 if vertical else None
    expected = moved_one_by_one(batch, offsets, padding, hflips, vflips)
    for laid_out in (batch, batch.to(memory_format=torch.channels_last), batch.repeat(1, 2, 1, 1)[:, 3:]):
        found = move(laid_out, offsets, padding, hflips, vflips)
        assert found.is_contiguous() or found is laid_out
        assert np.array_equal(found.numpy(), expected)
    assert torch.equal(batch, images(40))  # as they were


def test_moves_without_offsets_show_whole_images() -> None:
    batch, flips = images(), torch.tensor([True, False, True, False, False, True])
    assert np.array_equal(move(batch, None, 5, flips, None).numpy(), moved_one_by_one(batch, None, 0, flips, None))
    assert move(batch, None, 5, torch.zeros(6, dtype=torch.bool), None) is batch


@pytest.mark.parametrize(("values", "expected"), [(1 << 18, [2, 2, 1]), (1 << 30, [1] * 5), (1, [5])])
def test_groups_cut_a_batch_once_and_in_order(values: int, expected: list[int]) -> None:
    parts = list(groups(5, values, torch.device("cpu")))
    assert [part.stop - part.start for part in parts] == expected
    assert torch.cat([torch.arange(5)[part] for part in parts]).tolist() == list(range(5))


@pytest.mark.parametrize("flags", [[False] * 6, [True] * 6, [False, True, True, False, False, True]])
def test_rows_are_changed_where_flagged(flags: list[bool]) -> None:
    batch = images()
    offsets = torch.arange(6, dtype=torch.uint8)
    changed = change_rows(
        batch, torch.tensor(flags), lambda rows, which: rows + offsets[which][:, None, None, None] + 1
    )
    for row, (image, flagged) in enumerate(zip(batch, flags, strict=True)):
        assert torch.equal(changed[row], image + row + 1 if flagged else image)


@pytest.mark.parametrize("batch", [0, 1, 7])
@pytest.mark.parametrize("channels_last", [False, True])
def test_inputs_of_a_network_are_normalised_images_in_its_layout(
    batch: int, channels_last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(GROUP_VALUES, "cpu", 2 * 3 * 8 * 10)  # groups of two images, and one that is left
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    shown, kept = images(batch), images(batch)
    inputs = network_inputs(shown, mean, std, channels_last=channels_last)
    assert inputs.dtype == torch.float32
    assert torch.equal(inputs, normalise(kept, mean, std))
    assert torch.equal(shown, kept)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert inputs.is_contiguous(memory_format=layout)


def test_normalise_uses_a_scale_from_0_to_1() -> None:
    mean, std = torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1), torch.tensor([0.5, 0.25, 1.0]).view(3, 1, 1)
    white = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    assert normalise(white, mean, std).flatten().tolist() == pytest.approx([1.8, 3.2, 0.7])
