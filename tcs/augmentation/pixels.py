"""Whole-pixel moves of uint8 batches, and their normalisation.

Legend: B batch rows, H and W image height and width in pixels.
"""

import itertools
import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

HORIZONTAL, VERTICAL = -1, -2  # the axis that a mirror turns round

# Values of a group of images whose float32 copies are made together. On a CPU they stay in a core's cache, which more than halved
# the time of 64 images at 224 px; elsewhere the bound is on memory (several copies of 128 MiB).
GROUP_VALUES = {"cpu": 1 << 19}
GROUP_VALUES_ELSEWHERE = 1 << 25


def groups(batch: int, values: int, device: torch.device) -> Iterator[slice]:
    """Slices of a batch of images, each of `values` values, that fit together: of one image at least."""
    step = max(1, GROUP_VALUES.get(device.type, GROUP_VALUES_ELSEWHERE) // values)
    return (slice(start, min(start + step, batch)) for start in range(0, batch, step))


def move(
    images_B3HW: Tensor, offsets_B2: Tensor | None, padding: int, hflips_B: Tensor | None, vflips_B: Tensor | None
) -> Tensor:
    """Each image cut as `pad_crop` does, then mirrored as `flip` does; None is off. uint8 (B, 3, H, W), same device.

    On a CPU every image is copied once, whatever is done to it: at 224 px 5 times as fast as the three one after another, which are
    the fewest kernels elsewhere. It may be the input itself where nothing is moved.
    """
    offsets_B2 = offsets_B2 if padding else None
    flips = [flips_B for flips_B in (hflips_B, vflips_B) if flips_B is not None and bool(flips_B.any())]
    if offsets_B2 is None and not flips:
        return images_B3HW
    if images_B3HW.device.type == "cpu":
        return _copy_windows(images_B3HW, offsets_B2, padding, hflips_B, vflips_B)
    shown = images_B3HW if offsets_B2 is None else pad_crop(images_B3HW, offsets_B2, padding)
    shown = shown if hflips_B is None else flip(shown, hflips_B)
    return shown if vflips_B is None else flip(shown, vflips_B, VERTICAL)


def _copy_windows(
    images_B3HW: Tensor, offsets_B2: Tensor | None, padding: int, hflips_B: Tensor | None, vflips_B: Tensor | None
) -> Tensor:
    """`move` on a CPU: the part of each window that lies in its image, copied by numpy, which mirrors on the way as torch cannot."""
    height, width = images_B3HW.shape[2:]
    offsets = itertools.repeat((padding, padding)) if offsets_B2 is None else offsets_B2.tolist()
    moved_B3HW = images_B3HW.new_zeros(images_B3HW.shape)
    across, down = (
        itertools.repeat(False) if flips_B is None else flips_B.tolist() for flips_B in (hflips_B, vflips_B)
    )
    images = zip(images_B3HW.numpy(), moved_B3HW.numpy(), offsets, across, down, strict=False)
    for image_3HW, shown_3HW, (top, left), mirrored, overturned in images:
        rows, shown_rows = _overlap(top - padding, height)
        columns, shown_columns = _overlap(left - padding, width)
        turned_3HW = shown_3HW[:, :: -1 if overturned else 1, :: -1 if mirrored else 1]
        turned_3HW[:, shown_rows, shown_columns] = image_3HW[:, rows, columns]
    return moved_B3HW


def _overlap(start: int, side: int) -> tuple[slice, slice]:
    """What a window of `side` pixels from `start` on shows of an image of that side, and where in the window; both may be empty."""
    first = max(0, start)
    last = max(first, min(side, side + start))
    return slice(first, last), slice(first - start, last - start)


def pad_crop(images_B3HW: Tensor, offsets_B2: Tensor, padding: int) -> Tensor:
    """Each image padded by `padding` black pixels and cut back to its size at its own offset. uint8 (B, 3, H, W), same device."""
    if padding == 0:
        return images_B3HW
    batch, _, height, width = images_B3HW.shape
    top_B, left_B = offsets_B2.to(images_B3HW.device).unbind(1)
    windows = (
        F.pad(images_B3HW, (padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    )  # a view: (B, 3, tops, lefts, H, W)
    return windows[torch.arange(batch, device=images_B3HW.device), :, top_B, left_B]


def flip(images_B3HW: Tensor, flips_B: Tensor, axis: int = HORIZONTAL) -> Tensor:
    """Mirror the images whose flag (bool, CPU) is set: left to right, or top to bottom with axis VERTICAL."""
    return change_rows(images_B3HW, flips_B, lambda images, _: images.flip(axis))


def change_rows(images_B3HW: Tensor, flags_B: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The batch with the flagged images (bool, CPU) replaced by `change(those images, their positions on the CPU)`."""
    which, batch, device = flags_B.nonzero()[:, 0], len(images_B3HW), images_B3HW.device
    if len(which) == 0:
        return images_B3HW
    if len(which) == batch:
        return change(images_B3HW, which)
    changed = change(images_B3HW.index_select(0, which.to(device)), which)
    source_B = torch.arange(batch).index_put((which,), batch + torch.arange(len(which)))
    # Whole images are copied, byte for byte: on a CPU several times as fast as torch.where or index_copy.
    return torch.cat([images_B3HW, changed]).index_select(0, source_B.to(device))


def normalise(images_B3HW: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """float32 (B, 3, H, W) = (uint8 / 255 - mean) / std; mean and std have shape (3, 1, 1)."""
    return (images_B3HW.float() / 255.0 - mean) / std


def network_inputs(images_B3HW: Tensor, mean: Tensor, std: Tensor, *, channels_last: bool) -> Tensor:
    """`normalise`, bit for bit, on the images' device, in the memory layout that a network is fed.

    On a CPU a few images at a time, which stay in a core's cache while they are changed in place and laid out: at 224 px a quarter of the
    processor time of whole batches (benchmarks/RESULTS.md, 18), each of whose copies is memory that the system has to hand out.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    if images_B3HW.device.type != "cpu":
        return normalise(images_B3HW, mean, std).contiguous(memory_format=layout)
    inputs_B3HW = torch.empty(images_B3HW.shape, dtype=torch.float32, memory_format=layout)
    for part in groups(len(images_B3HW), math.prod(images_B3HW.shape[1:]), images_B3HW.device):
        inputs_B3HW[part] = images_B3HW[part].to(torch.float32, copy=True).div_(255.0).sub_(mean).div_(std)
    return inputs_B3HW
