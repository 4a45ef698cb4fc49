"""What may happen to an image while a student trains; off, unless asked for. Names and meanings are timm's where it has the option.

Options of `tcs train` that say how images are changed before students see them, by timm's names. Pure standard library.
"""

import dataclasses
import math
from collections.abc import Sequence

from tcs.errors import refuse_idle, require, require_choice

CROPS = ("none", "pad", "resized")

INTERPOLATIONS = ("bilinear", "bicubic")

REMODES = ("const", "rand", "pixel")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentPolicy:
    """From what the augmentation of each image is drawn. ConfigError, naming the option, for a value that makes no sense.

    `crop` is `none`; `pad` (`padding` black pixels on each side, cut back at a random offset); or `resized` (a random box with
    a share `scale` of the area and `ratio` width / height, resampled with `interpolation`). `color_jitter` c changes
    brightness, contrast and saturation by up to c and the hue by up to c / 4 of the circle, always in this order, as
    `tcs.augmentation.views.ViewPolicy` does (timm leaves the hue alone and shuffles the order), for a share `color_jitter_prob` of the
    images. `reprob`, `remode` and `recount` are random erasing (`tcs.augmentation.erasing`).
    """

    crop: str = "none"
    padding: int = 0
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (0.75, 4 / 3)
    interpolation: str = "bicubic"
    hflip: float = 0.0
    vflip: float = 0.0
    color_jitter: float = 0.0
    color_jitter_prob: float = 1.0
    grayscale_prob: float = 0.0
    reprob: float = 0.0
    remode: str = "const"
    recount: int = 1

    def __post_init__(self) -> None:
        require_choice(self.crop, CROPS, "--crop")
        require_choice(self.interpolation, INTERPOLATIONS, "--interpolation")
        require_choice(self.remode, REMODES, "--remode")
        require(self.padding >= 0, f"--crop-padding is {self.padding} pixels; it must be 0 or more.")
        require(
            _is_range(self.scale) and self.scale[1] <= 1,
            f"--scale is {_shown(self.scale)}; it must be two shares of the area, above 0, at most 1, the smaller first.",
        )
        require(
            _is_range(self.ratio),
            f"--ratio is {_shown(self.ratio)}; it must be two ratios width / height above 0, the smaller first.",
        )
        for option in ("hflip", "vflip", "color_jitter", "color_jitter_prob", "grayscale_prob", "reprob"):
            value = getattr(self, option)
            require(0 <= value <= 1, f"--{option.replace('_', '-')} is {value}; it must lie between 0 and 1.")
        require(self.recount >= 1, f"--recount is {self.recount}; it must be 1 or more rectangles.")
        self._refuse_idle_options()

    def _refuse_idle_options(self) -> None:
        """Raise ConfigError for an option that would change nothing: what it acts on is not asked for."""
        conditions = (
            (("padding",), self.crop == "pad", "--crop pad"),
            (("scale", "ratio"), self.crop == "resized", "--crop resized"),
            (("color_jitter_prob",), self.color_jitter > 0, "a colour jitter; add --color-jitter 0.4"),
            (("remode", "recount"), self.reprob > 0, "random erasing; add --reprob 0.25"),
        )
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for options, is_met, need in conditions:
            idle = [name for name in options if _plain(getattr(self, name)) != defaults[name]]
            name = {"padding": "crop-padding"}.get((idle or [""])[0], (idle or [""])[0].replace("_", "-"))
            require(is_met or not idle, f"--{name} has no effect without {need}.")


def _is_range(values: Sequence[float]) -> bool:
    return len(values) == 2 and 0 < values[0] <= values[1] < math.inf


def _shown(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _plain(value: object) -> object:
    """A list as the tuple that it may stand for: a policy may come from JSON."""
    return tuple(value) if isinstance(value, list) else value


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """One draw per image. Without `scale` images are padded and cropped; with it, a random box is resized, as in timm.

    `crop_padding` is a share of the image side, `decode_size` the side in pixels of the frames that boxes are cut from.
    Cached views are replayed instead of all that (tcs.training.views), from such frames.
    """

    crop_padding: float = 0.125
    scale: tuple[float, float] | None = None
    ratio: tuple[float, float] = (0.75, 4 / 3)
    train_interpolation: str = "bicubic"
    decode_size: int | None = None
    hflip: float = 0.5
    vflip: float = 0.0
    color_jitter: float = 0.0
    color_jitter_prob: float = 1.0
    grayscale_prob: float = 0.0
    reprob: float = 0.0
    remode: str = "const"
    recount: int = 1
    mixup: float = 0.0
    cutmix: float = 0.0
    mixup_prob: float = 1.0
    mixup_switch_prob: float = 0.5
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        require(
            0 <= self.crop_padding <= 0.5,
            f"--crop-padding is {self.crop_padding}; it must lie between 0 and 0.5 (a share of the image side).",
        )
        require(
            self.decode_size is None or self.decode_size >= 1,
            f"--decode-size is {self.decode_size}; it must be 1 or more.",
        )
        require(0 <= self.smoothing < 1, f"--smoothing is {self.smoothing}; it must lie from 0 to below 1.")
        require_choice(self.train_interpolation, INTERPOLATIONS, "--train-interpolation")
        conditions = (
            (("crop_padding",), self.scale is None, "images that are padded; leave --scale out"),
            (("ratio", "train_interpolation"), self.scale is not None, "a random resized crop; add --scale 0.08 1.0"),
        )
        refuse_idle(self, conditions)
        self.policy(0)  # which checks the options that it is made of

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are mixed with each other."""
        return self.mixup > 0 or self.cutmix > 0

    def policy(self, size: int) -> AugmentPolicy:
        """The augmentation for students of `size` pixels."""
        shared = {field.name for field in dataclasses.fields(AugmentPolicy)} & {
            field.name for field in dataclasses.fields(self)
        }
        values = {name: getattr(self, name) for name in shared - {"scale"}}
        if self.scale is None:
            return AugmentPolicy(crop="pad", padding=round(self.crop_padding * size), **values)
        return AugmentPolicy(crop="resized", scale=self.scale, interpolation=self.train_interpolation, **values)
