"""Antialiased resampling of one box per image to a square, for a whole batch at once, with the same result on every device.

The filters are Pillow's: a triangle (bilinear) or Keys' cubic with a = -1/2 (bicubic), widened by the factor of shrinking,
normalised over the pixels inside the image, first across, then down, with a rounding to whole levels between. Weights are
whole multiples of 2^-15 that sum to 1 (Pillow's are of 2^-22). Products with levels 0..255 and all their partial sums are then
whole numbers below 2^24 in units of 2^-15, which float32 holds exactly: in whatever order a device adds, and however the batch
is cut, the levels are the same. Against Pillow, coarser weights move a value by less than 0.004 a weight before each rounding:
less than 1 in 100 levels is off by one, a few in a million by two (measured on noise and on photographs).

Legend: B batch, H source height, W source width, O output positions, K source positions that one output position reads, R rows of
all images and channels.
"""

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tcs.augmentation.pixels import groups

STEPS = 1 << 15  # of which 1 is made

# Width from which the channels of a group are turned as one matrix: 0.5 x the time at 256 px, 1.5 x at 64 px.
TURNED_AS_ONE = 128

RADIUS = {"bilinear": 1.0, "bicubic": 2.0}


def resample_boxes(images_B3HW: Tensor, boxes_B4: Tensor, size: int, interpolation: str) -> Tensor:
    """uint8 (B, 3, size, size): box b of image b, resampled; on the images' device.

    images_B3HW uint8; boxes_B4 float32 on the CPU: (top, left, height, width) as shares of the image.
    """
    batch, _, height, width = images_B3HW.shape
    top_B, left_B, high_B, wide_B = boxes_B4.double().unbind(1)
    across = source_weights(left_B * width, (left_B + wide_B).clamp_max(1) * width, width, size, interpolation)
    down = source_weights(top_B * height, (top_B + high_B).clamp_max(1) * height, height, size, interpolation)
    filters = [tensor_BOK.to(images_B3HW.device) for tensor_BOK in (*across, *down)]
    resampled_B3OO = images_B3HW.new_empty(batch, 3, size, size)
    # The weights of all boxes are found at once, as their time is that of the calls; the images take theirs in a core's cache.
    for part in groups(batch, 3 * max(height, size) * max(width, size), images_B3HW.device):
        resampled_B3OO[part] = _resample(images_B3HW[part], *(tensor_BOK[part] for tensor_BOK in filters))
    return resampled_B3OO


def _resample(
    images_B3HW: Tensor, columns_BOK: Tensor, across_BOK: Tensor, rows_BOK: Tensor, down_BOK: Tensor
) -> Tensor:
    """uint8 (B, 3, O, O): rows turned and weighed, turned back and weighed once more."""
    batch, _, height, width = images_B3HW.shape
    narrow_RO = (_narrow_as_one if width >= TURNED_AS_ONE else _narrow_each)(images_B3HW, columns_BOK, across_BOK)
    places_B3OK, weights_B3OK = _of_channels(rows_BOK, down_BOK, height)
    return _as_bytes(_weigh_rows(narrow_RO, places_B3OK, weights_B3OK)).view(batch, 3, -1, narrow_RO.shape[-1])


def _narrow_each(images_B3HW: Tensor, places_BOK: Tensor, weights_BOK: Tensor) -> Tensor:
    """Levels (R, O) float32, each channel of each image turned for itself."""
    _, _, height, width = images_B3HW.shape
    turned_B3WH = images_B3HW.transpose(2, 3).contiguous().float()  # bytes are turned sooner than floats
    narrow_B3OH = _weigh_rows(turned_B3WH.view(-1, height), *_of_channels(places_BOK, weights_BOK, width)).floor_()
    return narrow_B3OH.transpose(2, 3).reshape(-1, places_BOK.shape[1])


