"""Two augmented views of each image of a batch, on the device, for NT-Xent: crop, mirror, colour, grey.

The recipe that SimCLR (arXiv 2002.05709) gives for small images in appendix B.9: a random crop of 8 to 100 % of the area
and 3/4 to 4/3 of the ratio, resized back; a mirror image; colour distortion of strength 0.5 with probability 0.8 (brightness,
contrast, saturation by up to 0.4, hue by up to 0.1 of the circle); grey with probability 0.2; no blur. Two plain choices:
the resizing is bilinear (a crop is never larger than the image, so nothing is shrunk), and the colours change in that one
order. Every view has draws of its own from a CPU generator, so that every device sees the same ones.

Legend: B images, V = 2B views, A attempts, H and W height and width in pixels.
"""

import dataclasses
import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

AREA = (0.08, 1.0)

RATIO = (3 / 4, 4 / 3)

ATTEMPTS = 10

JITTER_PROBABILITY, JITTER, HUE_JITTER = 0.8, 0.4, 0.1

GREY_PROBABILITY = 0.2

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601-2, as in PIL


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewDraws:
    """Boxes (V, 4) float32: top, left, height, width as shares of the side. Factors (V, 3) of brightness, contrast and
    saturation; hue (V,) as a share of the circle; flags (V,) bool."""

    boxes_V4: Tensor
    flips_V: Tensor
    factors_V3: Tensor
    hue_V: Tensor
    grey_V: Tensor


def view_pairs(images_B3HW: Tensor, hflip: float, generator: torch.Generator) -> Tensor:
    """float32 (2B, 3, H, W) on a 0..1 scale from square uint8 images: the first view of every image, then the second."""
    draws = draw_views(2 * len(images_B3HW), hflip, generator)
    views_V3HW = crop(images_B3HW.float().div(255).repeat(2, 1, 1, 1), draws.boxes_V4, draws.flips_V)
    return grey(change_colours(views_V3HW, draws.factors_V3, draws.hue_V), draws.grey_V)


def draw_views(count: int, hflip: float, generator: torch.Generator) -> ViewDraws:
    """The draws of `count` views; factors are 1 and the hue 0 where the colours stay."""
    boxes_V4 = _draw_boxes(count, generator)
    flips_V = torch.rand(count, generator=generator) < hflip
    jittered_V = torch.rand(count, generator=generator) < JITTER_PROBABILITY
    factors_V3 = 1 + JITTER * (2 * torch.rand(count, 3, generator=generator) - 1)
    hue_V = HUE_JITTER * (2 * torch.rand(count, generator=generator) - 1)
    return ViewDraws(
        boxes_V4=boxes_V4,
        flips_V=flips_V,
        factors_V3=torch.where(jittered_V[:, None], factors_V3, 1.0),
        hue_V=torch.where(jittered_V, hue_V, 0.0),
        grey_V=torch.rand(count, generator=generator) < GREY_PROBABILITY,
    )


def _draw_boxes(count: int, generator: torch.Generator) -> Tensor:
    """The first of ATTEMPTS boxes (of a square image) that fits; the whole image where none does."""
    area_VA, ratio_VA, down_VA, across_VA = torch.rand(4, count, ATTEMPTS, generator=generator)
    area_VA = AREA[0] + (AREA[1] - AREA[0]) * area_VA
    ratio_VA = torch.exp(math.log(RATIO[0]) + math.log(RATIO[1] / RATIO[0]) * ratio_VA)
    height_VA, width_VA = (area_VA / ratio_VA).sqrt(), (area_VA * ratio_VA).sqrt()
    boxes_VA4 = torch.stack([down_VA * (1 - height_VA), across_VA * (1 - width_VA), height_VA, width_VA], dim=2)
    fits_VA = (height_VA <= 1) & (width_VA <= 1)
    first_V = fits_VA.int().argmax(dim=1)
    whole_4 = torch.tensor([0.0, 0.0, 1.0, 1.0])
    return torch.where(fits_VA.any(dim=1)[:, None], boxes_VA4[torch.arange(count), first_V], whole_4)


def crop(images_V3HW: Tensor, boxes_V4: Tensor, flips_V: Tensor) -> Tensor:
    """Each box resized to the size of the image (bilinear), mirrored where its flag is set. Float images, any device."""
    top_V, left_V, height_V, width_V = boxes_V4.to(images_V3HW).unbind(1)
    across_V = torch.where(flips_V.to(images_V3HW.device), -width_V, width_V)
    zero_V = torch.zeros_like(top_V)
    rows_V23 = torch.stack(  # from an output pixel to an input place, both on the scale -1..1
        [across_V, zero_V, 2 * left_V + width_V - 1, zero_V, height_V, 2 * top_V + height_V - 1], dim=1
    ).view(-1, 2, 3)
    grid_VHW2 = F.affine_grid(rows_V23, list(images_V3HW.shape), align_corners=False)
    return F.grid_sample(images_V3HW, grid_VHW2, mode="bilinear", padding_mode="border", align_corners=False)


def change_colours(images_V3HW: Tensor, factors_V3: Tensor, hue_V: Tensor) -> Tensor:
    """Brightness, contrast (about the mean grey) and saturation (about each pixel's grey) times their factors, then the hue."""
    brightness_V, contrast_V, saturation_V = factors_V3.to(images_V3HW)[..., None, None, None].unbind(1)
    changed = (images_V3HW * brightness_V).clamp(0, 1)
    mean_V111 = luma(changed).mean(dim=(2, 3), keepdim=True)
    changed = torch.lerp(mean_V111.expand_as(changed), changed, contrast_V).clamp(0, 1)
    changed = torch.lerp(luma(changed).expand_as(changed), changed, saturation_V).clamp(0, 1)
    return turn_hue(changed, hue_V.to(images_V3HW))


def luma(images_V3HW: Tensor) -> Tensor:
    """The grey value of every pixel, (V, 1, H, W)."""
    weights_311 = torch.tensor(LUMA, device=images_V3HW.device, dtype=images_V3HW.dtype).view(3, 1, 1)
    return (images_V3HW * weights_311).sum(dim=1, keepdim=True)


def turn_hue(images_V3HW: Tensor, hue_V: Tensor) -> Tensor:
    """Every pixel's hue turned by a share of the circle; value and saturation (of HSV) stay."""
    red, green, blue = images_V3HW.unbind(1)
    value, spread = images_V3HW.amax(1), images_V3HW.amax(1) - images_V3HW.amin(1)
    scale = spread.clamp_min(1e-12)  # a grey pixel has no hue, and stays
    sector = torch.where(  # hue in sixths of the circle, from red
        value == red,
        (green - blue) / scale,
        torch.where(value == green, 2 + (blue - red) / scale, 4 + (red - green) / scale),
    )
    sector = sector + 6 * hue_V[:, None, None]
    # HSV to RGB in closed form: channel n is v - spread max(0, min(k, 4 - k, 1)), k = (n + sector) mod 6, n = 5, 3, 1.
    channels = [(start + sector).remainder(6) for start in (5, 3, 1)]
    return torch.stack([value - spread * torch.minimum(k, 4 - k).clamp(0, 1) for k in channels], dim=1)


def grey(images_V3HW: Tensor, grey_V: Tensor) -> Tensor:
    """Without colour where the flag is set."""
    flags_V111 = grey_V.to(images_V3HW.device)[:, None, None, None]
    return torch.where(flags_V111, luma(images_V3HW), images_V3HW)
