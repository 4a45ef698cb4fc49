"""Brightness, contrast, saturation, hue and grey of a uint8 batch, each image by its own numbers, as Pillow changes them.

Blends follow Pillow's order of float32 operations and its cutting of fractions; luma is its 16-bit fixed point, whose sums have
24 bits, so float32 is exact. Hues go through Pillow's 8-bit HSV: forth, equal for all 2^24 colours; back, equal but for 20
of 2^24, which are off by one level.

Legend: B batch, H and W image height and width in pixels. Levels are whole numbers 0..255 in float32.
"""

import torch
from torch import Tensor

from tcs.augmentation.pixels import change_rows

LUMA = (19595 / 65536, 38470 / 65536, 7471 / 65536)  # ITU-R 601-2 in 16-bit fixed point


def change_colours(images_B3HW: Tensor, colours_B4: Tensor) -> Tensor:
    """uint8 (B, 3, H, W): brightness, contrast, saturation, then hue.

    colours_B4 float32 on the CPU: three factors, 1 for no change, and the turn of the hue as a share of the circle.
    """
    neutral_4 = colours_B4.new_tensor([1, 1, 1, 0])
    return change_rows(
        images_B3HW, (colours_B4 != neutral_4).any(1), lambda images, which: _jitter(images, colours_B4[which])
    )


def _jitter(images_B3HW: Tensor, colours_B4: Tensor) -> Tensor:
    brightness, contrast, saturation = colours_B4[:, :3].to(images_B3HW.device).T[:, :, None, None, None]
    levels_B3HW = _cut(images_B3HW.float().mul_(brightness))
    levels_B3HW = _blend(levels_B3HW, _mean_luma(levels_B3HW), contrast)
    levels_B3HW = _blend(levels_B3HW, luma(levels_B3HW), saturation)
    turns_B = colours_B4[:, 3]
    return change_rows(levels_B3HW, turns_B != 0, lambda levels, which: _turn_hues(levels, turns_B[which])).to(
        torch.uint8
    )


def make_grey(images_B3HW: Tensor, greys_B: Tensor) -> Tensor:
    """uint8 (B, 3, H, W): the luma in all three channels of the images whose flag (bool, CPU) is set."""
    return change_rows(
        images_B3HW, greys_B, lambda images, _: luma(images.float()).to(torch.uint8).expand(-1, 3, -1, -1)
    )


def luma(levels_B3HW: Tensor) -> Tensor:
    """Levels (B, 1, H, W): 0.299 R + 0.587 G + 0.114 B, rounded."""
    red, green, blue = levels_B3HW.unbind(1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2]).add_(0.5).floor_()[:, None]


def _mean_luma(levels_B3HW: Tensor) -> Tensor:
    """The mean of the luma of each image, rounded, as levels (B, 1, 1, 1). In float64: the sum outgrows float32."""
    sums_B111 = luma(levels_B3HW).sum((1, 2, 3), keepdim=True, dtype=torch.float64)
    return (sums_B111 / levels_B3HW[0, 0].numel()).add_(0.5).floor_().float()


def _blend(levels: Tensor, degenerate: Tensor, factor: Tensor) -> Tensor:
    """degenerate + factor (levels - degenerate), in this order and in place."""
    return _cut(levels.sub_(degenerate).mul_(factor).add_(degenerate))


def _cut(values: Tensor) -> Tensor:
    return values.clamp_(0, 255).floor_()


def _turn_hues(levels_B3HW: Tensor, shares_B: Tensor) -> Tensor:
    """Hues turned by whole 256ths of the circle."""
    steps_B11 = (shares_B.double() * 256).round().float().to(levels_B3HW.device)[:, None, None]
    hue, saturation, value = _to_hsv(levels_B3HW)
    return _from_hsv((hue + steps_B11).remainder_(256), saturation, value)


def _to_hsv(levels_B3HW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue, saturation and value (B, H, W), each 0..255; of a grey the hue is 0."""
    red, green, blue = levels_B3HW.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    saturation = (chroma * 255).div_(value.clamp_min(1)).floor_()
    below_B3HW = (value[:, None] - levels_B3HW).div_(chroma.clamp_min_(1)[:, None])
    red_c, green_c, blue_c = below_B3HW.unbind(1)
    last = torch.where(green == value, 2 + red_c.double() - blue_c, 4 + green_c.double() - red_c)
    sixths = torch.where(red == value, (blue_c - green_c).double(), last).float()  # 0..6, or -1..0
    share = sixths.double().div_(6).add_(1).frac_().float()
    return share.double().mul_(255).floor_().float(), saturation, value


def _from_hsv(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Levels (B, 3, H, W): value (1 - saturation w), with w of each channel a trapezium over the circle."""
    sixths, share = hue * 6 / 255, saturation / 255
    channels = []
    for turn in (5, 3, 1):
        place = (sixths + turn).fmod_(6)
        trapezium = torch.minimum(place, 4 - place).clamp_(0, 1)
        channels.append((1 - trapezium.mul_(share)).mul_(value).add_(0.5).floor_())
    return torch.stack(channels, 1)
