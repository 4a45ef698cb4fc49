"""Draws: a function of options, batch and generator; within what is asked for; a row's draws stay its own. 0.3 s."""

import dataclasses
import math
from typing import Any

import pictures
import pytest
import torch

from tcs.augmentation.draws import Draws, draw_crops, draw_flips

ALL = {
    "scale": (0.2, 0.9),
    "ratio": (0.5, 1.5),
    "hflip": 0.5,
    "vflip": 0.3,
    "color_jitter": 0.4,
    "color_jitter_prob": 0.8,
    "grayscale_prob": 0.2,
    "reprob": 0.6,
    "remode": "rand",
    "recount": 3,
}


def drawn(batch: int = 4000, seed: int = 0, **options: Any) -> Draws:
    return pictures.drawn(batch, 16, seed, **options)


def tensors(draws: Draws) -> dict[str, torch.Tensor]:
    values = {field.name: getattr(draws, field.name) for field in dataclasses.fields(draws)}
    return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}


def same(first: Draws, second: Draws) -> bool:
    found, expected = tensors(first), tensors(second)
    return (first.count, found.keys()) == (second.count, expected.keys()) and all(
        torch.equal(found[name], expected[name]) for name in found
    )


def test_draws_are_a_function_of_their_generator() -> None:
    first = drawn(64, **ALL)
    assert same(first, drawn(64, **ALL))
    other = tensors(drawn(64, seed=1, **ALL))
    assert not any(torch.equal(value, other[name]) for name, value in tensors(first).items())


def test_what_is_off_draws_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    assert set(tensors(drawn(8))) == {"offsets_B2"}  # which are 0, and drawn all the same: a padding of 0 is one too
    assert not drawn(8).offsets_B2.any()
    draw_crops(4000, 0, generator)
    assert torch.equal(drawn(hflip=0.5).hflips_B, torch.rand(4000, generator=generator) < 0.5)
    names = {"vflip": "vflips_B", "grayscale_prob": "greys_B", "reprob": "holes_BR4", "color_jitter": "colours_B4"}
    for option, name in names.items():
        assert set(tensors(drawn(8, **{option: 0.5}))) == {"offsets_B2", name}


def test_offsets_and_flips_cover_their_range() -> None:
    generator = torch.Generator().manual_seed(2)
    offsets = draw_crops(4000, 2, generator)
    assert sorted(set(offsets.flatten().tolist())) == [0, 1, 2, 3, 4]
    assert draw_flips(4000, 0.5, generator).float().mean() == pytest.approx(0.5, abs=0.05)
    assert not draw_flips(100, 0.0, generator).any()


def test_boxes_follow_scale_and_ratio() -> None:
    boxes = drawn(scale=(0.3, 0.6), ratio=(0.5, 1.5)).boxes_B4
    assert boxes is not None
    assert boxes.dtype == torch.float32
    top, left, height, width = boxes.double().unbind(1)
    area, ratio = height * width, width / height
    assert 0.3 - 1e-6 <= area.min() < 0.301
    assert 0.599 < area.max() <= 0.6 + 1e-6
    assert area.mean() == pytest.approx(0.45, abs=0.005)
    assert 0.5 - 1e-6 <= ratio.min() < 0.51
    assert 1.49 < ratio.max() <= 1.5 + 1e-6
    assert ratio.log().mean() == pytest.approx(math.log(0.5 * 1.5) / 2, abs=0.02)
    assert min(top.min(), left.min()) >= 0
    assert max((top + height).max(), (left + width).max()) <= 1 + 1e-6
    assert (top / (1 - height)).mean() == pytest.approx(0.5, abs=0.02)
    assert (left / (1 - width)).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("ratio", "box"),
    [((2.0, 3.0), [0.25, 0, 0.5, 1]), ((0.2, 0.5), [0, 0.25, 1, 0.5]), ((1.0, 1.0), [0.0, 0, 1, 1])],
)
def test_no_fitting_box_gives_the_largest_centre_box(ratio: tuple[float, float], box: list[float]) -> None:
    boxes = drawn(50, scale=(1.0, 1.0), ratio=ratio).boxes_B4
    assert boxes is not None
    assert torch.allclose(boxes, torch.tensor(box).expand(50, 4))


def test_colours_follow_strength_and_share() -> None:
    colours = drawn(color_jitter=0.4, color_jitter_prob=0.75).colours_B4
    assert colours is not None
    jittered = (colours != torch.tensor([1.0, 1, 1, 0])).any(1)
    assert jittered.float().mean() == pytest.approx(0.75, abs=0.03)
    changes = colours[jittered] - torch.tensor([1.0, 1, 1, 0])
    reach = torch.tensor([0.4, 0.4, 0.4, 0.1])
    assert (changes.abs() <= reach + 1e-6).all()
    assert torch.allclose(changes.amax(0), reach, atol=2e-3, rtol=0)
    assert torch.allclose(changes.amin(0), -reach, atol=2e-3, rtol=0)
    assert (changes.T.corrcoef() - torch.eye(4)).abs().max() < 0.06


def test_rectangles_share_the_erased_area() -> None:
    holes = drawn(reprob=0.6, recount=3).holes_BR4
    assert holes is not None
    counts = (holes[..., 0] > 0).sum(1)
    assert (counts > 0).float().mean() == pytest.approx(0.6, abs=0.03)
    for count in (1, 2, 3):
        chosen = holes[counts == count][:, :count].double()
        assert len(chosen) / 4000 == pytest.approx(0.2, abs=0.03)
        area = chosen[..., 0] * chosen[..., 1] * count
        assert area.min() >= 0.02 - 1e-6
        assert area.max() <= 1 / 3 + 1e-6
        ratio = chosen[..., 1] / chosen[..., 0]
        assert ratio.min() >= 0.3 - 1e-6
        assert ratio.max() <= 1 / 0.3 + 1e-5
    assert (holes[counts == 0] == 0).all()
    assert (holes[counts == 1][:, 1:] == 0).all()


@pytest.mark.parametrize("index", [slice(2, 7), torch.tensor([5, 0, 5]), torch.arange(16) % 3 == 0])
def test_a_row_keeps_its_draws(index: slice | torch.Tensor) -> None:
    whole = drawn(16, **ALL)
    some = whole.rows(index)
    positions = torch.arange(16)[index]
    assert some.count == len(positions)
    for name, value in tensors(some).items():
        assert torch.equal(value, torch.stack([tensors(whole)[name][row] for row in positions.tolist()]))


def test_one_image_has_draws_of_its_own() -> None:
    draws = drawn(1, **(ALL | {"remode": "pixel"}))
    assert {name: len(value) for name, value in tensors(draws).items()} == dict.fromkeys(tensors(draws), 1)
    assert len(tensors(draws)) == 7
