"""Options of augmentation: what is on by default, and what makes no sense, refused by the name of the option."""

import dataclasses

import pytest

from tcs.config.augment import AugmentConfig
from tcs.errors import ConfigError


def test_crops_and_flips_are_on_and_all_else_is_off_unless_asked_for() -> None:
    config = AugmentConfig()
    assert (config.scale, config.padding(32), config.hflip) == (None, 4, 0.5)
    assert not any((config.vflip, config.color_jitter, config.grayscale_prob, config.reprob, config.mixes))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.hflip = 0.5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_interpolation": "lanczos"}, "--train-interpolation is 'lanczos'; it must be one of bilinear, bicubic"),
        ({"reprob": 0.5, "remode": "blur"}, "--remode is 'blur'; it must be one of const, rand, pixel"),
        ({"crop_padding": -0.1}, "--crop-padding is -0.1; it must lie between 0 and 0.5 .a share of the image side"),
        ({"decode_size": 0}, "--decode-size is 0; it must be 1 or more"),
        ({"smoothing": 1.0}, "--smoothing is 1.0; it must lie from 0 to below 1"),
        ({"scale": (0.5, 1.5)}, "--scale is 0.5 1.5; it must be two shares of the area, above 0"),
        ({"scale": (0.0, 1.0)}, "--scale is 0 1; it must be two shares"),
        ({"scale": (0.9, 0.5)}, "--scale is 0.9 0.5; it must be two shares"),
        ({"scale": (0.1, 1.0), "ratio": (1.0, float("inf"))}, "--ratio is 1 inf; it must be two ratios"),
        ({"scale": (0.1, 1.0), "ratio": (0.5,)}, r"^ratio is \(0\.5,\); it must be a tuple of 2 numbers\.$"),
        ({"hflip": 1.5}, "--hflip is 1.5; it must lie between 0 and 1"),
        ({"vflip": -0.1}, "--vflip is -0.1; it must lie between 0 and 1"),
        ({"color_jitter": float("nan")}, "--color-jitter is nan; it must lie between 0 and 1"),
        ({"color_jitter": 0.4, "color_jitter_prob": 2}, "--color-jitter-prob is 2; it must lie between 0 and 1"),
        ({"grayscale_prob": 7}, "--grayscale-prob is 7; it must lie between 0 and 1"),
        ({"reprob": 7}, "--reprob is 7; it must lie between 0 and 1"),
        ({"reprob": 0.5, "recount": 0}, "--recount is 0; it must be 1 or more rectangles"),
        ({"crop_padding": 0.2, "scale": (0.2, 1.0)}, "--crop-padding has no effect without images that are padded"),
        ({"ratio": (1.0, 1.0)}, "--ratio has no effect without a random resized crop; add --scale"),
        ({"train_interpolation": "bilinear"}, "--train-interpolation has no effect without a random resized crop"),
        ({"color_jitter_prob": 0.8}, "--color-jitter-prob has no effect without a colour jitter; add --color-jitter"),
        ({"remode": "pixel"}, "--remode has no effect without random erasing; add --reprob"),
        ({"recount": 3}, "--recount has no effect without random erasing; add --reprob"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AugmentConfig(**options)  # type: ignore[arg-type]
