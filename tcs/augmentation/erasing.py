"""Random erasing of rectangles (Zhong et al. 2020), on uint8, before normalisation, which is each student's own.

timm erases after normalisation: with 0 (`const`) or normal noise (`rand`, `pixel`). Before it, `const` paints the mean colour of
ImageNet, which most models normalise to about 0; `rand` paints one uniform colour a rectangle, and `pixel` one a pixel, as in
the paper. Pixel noise is a hash of (seed of the image, position), so no noise is moved between devices.

Legend: B batch, S side in pixels, R rectangles at most.
"""

import torch
from torch import Tensor

from tcs.augmentation.draws import NOISE_SEEDS, Draws
from tcs.augmentation.pixels import change_rows

MEAN_COLOUR = (124, 116, 104)  # of ImageNet, in levels of 255

MASK = NOISE_SEEDS - 1  # the hash works in 31 bits, so that int64 products do not overflow

STEP, FIRST, SECOND = 0x1E3779B1, 0x45D9F3B3, 0x2C1B3C6D  # odd numbers with mixed bits


def erase(images_B3SS: Tensor, draws: Draws) -> Tensor:
    """uint8 (B, 3, S, S): the rectangles `draws.holes_BR4` painted over, later ones over earlier ones."""
    assert draws.holes_BR4 is not None
    return change_rows(
        images_B3SS, (draws.holes_BR4[..., 0] > 0).any(1), lambda images, which: _erase(images, draws.rows(which))
    )


def _erase(images_B3SS: Tensor, draws: Draws) -> Tensor:
    assert draws.holes_BR4 is not None
    for rectangle, mask_BSS in enumerate(_masks(draws.holes_BR4, images_B3SS.shape[-1], images_B3SS.device)):
        paint = _paint(draws, rectangle, images_B3SS.shape[-1], images_B3SS.device)
        images_B3SS = torch.where(mask_BSS[:, None], paint, images_B3SS)
    return images_B3SS


def _masks(holes_BR4: Tensor, side: int, device: torch.device) -> list[Tensor]:
    """For each rectangle, bool (B, S, S): which pixels it covers."""
    sizes_BR2 = (holes_BR4[..., :2].double() * side).round().clamp_max(side)
    starts_BR2 = (holes_BR4[..., 2:].double() * (side - sizes_BR2 + 1)).floor()
    place_S = torch.arange(side, dtype=torch.float64)
    inside_BR2S = (place_S >= starts_BR2[..., None]) & (place_S < (starts_BR2 + sizes_BR2)[..., None])
    rows_BRS, columns_BRS = inside_BR2S.to(device).unbind(2)
    return list((rows_BRS[..., None] & columns_BRS[:, :, None]).unbind(1))


def _paint(draws: Draws, rectangle: int, side: int, device: torch.device) -> Tensor:
    """uint8 that broadcasts to (B, 3, S, S)."""
    if draws.noise_B is not None:
        return noise(draws.noise_B.to(device), side)
    if draws.paint_BR3 is not None:
        return draws.paint_BR3[:, rectangle, :, None, None].to(device)
    return torch.tensor(MEAN_COLOUR, dtype=torch.uint8, device=device)[:, None, None]


def noise(seeds_B: Tensor, side: int) -> Tensor:
    """uint8 (B, 3, S, S): multiply and shift, twice, in whole numbers, so equal on every device."""
    place = torch.arange(3 * side * side, device=seeds_B.device)
    mixed = (seeds_B[:, None] ^ (place * STEP)) & MASK
    for odd in (FIRST, SECOND):
        mixed = ((mixed ^ (mixed >> 15)) * odd) & MASK
    return (mixed >> 19 & 255).to(torch.uint8).view(-1, 3, side, side)
