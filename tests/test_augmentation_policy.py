"""A policy is off by default, frozen, and refuses what makes no sense by the name of the option."""

import dataclasses

import pytest

from tcs.config.augment import AugmentPolicy
from tcs.errors import ConfigError


def test_all_is_off_unless_asked_for() -> None:
    policy = AugmentPolicy()
    assert policy.crop == "none"
    assert not any((policy.hflip, policy.vflip, policy.color_jitter, policy.grayscale_prob, policy.reprob))
    assert AugmentPolicy(crop="resized", scale=[0.08, 1.0]) == dataclasses.replace(  # type: ignore[arg-type]
        policy, crop="resized", scale=[0.08, 1.0]
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.hflip = 0.5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": "resize"}, r"--crop is 'resize'; it must be one of none, pad, resized\. Did you mean resized"),
        ({"interpolation": "lanczos"}, "--interpolation is 'lanczos'; it must be one of bilinear, bicubic"),
        ({"reprob": 0.5, "remode": "blur"}, "--remode is 'blur'; it must be one of const, rand, pixel"),
        ({"crop": "pad", "padding": -1}, "--crop-padding is -1 pixels; it must be 0 or more"),
        ({"crop": "resized", "scale": (0.5, 1.5)}, "--scale is 0.5 1.5; it must be two shares of the area, above 0"),
        ({"crop": "resized", "scale": (0.0, 1.0)}, "--scale is 0 1; it must be two shares"),
        ({"crop": "resized", "scale": (0.9, 0.5)}, "--scale is 0.9 0.5; it must be two shares"),
        ({"crop": "resized", "ratio": (1.0, float("inf"))}, "--ratio is 1 inf; it must be two ratios"),
        ({"crop": "resized", "ratio": (0.5,)}, r"--ratio is 0\.5; it must be two ratios"),
        ({"hflip": 1.5}, "--hflip is 1.5; it must lie between 0 and 1"),
        ({"vflip": -0.1}, "--vflip is -0.1; it must lie between 0 and 1"),
        ({"color_jitter": float("nan")}, "--color-jitter is nan; it must lie between 0 and 1"),
        ({"color_jitter": 0.4, "color_jitter_prob": 2}, "--color-jitter-prob is 2; it must lie between 0 and 1"),
        ({"grayscale_prob": 7}, "--grayscale-prob is 7; it must lie between 0 and 1"),
        ({"reprob": 7}, "--reprob is 7; it must lie between 0 and 1"),
        ({"reprob": 0.5, "recount": 0}, "--recount is 0; it must be 1 or more rectangles"),
        ({"padding": 4}, "--crop-padding has no effect without --crop pad"),
        ({"crop": "pad", "scale": (0.2, 1.0)}, "--scale has no effect without --crop resized"),
        ({"ratio": (1.0, 1.0)}, "--ratio has no effect without --crop resized"),
        ({"color_jitter_prob": 0.8}, "--color-jitter-prob has no effect without a colour jitter; add --color-jitter"),
        ({"remode": "pixel"}, "--remode has no effect without random erasing; add --reprob"),
        ({"recount": 3}, "--recount has no effect without random erasing; add --reprob"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AugmentPolicy(**options)  # type: ignore[arg-type]
