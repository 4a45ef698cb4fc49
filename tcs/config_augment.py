"""Options of `tcs train` that say how images are changed before students see them, by timm's names. Pure standard library."""

import dataclasses

from tcs.augmentation.policy import INTERPOLATIONS, AugmentPolicy
from tcs.errors import refuse_idle, require, require_choice


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """One draw per image. Without `scale` images are padded and cropped; with it, a random box is resized, as in timm.

    `crop_padding` is a share of the image side, `decode_size` the side in pixels of the frames that boxes are cut from.
    Cached views are replayed instead of all that (tcs.training.cached_views), from such frames.
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
