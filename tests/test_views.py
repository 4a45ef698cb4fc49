"""Views: drawn by hashing alone, within their policy, and shown again as they were, at any size. 0.3 s."""

import pathlib
import pickle

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from tcs.augmentation.views import PARAMETERS, ViewPolicy, replay

PLAIN = dict(zip(PARAMETERS, (0, 0, 1, 1, 0, 1, 1, 1, 0, 0), strict=True))


def policy(**options: object) -> ViewPolicy:
    settings = {"scale": (0.2, 1.0), "ratio": (0.75, 4 / 3), "hflip": 0.5, "jitter": 0.4, "grayscale": 0.2, "seed": 7}
    return ViewPolicy(**({"count": 3} | settings | options))


def photo(width: int = 60, height: int = 45, seed: int = 0) -> Image.Image:
    """Smooth colours with a bright square in the upper left."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    image.paste((255, 255, 0), (0, 0, width // 4, height // 4))
    return image


def parameters(**changes: float) -> np.ndarray:
    return np.array([(PLAIN | changes)[name] for name in PARAMETERS], np.float32)


def columns(drawn_VP: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(PARAMETERS, drawn_VP.T.astype(float), strict=True))


def test_parameters_are_a_function_of_seed_key_and_view_alone() -> None:
    drawn_VP = policy().draw("a/1.png", (60, 45))
    assert (drawn_VP.shape, drawn_VP.dtype) == ((3, len(PARAMETERS)), np.float32)
    assert np.array_equal(drawn_VP, pickle.loads(pickle.dumps(policy())).draw("a/1.png", (60, 45)))  # noqa: S301
    assert np.array_equal(policy(count=5).draw("a/1.png", (60, 45))[:3], drawn_VP)
    for other in (policy().draw("a/2.png", (60, 45)), policy(seed=8).draw("a/1.png", (60, 45))):
        assert not np.any(np.all(other == drawn_VP, axis=1))
    assert len(np.unique(drawn_VP, axis=0)) == 3


def test_these_numbers_never_change() -> None:
    """A store's identity promises them: raise SEMANTICS where this must be edited."""
    drawn_VP = policy(count=1).draw("a/1.png", (60, 45))
    expected = [
        0.213720009,
        0.296218812,
        0.502182364,
        0.486520141,
        1,
        0.983881176,
        0.771285057,
        1.38631248,
        0.0692166984,
        1,
    ]
    np.testing.assert_allclose(drawn_VP[0], expected, rtol=1e-6)


def test_what_is_drawn_follows_the_policy() -> None:
    drawn = columns(policy(count=4000, scale=(0.3, 0.6), ratio=(0.5, 1.5), hflip=0.3).draw("k", (90, 60)))
    area = drawn["height"] * drawn["width"]
    ratio = drawn["width"] * 90 / (drawn["height"] * 60)
    assert 0.3 - 1e-6 <= area.min() < 0.31
    assert 0.57 < area.max() <= 0.6 + 1e-6
    assert 0.5 - 1e-6 <= ratio.min() < 0.51
    assert 1.4 < ratio.max() <= 1.5 + 1e-6
    for start, side in (("top", "height"), ("left", "width")):
        assert drawn[start].min() >= 0
        assert (drawn[start] + drawn[side]).max() <= 1 + 1e-6
        centre = (drawn[start] + drawn[side] / 2).mean()
        assert abs(centre - 0.5) < 0.01
    assert abs(drawn["flip"].mean() - 0.3) < 0.03
    assert abs(drawn["grey"].mean() - 0.2) < 0.03
    for name in ("brightness", "contrast", "saturation"):
        assert 0.6 <= drawn[name].min() < 0.61
        assert 1.39 < drawn[name].max() <= 1.4001
    assert -0.1001 <= drawn["hue"].min() < -0.09
    pairs = np.corrcoef(np.stack([drawn[name] for name in ("brightness", "contrast", "saturation", "hue", "flip")]))
    assert np.abs(pairs - np.eye(5)).max() < 0.06


def test_all_can_be_switched_off() -> None:
    off = policy(scale=(1.0, 1.0), ratio=(1.0, 1.0), hflip=0.0, jitter=0.0, grayscale=0.0)
    assert np.array_equal(off.draw("k", (50, 50)), [parameters()] * 3)
    image = photo(50, 50)
    assert np.array_equal(replay(image, off.draw("k", (50, 50))[0], (50, 50)), image)


