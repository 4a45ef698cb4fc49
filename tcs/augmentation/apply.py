"""Drawn augmentation applied to uint8 images where they lie: crop, flips, colours, grey, erasing.

Legend: B batch rows, S source side in pixels.
"""

import torch
from torch import Tensor

from tcs.augmentation.colour import change_colours, make_grey
from tcs.augmentation.draws import Draws, draw_crops, draw_flips
from tcs.augmentation.erasing import erase
from tcs.augmentation.pixels import groups, move
from tcs.augmentation.resampling import resample_boxes
from tcs.errors import DataError


def apply(images_B3SS: Tensor, draws: Draws, size: int) -> Tensor:
    """uint8 (B, 3, size, size) on the images' device: image b changed by row b of `draws`, and by nothing else.

    images_B3SS uint8, square, of any side: without a box of its own an image of another side is resampled as a whole. The
    result does not depend on which other rows are applied together, and may be the input itself where nothing is drawn. DataError
    for images that are not such.
    """
    _check_images(images_B3SS, draws)
    if not draws.count:
        return images_B3SS.new_empty(0, 3, size, size)
    shown = _resize(images_B3SS, draws, size)
    shown = move(shown, draws.offsets_B2, draws.padding, draws.hflips_B, draws.vflips_B)
    if draws.colours_B4 is None and draws.greys_B is None and draws.holes_BR4 is None:
        return shown
    parts = list(groups(draws.count, 3 * size**2, shown.device))
    if len(parts) <= 1:
        return _recolour(shown, draws)
    return torch.cat([_recolour(shown[part], draws.rows(part)) for part in parts])


def augment(images_B3SS: Tensor, padding: int, hflip: float, generator: torch.Generator) -> Tensor:
    """Pad-and-crop, then flip, at the images' own size, with one draw an image from a CPU `generator`."""
    batch = len(images_B3SS)
    offsets_B2 = draw_crops(batch, padding, generator)
    hflips_B = draw_flips(batch, hflip, generator) if hflip else None
    draws = Draws(count=batch, padding=padding, offsets_B2=offsets_B2, hflips_B=hflips_B)
    return apply(images_B3SS, draws, images_B3SS.shape[-1])


def _check_images(images_B3SS: Tensor, draws: Draws) -> None:
    shape = tuple(images_B3SS.shape)
    if images_B3SS.dtype != torch.uint8 or len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3]:
        raise DataError(
            f"a batch to augment is {images_B3SS.dtype} of shape {shape}; it must be uint8 of shape (B, 3, S, S), "
            "square images: resize or crop them first."
        )
    if len(images_B3SS) != draws.count:
        raise DataError(
            f"a batch to augment has {len(images_B3SS)} images and {draws.count} draws; draw for as many, or take rows."
        )


def _recolour(shown: Tensor, draws: Draws) -> Tensor:
    if draws.colours_B4 is not None:
        shown = change_colours(shown, draws.colours_B4)
    if draws.greys_B is not None:
        shown = make_grey(shown, draws.greys_B)
    return shown if draws.holes_BR4 is None else erase(shown, draws)


def _resize(images_B3SS: Tensor, draws: Draws, size: int) -> Tensor:
    boxes_B4 = draws.boxes_B4
    if boxes_B4 is None:
        if images_B3SS.shape[-1] == size:
            return images_B3SS
        boxes_B4 = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(draws.count, 4)
    return resample_boxes(images_B3SS, boxes_B4, size, draws.interpolation)
