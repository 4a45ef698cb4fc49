"""SimCLR's parts: views image by image, the order of batches, networks from a seed. The loss: test_functional_contrast.py."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from tcs.config import pretrain
from tcs.config.pretrain import SimclrConfig
from tcs.errors import ConfigError, ModelError
from tcs.functional.contrast import PROJECTION_DIMS
from tcs.images.folder import list_images
from tcs.pretraining.simclr import (
    VIEWS,
    BatchOrder,
    ViewPairs,
    build_encoder,
    build_projector,
    collate,
    encoder_dims,
    seeded,
)

TINY = {"layers": (1, 1, 1, 1), "channels": (4, 4, 8, 8)}


def write_images(folder, count=4, size=20):
    generator = np.random.default_rng(0)
    for number in range(count):
        pixels = generator.integers(0, 256, (size, size, 3), dtype=np.uint8)
        path = folder / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return list_images(folder)


@pytest.mark.parametrize("views", sorted(VIEWS))
def test_views_are_a_function_of_row_and_seed_alone(tmp_path, views):
    pairs = ViewPairs(write_images(tmp_path), VIEWS[views](16))
    torch.manual_seed(1)
    first = pairs[(2, 77)]
    torch.manual_seed(2)
    assert torch.equal(first, pairs[(2, 77)])
    assert first.shape == (2, 3, 16, 16)
    assert first.dtype == torch.uint8
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, pairs[(2, 78)])


def test_views_differ_between_equal_images(tmp_path):
    for name in ("a.png", "b.png"):
        Image.fromarray(np.tile(np.arange(20, dtype=np.uint8) * 12, (20, 1))).save(tmp_path / name)
    batch_seeds = next(iter(BatchOrder(2, 2, 1, 0)))
    pairs = ViewPairs(list_images(tmp_path), VIEWS["glyphs"](16))
    batch = torch.stack([pairs[item] for item in batch_seeds])
    assert not torch.equal(batch[0], batch[1])


def test_natural_views_are_of_the_centre_square(tmp_path):
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[..., 0] = 255
    pixels[:, 20:40] = np.random.default_rng(0).integers(0, 256, (20, 20, 1), dtype=np.uint8)  # grey, and red around
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for size in (8, 16):  # from a smaller frame, and from the image as it is
        pairs = ViewPairs(list_images(tmp_path), VIEWS["natural"](size))
        views = torch.stack([pairs[(0, seed)] for seed in range(20)]).flatten(0, 1)
        red, green, blue = views.int().unbind(1)
        assert views.shape == (40, 3, size, size)
        assert (red - green).abs().max() <= 8  # colour changes round; red would be 100 and more off
        assert (blue - green).abs().max() <= 8
        assert red.float().std() > 20


def test_glyph_views_never_mirror(tmp_path):
    ramp = np.zeros((20, 20), np.uint8)
    ramp[:, :10] = 255
    Image.fromarray(ramp).save(tmp_path / "a.png")
    pairs = ViewPairs(list_images(tmp_path), VIEWS["glyphs"](20))
    views = torch.stack([pairs[(0, seed)] for seed in range(40)]).flatten(0, 1).float()
    assert (views[..., :10].mean(dim=(1, 2, 3)) > views[..., 10:].mean(dim=(1, 2, 3))).all()


def test_unreadable_image_becomes_its_reason(tmp_path):
    images = write_images(tmp_path)
    (tmp_path / "1.png").write_bytes(b"no image")
    pairs = ViewPairs(images, VIEWS["natural"](16))
    assert collate([pairs[(0, 0)], pairs[(1, 0)]]) == "1.png: not an image file"
    assert collate([pairs[(0, 0)], pairs[(2, 0)]]).shape == (2, 2, 3, 16, 16)


def test_order_shows_every_row_once_an_epoch_and_resumes():
    whole = list(BatchOrder(10, 5, 3, 7))
    assert len(whole) == len(BatchOrder(10, 5, 3, 7)) == 6
    for epoch in range(3):
        rows = [row for batch in whole[2 * epoch : 2 * epoch + 2] for row, _ in batch]
        assert sorted(rows) == list(range(10))
    assert [row for row, _ in whole[0] + whole[1]] != [row for row, _ in whole[2] + whole[3]]
    assert len({seed for batch in whole for _, seed in batch}) == 30
    assert list(BatchOrder(10, 5, 3, 7, start=4)) == whole[4:]
    assert list(BatchOrder(10, 5, 3, 8)) != whole


def test_seeded_gives_the_generator_back():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with seeded(1):
        first = torch.rand(2)
    with seeded(1):
        assert torch.equal(first, torch.rand(2))
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), expected)


def test_kinds_of_views_are_those_of_the_option_and_dims_those_of_the_head():
    assert set(pretrain.VIEWS) == set(VIEWS)
    assert SimclrConfig().projection_dims == PROJECTION_DIMS


def test_networks_start_from_the_seed():
    config = SimclrConfig(model_kwargs=TINY, img_size=32, projection_dims=6)
    first, second = build_encoder(config), build_encoder(config)
    other = build_encoder(SimclrConfig(model_kwargs=TINY, img_size=32, seed=1))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(next(first.parameters()), next(other.parameters()))
    assert encoder_dims(first, config) == 8
    assert build_projector(config, 8)(torch.zeros(2, 8)).shape == (2, 6)


def test_model_errors_are_one_line():
    with pytest.raises(ModelError, match=r"'resnet81', which timm .* does not have. Did you mean"):
        build_encoder(SimclrConfig(model="resnet81"))
    vit = SimclrConfig(model="vit_tiny_patch16_224", model_kwargs={"embed_dim": 12, "depth": 1}, img_size=48)
    with pytest.raises(ModelError, match=r"'vit_tiny_patch16_224' does not take images of 48 px: [^\n]+$"):
        encoder_dims(build_encoder(vit), vit)
    unpooled = SimclrConfig(model_kwargs={**TINY, "global_pool": ""}, img_size=32)
    with pytest.raises(ModelError, match=r"gives features of shape \(8, 1, 1\); use a model with pooled features"):
        encoder_dims(build_encoder(unpooled), unpooled)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"views": "glyph"}, r"--views is 'glyph'; it must be one of natural, glyphs\. Did you mean glyphs"),
        ({"img_size": 4}, "--img-size is 4; it must be 8 or more"),
        ({"img_size": 10**6}, "--img-size is 1000000; it must be 8192 or less"),
        ({"epochs": 0}, "--epochs is 0; it must be 1 or more"),
        ({"batch_size": 1}, "--batch-size is 1; an image needs others to differ from: use 2 or more"),
        ({"lr": math.nan}, "--lr is nan; it must be a positive number"),
        ({"lr": 1e300}, r"--lr is 1e\+300; it must be a positive number, 1,000,000 at most"),
        ({"std": (0.1, 0.0, 0.1)}, r"--std is \(0\.1, 0\.0, 0\.1\); it must be three positive numbers"),
        ({"temperature": 0.0}, "--temperature is 0.0; it must be a positive number"),
        ({"warmup_share": 1.0}, "--warmup-share is 1.0; it must lie from 0 to below 1"),
        ({"projection_dims": 0}, "--projection-dims is 0; it must be 1 or more"),
    ],
)
def test_config_refuses(option, message):
    with pytest.raises(ConfigError, match=message):
        SimclrConfig(**option)
