"""The frozen teacher: a timm model with its weights, its own preprocessing, and its readouts.

Letters: B batch, H W height and width, D teacher dims.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torch import nn

from tcs.config import ExtractConfig
from tcs.errors import ConfigError, ModelError, did_you_mean
from tcs.readouts import read_features, require_readouts
from tcs.runtime import pick_device
from tcs.teacher_weights import build, digest_of_weights, first_line, from_file, from_hub

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
# Settled by us: readouts, classifier and weights have options or rules of their own.
RESERVED_KWARGS = (
    "global_pool",
    "num_classes",
    "in_chans",
    "features_only",
    "model_name",
    "cache_dir",
    "checkpoint_path",
)
RESERVED_PREFIX = "pretrained"  # pretrained_strict=False, for one, would let a gap in the weights pass
# Raised by hand, only when the same inputs would give other features.
SEMANTICS = 1


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Teacher:
    """A frozen float32 model on `device`, ready to read `readouts` (name -> D) from normalised images.

    `transform` maps an RGB PIL image to float32 (3, H, W). `identity` is the JSON that decides the features' values.
    """

    model: nn.Module
    device: torch.device
    readouts: Mapping[str, int]
    preprocessing: Mapping[str, Any]
    identity: Mapping[str, Any]
    transform: Callable[[Image.Image], torch.Tensor]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one normalised image."""
        channels, height, width = self.preprocessing["input_size"]
        return channels, height, width

    def features(self, images_B3HW: torch.Tensor) -> dict[str, torch.Tensor]:
        """The readouts of a batch (float32, on any device), each float32 (B, D) on the CPU.

        TF32 is off: the store's compute dtype is float32, and says so.
        """
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
            found = read_features(self.model, images_B3HW.to(self.device), tuple(self.readouts))
            return {name: value.cpu() for name, value in found.items()}


def load_teacher(config: ExtractConfig) -> Teacher:
    """The teacher that `config` names, weights complete, in eval mode on its device.

    ModelError or ConfigError, one line each: unknown name, kwargs or readout; weights that are absent or do not fit.
    """
    require_readouts(config.readouts)
    _require_possible(config)
    require_known_teacher(config.teacher)
    device = pick_device(config.device)
    kwargs = _model_kwargs(config)
    model = _weighted_model(config, kwargs).eval().requires_grad_(False)
    preprocessing = resolve_preprocessing(model, config)
    teacher = Teacher(
        model=model.to(device),
        device=device,
        readouts=dict.fromkeys(config.readouts, 0),
        preprocessing=preprocessing,
        identity=_identity(config, model, preprocessing),
        transform=create_transform(**_for_timm(preprocessing), is_training=False),
    )
    return dataclasses.replace(teacher, readouts=_measure(teacher, config.teacher))


def require_known_teacher(name: str) -> None:
    """Raise ModelError, with the nearest names, unless timm knows the architecture and the tag of its weights."""
    if ":" in name:  # hf-hub:owner/name or local-dir:folder; timm looks there
        return
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        hint = did_you_mean(architecture, timm.list_models())
        raise ModelError(f"teacher '{name}' is not a timm model; see timm.list_models().{hint}")
    tags = [
        known.partition(".")[2] for known in timm.list_pretrained(architecture + "*") if _is_of(known, architecture)
    ]
    if tag and tag not in tags:
        raise ModelError(
            f"teacher '{name}' has an unknown weight tag; {architecture} has {', '.join(tags) or 'none'}."
            f"{did_you_mean(tag, tags)}"
        )


def _is_of(name: str, architecture: str) -> bool:
    return name.partition(".")[0] == architecture


def _model_kwargs(config: ExtractConfig) -> dict[str, Any]:
    """--teacher-kwargs, and img_size for the architectures whose constructor takes one. ConfigError for unfit ones."""
    kwargs = dict(config.teacher_kwargs)
    _as_json(kwargs)
    reserved = [name for name in kwargs if name in RESERVED_KWARGS or name.startswith(RESERVED_PREFIX)]
    if reserved:
        raise ConfigError(f"--teacher-kwargs {reserved[0]} is settled by tcs extract; leave it out (see --readout).")
    if config.img_size is None:
        return kwargs
    if kwargs.setdefault("img_size", config.img_size) != config.img_size:
        raise ConfigError(
            f"--img-size {config.img_size} and --teacher-kwargs img_size={kwargs['img_size']} differ; give one of them."
        )
    if "img_size" in config.teacher_kwargs or _takes_img_size(config.teacher, kwargs):
        return kwargs
    del kwargs["img_size"]
    return kwargs


