"""How the options of a run show its images: the side they are decoded at, the augmentation, and the view without any.

Legend: N images.
"""

import torch
from torch import Tensor

from tcs.augmentation.apply import apply
from tcs.augmentation.draws import draw
from tcs.augmentation.mixing import MixPolicy
from tcs.augmentation.policy import AugmentPolicy
from tcs.config_augment import AugmentConfig
from tcs.config_train import TrainConfig
from tcs.training.feed import Showing

FRAME_SHARE = 0.875  # of a frame's side that a centre crop would keep: timm's usual --crop-pct
VIEW_SHARE = 0.5  # of a frame that holds a whole image: a box of a quarter of the area is not enlarged


def frame_size(config: AugmentConfig, size: int, *, views: bool = False) -> int:
    """The side that images are decoded at: the student's own where they are padded and cropped, larger where boxes are cut,
    twice the student's where cached views are replayed."""
    if views:
        return config.decode_size or round(size / VIEW_SHARE)
    if config.scale is None:
        return size
    return config.decode_size or round(size / FRAME_SHARE)


def mixing_of(config: AugmentConfig) -> MixPolicy | None:
    """How labelled rows are mixed; None where they are not. ConfigError for options of it that make no sense."""
    names = ("mixup", "cutmix", "mixup_prob", "mixup_switch_prob")
    mixing = MixPolicy(**{name: getattr(config, name) for name in names})
    return mixing if mixing.is_on else None


def showing_of(config: TrainConfig, size: int) -> Showing:
    """What the stream of a run does with its images."""
    return Showing(
        size=size,
        policy=config.policy(size),
        mixing=mixing_of(config),
        clean_pool=config.mimic_view == "clean",
        seed=config.seed,
    )


def show_clean(images_N3HW: Tensor, size: int) -> Tensor:
    """Images without augmentation, at the students' size: uint8 (N, 3, size, size)."""
    return apply(images_N3HW, draw(AugmentPolicy(), len(images_N3HW), torch.Generator()), size)