def _narrow_as_one(images_B3HW: Tensor, places_BOK: Tensor, weights_BOK: Tensor) -> Tensor:
    """The same, all channels of all images turned as one matrix, which torch does block by block."""
    batch, _, height, width = images_B3HW.shape
    turned_WR = images_B3HW.reshape(-1, width).t().contiguous().float()
    places_OBK = (places_BOK * batch + torch.arange(batch, device=places_BOK.device)[:, None, None]).transpose(0, 1)
    narrow_OBR = _weigh_rows(turned_WR.view(-1, 3 * height), places_OBK, weights_BOK.transpose(0, 1)).floor_()
    return narrow_OBR.flatten(1).t().contiguous()


def _of_channels(places_BOK: Tensor, weights_BOK: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Positions and weights (B, 3, O, K) in a stack of channels of `rows` rows each."""
    start_B311 = torch.arange(3 * len(places_BOK), device=places_BOK.device).view(-1, 3, 1, 1) * rows
    places_B3OK = start_B311 + places_BOK[:, None]
    return places_B3OK, weights_BOK[:, None].expand_as(places_B3OK)


def source_weights(
    start_B: Tensor, stop_B: Tensor, source: int, size: int, interpolation: str
) -> tuple[Tensor, Tensor]:
    """Positions (B, O, K) int64 and weights (B, O, K) float32, multiples of 2^-15 that sum to 1, on the CPU.

    The box [start, stop) of `source` pixels in a row becomes `size` pixels. Pillow's precompute_coeffs, with its float32 box.
    """
    start_B, stop_B = start_B.float(), stop_B.float()
    step_B11 = (stop_B - start_B).double()[:, None, None] / size
    widening_B11 = step_B11.clamp_min(1)
    reach_B11 = RADIUS[interpolation] * widening_B11
    centre_BO1 = start_B.double()[:, None, None] + (torch.arange(size, dtype=torch.float64)[:, None] + 0.5) * step_B11
    first_BO1 = (centre_BO1 - reach_B11 + 0.5).floor().clamp_min(0)
    last_BO1 = (centre_BO1 + reach_B11 + 0.5).floor().clamp_max(source)  # the first position that is not read
    place_BOK = first_BO1 + torch.arange(int((last_BO1 - first_BO1).max()))
    weights_BOK = _kernel((place_BOK - centre_BO1 + 0.5) / widening_B11, interpolation)
    weights_BOK = torch.where(place_BOK < last_BO1, weights_BOK, 0)
    return place_BOK.clamp_max(source - 1).long(), _in_steps(weights_BOK / weights_BOK.sum(-1, keepdim=True))


def _kernel(distances: Tensor, interpolation: str) -> Tensor:
    """The filter at `distances` in (widened) source pixels from the centre; Keys 1981, equation 15, where cubic."""
    x = distances.abs()
    if interpolation == "bilinear":
        return (1 - x).clamp_min(0)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0))


def _in_steps(weights_BOK: Tensor) -> Tensor:
    """Multiples of 2^-15; the largest weight takes what rounding leaves, so that flat areas stay flat."""
    whole_BOK = (weights_BOK * STEPS).round()
    rest_BO1 = STEPS - whole_BOK.sum(-1, keepdim=True)
    return whole_BOK.scatter_add(-1, whole_BOK.argmax(-1, keepdim=True), rest_BO1).div_(STEPS).float()


def _weigh_rows(levels_RW: Tensor, places_K: Tensor, weights_K: Tensor) -> Tensor:
    """Weighted sums of K rows each, plus a half and within 0..255.5, so that their whole part is the level: float32 (..., W).

    Positions (..., K) int64 and weights (..., K) float32. One bag of K rows for every output row: measured faster on a CPU
    than K gathers, and than products with dense matrices.
    """
    taps = places_K.shape[-1]
    rows, weights = places_K.reshape(-1, taps), weights_K.reshape(-1, taps)
    sums = F.embedding_bag(rows, levels_RW, per_sample_weights=weights, mode="sum")
    return sums.add_(0.5).clamp_(0, 255.5).view(*places_K.shape[:-1], -1)


def _as_bytes(levels: Tensor) -> Tensor:
    """uint8, whole parts of float32 in 0..255.5, same shape and device. On a CPU numpy takes a quarter of torch's time."""
    return torch.from_numpy(levels.numpy().astype(np.uint8)) if levels.device.type == "cpu" else levels.to(torch.uint8)
