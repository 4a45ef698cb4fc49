"""The two views of an image against loops over pixels, and what their draws may be. Legend: V views, H and W pixels."""

import colorsys

import pytest
import torch

from tcs.grid import view_pairs as module
from tcs.grid.view_pairs import change_colours, crop, draw_views, turn_hue, view_pairs

GREY = (0.299, 0.587, 0.114)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_images(count, side=6, seed=1):
    return torch.randint(0, 256, (count, 3, side, side), generator=generator(seed), dtype=torch.uint8)


def loop_crop(image, box, flip):
    """Bilinear resize of a box, pixel centre by pixel centre; beyond the border the border repeats."""
    side = image.shape[-1]
    top, left, height, width = (float(value) * side for value in box)
    shown = torch.empty_like(image)
    for i in range(side):
        for j in range(side):
            across = side - 1 - j if flip else j
            y = min(max(top + (i + 0.5) * height / side - 0.5, 0), side - 1)
            x = min(max(left + (across + 0.5) * width / side - 0.5, 0), side - 1)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, side - 1), min(x0 + 1, side - 1)
            upper = image[:, y0, x0] * (1 - x + x0) + image[:, y0, x1] * (x - x0)
            lower = image[:, y1, x0] * (1 - x + x0) + image[:, y1, x1] * (x - x0)
            shown[:, i, j] = upper * (1 - y + y0) + lower * (y - y0)
    return shown


def clipped(value):
    return min(max(value, 0.0), 1.0)


def loop_colours(image, factors, hue):
    """Brightness, contrast, saturation, hue, pixel by pixel in plain floats; the hue by the standard library."""
    brightness, contrast, saturation = (float(value) for value in factors)
    pixels = [[clipped(brightness * float(v)) for v in pixel] for pixel in image.flatten(1).T]
    greys = [sum(w * v for w, v in zip(GREY, pixel, strict=True)) for pixel in pixels]
    mean = sum(greys) / len(greys)
    pixels = [[clipped(mean + contrast * (v - mean)) for v in pixel] for pixel in pixels]
    shown = []
    for pixel in pixels:
        grey = sum(w * v for w, v in zip(GREY, pixel, strict=True))
        h, s, v = colorsys.rgb_to_hsv(*(clipped(grey + saturation * (v - grey)) for v in pixel))
        shown.append(colorsys.hsv_to_rgb((h + float(hue)) % 1, s, v))
    return torch.tensor(shown).T.reshape(image.shape)


def test_view_pairs_equal_the_loops_image_by_image():
    images = random_images(5)
    shown = view_pairs(images, 0.5, generator(3))
    draws = draw_views(10, 0.5, generator(3))
    assert shown.shape == (10, 3, 6, 6)
    assert shown.dtype == torch.float32
    for place in range(10):
        view = loop_crop(images[place % 5].float() / 255, draws.boxes_V4[place], draws.flips_V[place])
        view = loop_colours(view, draws.factors_V3[place], draws.hue_V[place])
        if draws.grey_V[place]:
            view = sum(w * channel for w, channel in zip(GREY, view, strict=True)).expand(3, 6, 6)
        assert torch.allclose(shown[place], view, atol=1e-4), place
    assert draws.grey_V.any()
    assert draws.flips_V.any()


def test_the_whole_image_unchanged_is_itself_or_its_mirror():
    images = random_images(2).float() / 255
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(2, 4)
    shown = crop(images, whole, torch.tensor([False, True]))
    assert torch.allclose(shown[0], images[0], atol=1e-5)
    assert torch.allclose(shown[1], images[1].flip(-1), atol=1e-5)
    same = change_colours(images, torch.ones(2, 3), torch.zeros(2))
    assert torch.allclose(same, images, atol=1e-6)


def test_hue_turns_by_thirds_and_leaves_grey_alone():
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    assert turn_hue(red, torch.tensor([1 / 3])).flatten().tolist() == pytest.approx([0, 1, 0], abs=1e-6)
    assert turn_hue(red, torch.tensor([-1 / 3])).flatten().tolist() == pytest.approx([0, 0, 1], abs=1e-6)
    grey = torch.full((1, 3, 2, 2), 0.4)
    assert torch.equal(turn_hue(grey, torch.tensor([0.1])), grey)


def test_draws_stay_inside_what_is_published():
    draws = draw_views(4000, 0.5, generator())
    top, left, height, width = draws.boxes_V4.unbind(1)
    assert ((top >= 0) & (left >= 0) & (top + height <= 1 + 1e-6) & (left + width <= 1 + 1e-6)).all()
    area, ratio = height * width, width / height
    assert 0.08 <= area.min() < 0.1
    assert 0.9 < area.max() <= 1
    assert 0.75 - 1e-5 <= ratio.min() < 0.76
    assert 1.32 < ratio.max() <= 4 / 3 + 1e-5
    assert 0.6 <= draws.factors_V3.min() < 0.61
    assert 1.39 < draws.factors_V3.max() <= 1.4
    assert 0.099 < draws.hue_V.abs().max() <= 0.1
    assert (draws.hue_V != 0).float().mean().item() == pytest.approx(0.8, abs=0.03)
    assert draws.grey_V.float().mean().item() == pytest.approx(0.2, abs=0.03)
    assert draws.flips_V.float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert not draw_views(100, 0.0, generator()).flips_V.any()


def test_a_box_that_never_fits_is_the_whole_image(monkeypatch):
    monkeypatch.setattr(module, "AREA", (2.0, 2.0))
    assert torch.equal(draw_views(3, 0.5, generator()).boxes_V4, torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(3, 4))


def test_the_views_of_an_image_differ_and_depend_on_the_generator_alone():
    images = random_images(4)
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    shown = view_pairs(images, 0.5, generator(1))
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(shown, view_pairs(images, 0.5, generator(1)))
    assert not torch.equal(shown, view_pairs(images, 0.5, generator(2)))
    assert not torch.equal(shown[:4], shown[4:])