def _takes_img_size(name: str, kwargs: Mapping[str, Any]) -> bool:
    """Whether the architecture's constructor has an img_size (asked on the meta device: no memory, no arithmetic)."""
    try:
        with torch.device("meta"):
            build(name, kwargs)
    except ModelError as error:
        return "'img_size'" not in str(error)  # "... got an unexpected keyword argument 'img_size'"
    return True


def _weighted_model(config: ExtractConfig, kwargs: Mapping[str, Any]) -> nn.Module:
    if config.teacher_checkpoint is None:
        return from_hub(config.teacher, kwargs)
    return from_file(config.teacher, kwargs, pathlib.Path(config.teacher_checkpoint))


def resolve_preprocessing(model: nn.Module, config: ExtractConfig) -> dict[str, Any]:
    """timm's data config of the model, with what `config` overrides, as JSON types."""
    given = {
        "img_size": config.img_size or config.teacher_kwargs.get("img_size"),
        "mean": config.mean,
        "std": config.std,
        "crop_pct": config.crop_pct,
        "interpolation": config.interpolation,
    }
    resolved = resolve_model_data_config(model, args={key: value for key, value in given.items() if value is not None})
    return {
        "input_size": [int(side) for side in resolved["input_size"]],
        "interpolation": str(resolved["interpolation"]),
        "mean": [float(value) for value in resolved["mean"]],
        "std": [float(value) for value in resolved["std"]],
        "crop_pct": float(resolved["crop_pct"]),
        "crop_mode": str(resolved["crop_mode"]),
    }


def _require_possible(config: ExtractConfig) -> None:
    """Raise ConfigError for preprocessing options that no transform can follow."""
    interpolation = config.interpolation
    for option, size in (("--img-size", config.img_size), ("img_size", config.teacher_kwargs.get("img_size"))):
        if size is not None and not (isinstance(size, int) and size >= 1):
            raise ConfigError(f"{option} is {size}; it must be one whole number of pixels, 1 or more.")
    if config.crop_pct is not None and not 0 < config.crop_pct <= 1:
        raise ConfigError(f"--crop-pct is {config.crop_pct}; it must lie above 0 and at most at 1.")
    if interpolation is not None and interpolation not in INTERPOLATIONS:
        hint = did_you_mean(interpolation, INTERPOLATIONS)
        raise ConfigError(f"--interpolation is '{interpolation}'; it must be one of {', '.join(INTERPOLATIONS)}.{hint}")
    if config.mean is not None and not all(map(math.isfinite, config.mean)):
        raise ConfigError(f"--mean is {config.mean}; it must be three finite numbers.")
    if config.std is not None and not all(math.isfinite(value) and value > 0 for value in config.std):
        raise ConfigError(f"--std is {config.std}; it must be three finite numbers above 0.")


def _for_timm(preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    """The tuples that timm's transforms expect where JSON has lists."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in preprocessing.items()}


def _identity(config: ExtractConfig, model: nn.Module, preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    """All that decides a feature's value and stands in no other field of the store's plan."""
    return {
        "teacher": config.teacher,
        "teacher_kwargs": _as_json(dict(config.teacher_kwargs)),
        "teacher_weights": digest_of_weights(model),
        "preprocessing": dict(preprocessing),
        "compute_dtype": "float32",
        "views": 1,
        "semantics": SEMANTICS,
    }


def _as_json(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = json.loads(json.dumps(kwargs, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"--teacher-kwargs {kwargs} cannot be recorded ({error}); use numbers, text, lists."
        ) from error
    return plain


def _measure(teacher: Teacher, name: str) -> dict[str, int]:
    """Width of each readout, measured on one black image: num_features is wrong for one architecture in five."""
    try:
        found = teacher.features(torch.zeros(1, *teacher.input_shape))
    except (RuntimeError, AssertionError, ValueError) as error:
        size = "x".join(map(str, teacher.input_shape))
        raise ModelError(
            f"teacher {name} cannot process an image of {size} ({first_line(error)}); choose another --img-size."
        ) from error
    return {readout: value.shape[1] for readout, value in found.items()}
