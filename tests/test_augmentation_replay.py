"""Cached views replayed in batches, against `tcs.augmentation.views.replay` image by image.

On the squashed frame itself only rounding differs (levels by 1 in fewer than 1 of 100, before colours). Against the original image
the squash resamples once more: on soft pictures squashed to 96 px and shown at 32 px, the mean absolute difference stays below
1 level of 255 on average and below 3 for any view.
"""

import numpy as np
import pytest
import torch
from pictures import as_batch, gaps, smooth_picture
from PIL import Image
from torch import Tensor

from tcs.augmentation.replay import replay_views
from tcs.augmentation.views import PARAMETERS, ViewPolicy, replay
from tcs.errors import ConfigError, DataError

SIZES = [(120, 90), (90, 130), (64, 64), (200, 70), (100, 100)]


def policy(**options: float) -> ViewPolicy:
    settings = {"jitter": 0.4, "grayscale": 0.2, "hflip": 0.5} | options
    return ViewPolicy(count=6, scale=(0.2, 1.0), ratio=(0.75, 4 / 3), seed=7, **settings)


def originals() -> list[Image.Image]:
    """Pictures of several forms, each six times: once for every view."""
    return [smooth_picture(*size, seed) for seed, size in enumerate(SIZES) for _ in range(6)]


def squashed(side: int) -> list[Image.Image]:
    return [image.resize((side, side), Image.Resampling.BICUBIC) for image in originals()]


def parameters(**options: float) -> Tensor:
    rows = [policy(**options).draw(f"{seed}.png", size) for seed, size in enumerate(SIZES)]
    return torch.from_numpy(np.concatenate(rows))


def replayed(images: list[Image.Image], parameters_BP: Tensor, interpolation: str = "bicubic") -> Tensor:
    views = zip(images, parameters_BP.numpy(), strict=True)
    return as_batch([replay(image, row, (32, 32), interpolation) for image, row in views])


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_of_the_frame_itself_only_rounding_differs(interpolation: str) -> None:
    frames, views = squashed(96), parameters(jitter=0.0)
    found = replay_views(as_batch(frames), views, 32, interpolation)
    difference = gaps(found, replayed(frames, views, interpolation))
    assert found.dtype == torch.uint8
    assert difference.max() <= 1
    assert (difference > 0).float().mean() < 0.01


def test_of_the_frame_itself_with_colours() -> None:
    frames, views = squashed(96), parameters()
    difference = gaps(replay_views(as_batch(frames), views, 32), replayed(frames, views)).float()
    # A level that rounds apart may move a hue by one step of 255 (6 levels at most), or the mean that contrast turns about.
    assert (difference > 1).float().mean() < 0.002
    assert difference.mean() < 0.01
    assert difference.max() <= 8


def test_of_the_original_the_squash_is_all_that_differs() -> None:
    views = parameters()
    found = replay_views(as_batch(squashed(96)), views, 32)
    difference = gaps(found, replayed(originals(), views)).float().mean((1, 2, 3))
    assert difference.mean() < 1
    assert difference.max() < 3
    others = gaps(found, replayed(originals(), views.roll(1, 0))).float().mean((1, 2, 3))
    assert others.mean() > 20  # another view is another picture


def test_a_view_does_not_depend_on_its_neighbours() -> None:
    frames, views = as_batch(squashed(48)), parameters()
    whole = replay_views(frames, views, 32)
    for row in (0, 7, 29):
        assert torch.equal(replay_views(frames[row : row + 1], views[row : row + 1], 32), whole[row : row + 1])


def test_what_cannot_be_replayed_is_refused() -> None:
    frames = as_batch(squashed(16))
    with pytest.raises(DataError, match=rf"have shape \(30, 4\); it must be \(B, {len(PARAMETERS)}\), one row a view"):
        replay_views(frames, parameters()[:, :4], 8)
    with pytest.raises(DataError, match="square images"):
        replay_views(frames[:, :, 2:], parameters(), 8)
    with pytest.raises(ConfigError, match="--interpolation is 'nearest'; it must be one of bilinear, bicubic"):
        replay_views(frames, parameters(), 8, "nearest")
