"""Options of `tcs train` that say how images are changed before students see them, by timm's names where it has the option.

Pure standard library.
"""

import dataclasses
import math
from collections.abc import Sequence

from tcs.config.pixels import require_side
from tcs.config.plain import take_plain
from tcs.errors import option_name, refuse_idle, require, require_choice

INTERPOLATIONS = ("bilinear", "bicubic")
REMODES = ("const", "rand", "pixel")
PROBABILITIES = ("hflip", "vflip", "color_jitter", "color_jitter_prob", "grayscale_prob", "reprob")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """One draw per image. Without `scale` images are padded and cropped; with it, a random box is resized, as in timm.

    `crop_padding` is a share of the image side: that many black pixels are put on each side, and cut back at a random offset.
    `scale` is the range of a box's share of the area, `ratio` that of its width / height; boxes are resampled with
    `train_interpolation`, from frames of `decode_size` pixels a side. `color_jitter` c changes brightness, contrast and
    saturation by up to c and the hue by up to c / 4 of the circle, always in this order, as `tcs.augmentation.views.ViewPolicy`
    does (timm leaves the hue alone and shuffles the order), for a share `color_jitter_prob` of the images. `reprob`, `remode` and
    `recount` are random erasing (`tcs.augmentation.erasing`), `mixup` and what follows it `tcs.augmentation.mixing`.

    `scaled_decoding` is about the frames themselves: JPEGs far larger than a frame are decoded at a half, a quarter or an eighth, at
    least twice the frame's side (`tcs.images.scaled`), which changes pixels a little. The finished student sees images so as well.

    Cached views are replayed instead of all that (tcs.training.views). ConfigError, naming the option, for a value that makes no
    sense.
    """

    crop_padding: float = 0.125
    scale: tuple[float, float] | None = None
    ratio: tuple[float, float] = (0.75, 4 / 3)
    train_interpolation: str = "bicubic"
    decode_size: int | None = None
    scaled_decoding: bool = False
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
        take_plain(self)
        require(
            0 <= self.crop_padding <= 0.5,
            f"--crop-padding is {self.crop_padding}; it must lie between 0 and 0.5 (a share of the image side).",
        )
        require_side(self.decode_size, option="--decode-size")
        require(0 <= self.smoothing < 1, f"--smoothing is {self.smoothing}; it must lie from 0 to below 1.")
        require_choice(self.train_interpolation, INTERPOLATIONS, "--train-interpolation")
        self._refuse_idle_options()
        self._check_boxes()
        for name in PROBABILITIES:
            value = getattr(self, name)
            require(0 <= value <= 1, f"{option_name(name)} is {value}; it must lie between 0 and 1.")
        require_choice(self.remode, REMODES, "--remode")
        require(self.recount >= 1, f"--recount is {self.recount}; it must be 1 or more rectangles.")

    def _check_boxes(self) -> None:
        require(
            self.scale is None or (_is_range(self.scale) and self.scale[1] <= 1),
            f"--scale is {_shown(self.scale or ())}; it must be two shares of the area, above 0, at most 1, the smaller first.",
        )
        require(
            _is_range(self.ratio),
            f"--ratio is {_shown(self.ratio)}; it must be two ratios width / height above 0, the smaller first.",
        )

    def _refuse_idle_options(self) -> None:
        """Raise ConfigError for an option that would change nothing: what it acts on is not asked for."""
        conditions = (
            (("crop_padding",), self.scale is None, "images that are padded; leave --scale out"),
            (("ratio", "train_interpolation"), self.scale is not None, "a random resized crop; add --scale 0.08 1.0"),
            (("color_jitter_prob",), self.color_jitter != 0, "a colour jitter; add --color-jitter 0.4"),
            (("remode", "recount"), self.reprob != 0, "random erasing; add --reprob 0.25"),
        )
        refuse_idle(self, conditions)

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are mixed with each other."""
        return self.mixup > 0 or self.cutmix > 0

    def padding(self, size: int) -> int:
        """Black pixels on each side of an image of `size` pixels, where images are padded and cropped."""
        return round(self.crop_padding * size)


def _is_range(values: tuple[float, float]) -> bool:
    return 0 < values[0] <= values[1] < math.inf


def _shown(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)
