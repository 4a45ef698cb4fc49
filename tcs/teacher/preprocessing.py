"""How an image becomes a teacher's input: size, crop, interpolation, mean and spread; from timm's entry, or as given.

A timm model has an entry for each of them. For any other module nothing is guessed: what neither an option nor the
module's own `pretrained_cfg` (or `default_cfg`) says is asked for by name.
"""

import math
from collections.abc import Mapping
from typing import Any

from timm.data import resolve_model_data_config
from torch import nn

from tcs.config.extract import ExtractConfig
from tcs.config.pixels import LARGEST_SIDE
from tcs.errors import ConfigError, did_you_mean

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")

# what is needed -> the option that gives it
OPTIONS = {
    "input_size": "--img-size",
    "mean": "--mean",
    "std": "--std",
    "crop_pct": "--crop-pct",
    "interpolation": "--interpolation",
}


def card_of(model: nn.Module) -> Mapping[str, Any]:
    """The model's `pretrained_cfg`, or `default_cfg`, as a mapping; empty where it has none."""
    for name in ("pretrained_cfg", "default_cfg"):
        card = getattr(model, name, None)
        if card is not None:
            found = card if isinstance(card, Mapping) else getattr(card, "__dict__", {})
            return {key: value for key, value in found.items() if value is not None}
    return {}


def resolve_preprocessing(model: nn.Module, config: ExtractConfig) -> dict[str, Any]:
    """timm's data config of the model, with what `config` overrides, as JSON types."""
    options = {"img_size": config.img_size or config.teacher_kwargs.get("img_size"), **_given(config)}
    resolved = resolve_model_data_config(
        model, args={key: value for key, value in options.items() if value is not None}
    )
    return _as_json(resolved)


def stated_preprocessing(model: nn.Module, config: ExtractConfig) -> dict[str, Any]:
    """The same for a module that timm did not make: from options and its own card. ConfigError names what is missing."""
    stated = {**card_of(model), **{key: value for key, value in _given(config).items() if value is not None}}
    size = config.img_size
    if size is not None:
        stated["input_size"] = (3, size, size)
    missing = [option for key, option in OPTIONS.items() if key not in stated]
    if missing:
        raise ConfigError(
            f"teacher {config.teacher} does not say how its images are prepared; give {', '.join(missing)},"
            " or a `pretrained_cfg` dict on the module."
        )
    try:
        found = _as_json({"crop_mode": "center", **stated})
        _require_sound(found, config.teacher)
    except (TypeError, ValueError, KeyError) as error:
        wanted = {key: stated[key] for key in OPTIONS}
        raise ConfigError(
            f"teacher {config.teacher} has unusable preprocessing {wanted} ({error}); correct it."
        ) from error
    return found


def _given(config: ExtractConfig) -> dict[str, Any]:
    return {
        "mean": config.mean,
        "std": config.std,
        "crop_pct": config.crop_pct,
        "interpolation": config.interpolation,
    }


def _as_json(resolved: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "input_size": [int(side) for side in resolved["input_size"]],
        "interpolation": str(resolved["interpolation"]),
        "mean": [float(value) for value in resolved["mean"]],
        "std": [float(value) for value in resolved["std"]],
        "crop_pct": float(resolved["crop_pct"]),
        "crop_mode": str(resolved["crop_mode"]),
    }


def _require_sound(found: Mapping[str, Any], teacher: str) -> None:
    """Raise ConfigError unless a module's own card can be followed."""
    size = found["input_size"]
    if len(size) != 3 or size[0] != 3 or min(size) < 1:
        raise ConfigError(f"teacher {teacher} takes input_size {size}; it must be 3, height, width (RGB images).")
    if len(found["mean"]) != 3 or len(found["std"]) != 3:
        raise ConfigError(f"teacher {teacher} has a mean or std that is not of three numbers; give --mean and --std.")
    require_sound_values(found["crop_pct"], found["interpolation"], found["mean"], found["std"])


def require_possible(config: ExtractConfig) -> None:
    """Raise ConfigError for preprocessing options that no transform can follow."""
    for option, size in (("--img-size", config.img_size), ("img_size", config.teacher_kwargs.get("img_size"))):
        if size is not None and not (isinstance(size, int) and 1 <= size <= LARGEST_SIDE):
            raise ConfigError(f"{option} is {size}; it must be one whole number of pixels, from 1 to {LARGEST_SIDE}.")
    require_sound_values(config.crop_pct, config.interpolation, config.mean, config.std)


def require_sound_values(crop_pct: float | None, interpolation: str | None, mean: Any, std: Any) -> None:
    """Raise ConfigError for a crop, interpolation, mean or spread out of range; None passes."""
    if crop_pct is not None and not 0 < crop_pct <= 1:
        raise ConfigError(f"--crop-pct is {crop_pct}; it must lie above 0 and at most at 1.")
    if interpolation is not None and interpolation not in INTERPOLATIONS:
        hint = did_you_mean(interpolation, INTERPOLATIONS)
        raise ConfigError(f"--interpolation is '{interpolation}'; it must be one of {', '.join(INTERPOLATIONS)}.{hint}")
    if mean is not None and not all(map(math.isfinite, mean)):
        raise ConfigError(f"--mean is {mean}; it must be three finite numbers.")
    if std is not None and not all(math.isfinite(value) and value > 0 for value in std):
        raise ConfigError(f"--std is {std}; it must be three finite numbers above 0.")


def describe(preprocessing: Mapping[str, Any]) -> str:
    """In a few words: 224x224, bicubic, crop 0.95, mean .., std .."""
    _, height, width = preprocessing["input_size"]
    mean, std = (" ".join(f"{value:g}" for value in preprocessing[name]) for name in ("mean", "std"))
    return (
        f"{height}x{width} {preprocessing['interpolation']}, crop {preprocessing['crop_pct']:g}, mean {mean}, std {std}"
    )
