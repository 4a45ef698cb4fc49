"""Antialiased resampling of one box per image to a square, for a whole batch at once, with the same result on every device.

The filters are Pillow's: a triangle (bilinear) or Keys' cubic with a = -1/2 (bicubic), widened by the factor of shrinking,
normalised over the pixels inside the image, first across, then down, with a rounding to whole levels between. Weights are
whole multiples of 2^-15 that sum to 1 (Pillow's are of 2^-22). Products with levels 0..255 and all their partial sums are then
whole numbers below 2^24 in units of 2^-15, which float32 holds exactly: in whatever order a device adds, and however the batch
is cut, the levels are the same. Against Pillow, coarser weights move a value by less than 0.004 a weight before each rounding:
less than 1 in 100 levels is off by one, a few in a million by two (measured on noise and on photographs).

Legend: B batch, H source height, W source width, O output positions, K source positions that one output position reads.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

STEPS = 1 << 15  # of which 1 is made

RADIUS = {"bilinear": 1.0, "bicubic": 2.0}


def resample_boxes(images_B3HW: Tensor, boxes_B4: Tensor, size: int, interpolation: str) -> Tensor:
    """uint8 (B, 3, size, size): box b of image b, resampled; on the images' device.

    images_B3HW uint8; boxes_B4 float32 on the CPU: (top, left, height, width) as shares of the image.
    """
    height, width = images_B3HW.shape[2:]
    top_B, left_B, high_B, wide_B = boxes_B4.double().unbind(1)
    across = source_weights(left_B * width, (left_B + wide_B).clamp_max(1) * width, width, size, interpolation)
    down = source_weights(top_B * height, (top_B + high_B).clamp_max(1) * height, height, size, interpolation)
    turned_B3WH = images_B3HW.transpose(2, 3).contiguous().float()  # bytes are turned sooner than floats
    narrow_B3HO = _weigh_rows(turned_B3WH, *across).transpose(2, 3).contiguous()
    return _weigh_rows(narrow_B3HO, *down).to(torch.uint8)


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


def _weigh_rows(levels_B3HW: Tensor, places_BOK: Tensor, weights_BOK: Tensor) -> Tensor:
    """Weighted sums of rows, rounded to levels 0..255: float32 (B, 3, O, W).

    One bag of K rows for every output row: measured faster on a CPU than K gathers, and than products with dense matrices.
    """
    batch, _, height, width = levels_B3HW.shape
    device, taps = levels_B3HW.device, places_BOK.shape[-1]
    starts_B311 = torch.arange(3 * batch, device=device).view(batch, 3, 1, 1) * height
    rows = (starts_B311 + places_BOK.to(device)[:, None]).view(-1, taps)
    weights = weights_BOK.to(device)[:, None].expand(-1, 3, -1, -1).reshape(-1, taps)
    sums = F.embedding_bag(rows, levels_B3HW.view(-1, width), per_sample_weights=weights, mode="sum")
    return sums.add_(0.5).floor_().clamp_(0, 255).view(batch, 3, -1, width)