@pytest.mark.parametrize(("size", "box"), [((90, 30), (0, 0.278, 1, 0.444)), ((30, 90), (0.278, 0, 0.444, 1))])
def test_images_too_long_for_any_box_give_their_middle(size: tuple[int, int], box: tuple[float, ...]) -> None:
    drawn_VP = policy(scale=(0.99, 1.0)).draw("k", size)
    np.testing.assert_allclose(drawn_VP[:, :4], [box] * 3, atol=1e-3)


def test_the_box_is_that_of_a_crop_then_resized() -> None:
    image = photo(64, 48)
    view = replay(image, parameters(top=0.25, left=0.5, height=0.5, width=0.25), (24, 16), "nearest")
    by_hand = image.crop((32, 12, 48, 36)).resize((16, 24), Image.Resampling.NEAREST)
    assert np.array_equal(view, by_hand)
    assert view.size == (16, 24)


def test_changes_come_in_their_order_and_only_where_asked() -> None:
    image = photo()
    size = (45, 60)
    assert np.array_equal(replay(image, parameters(), size), image)
    assert np.array_equal(replay(image, parameters(flip=1), size), ImageOps.mirror(image))
    assert np.array_equal(replay(image, parameters(grey=1), size), image.convert("L").convert("RGB"))
    by_hand = ImageEnhance.Brightness(image).enhance(1.25)
    by_hand = ImageEnhance.Contrast(by_hand).enhance(0.75)
    by_hand = ImageEnhance.Color(by_hand).enhance(1.5)
    changed = replay(image, parameters(brightness=1.25, contrast=0.75, saturation=1.5), size)
    assert np.array_equal(changed, by_hand)


def test_hue_turns_round_the_circle() -> None:
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    green = np.asarray(replay(red, parameters(hue=1 / 3), (4, 4)))[0, 0]
    np.testing.assert_allclose(green, (0, 255, 0), atol=6)
    blue = np.asarray(replay(red, parameters(hue=-1 / 3), (4, 4)))[0, 0]
    np.testing.assert_allclose(blue, (0, 0, 255), atol=6)
    assert np.array_equal(
        replay(photo(), parameters(hue=1), (45, 60)), photo().convert("HSV").convert("RGB")
    )  # once round


def test_another_size_and_a_smaller_copy_show_the_same_part() -> None:
    image = photo(240, 180)
    drawn = policy(jitter=0.0, grayscale=0.0).draw("k", image.size)
    for view in drawn:
        large = replay(image, view, (96, 96)).resize((32, 32), Image.Resampling.BOX)
        small = np.asarray(replay(image, view, (32, 32)), float)
        copy = np.asarray(replay(image.resize((120, 90), Image.Resampling.BICUBIC), view, (32, 32)), float)
        assert np.abs(np.asarray(large, float) - small).mean() < 4
        assert np.abs(copy - small).mean() < 4
    assert np.abs(np.asarray(replay(image, drawn[0], (32, 32)), float) - replay(image, drawn[1], (32, 32))).mean() > 10


def test_boxes_that_rounding_pushes_over_the_edge_are_shown() -> None:
    over = parameters(top=0.3, left=0.70000005, height=0.70000005, width=0.3)
    for width in (33, 500, 4001):
        assert replay(photo(width, 30), over, (8, 8)).size == (8, 8)
    for seed in range(300):
        replay(photo(37, 53), policy(seed=seed, scale=(0.99, 1.0), ratio=(0.69, 0.71)).draw("k", (37, 53))[0], (8, 8))


def test_identity_names_everything_that_is_drawn_from() -> None:
    assert policy().identity() == {
        "count": 3,
        "scale": [0.2, 1.0],
        "ratio": [0.75, 4 / 3],
        "hflip": 0.5,
        "jitter": 0.4,
        "grayscale": 0.2,
        "seed": 7,
        "semantics": 1,
    }


def test_views_need_no_torch() -> None:
    text = (pathlib.Path(__file__).parents[1] / "tcs/augmentation/views.py").read_text()
    assert "import torch" not in text
