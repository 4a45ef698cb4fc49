"""What happens to each image of a batch, drawn on the CPU: every device and every rank sees the same draws.

Numbers are drawn for the whole batch in a fixed order, and what is off draws nothing: crop, horizontal and vertical flips,
which images are jittered, colours, greys, erasing. A rank draws for the whole batch and applies its own rows.

Legend: B batch rows, R rectangles erased at most.
"""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from tcs.config.augment import AugmentConfig

ATTEMPTS = 10  # tries at a box that fits; as timm and torchvision
ERASED_AREA = (0.02, 1 / 3)  # share of the image, over all rectangles (Zhong et al. 2020, as timm)
ERASED_RATIO = (0.3, 1 / 0.3)  # width / height, and the same turned round
NOISE_SEEDS = 1 << 31


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Draws:
    """The draws of `count` images, as CPU tensors; None for what is off. Draws of nothing show the images as they are.

    `padding` is the number of black pixels on each side that offsets cut from, `interpolation` how images are resized.
    offsets_B2 int64 (top, left) in 0..2 padding; boxes_B4 float32 (top, left, height, width) as shares of the image;
    hflips_B, vflips_B and greys_B bool; colours_B4 float32 (factors of brightness, contrast and saturation; hue as a share of
    the circle); holes_BR4 float32 (height and width as shares of the image; top and left as shares of the room that is
    left), all zero where nothing is erased; paint_BR3 uint8 (`--remode rand`); noise_B int64 seeds (`--remode pixel`).
    """

    count: int
    padding: int = 0
    interpolation: str = "bicubic"
    offsets_B2: Tensor | None = None
    boxes_B4: Tensor | None = None
    hflips_B: Tensor | None = None
    vflips_B: Tensor | None = None
    colours_B4: Tensor | None = None
    greys_B: Tensor | None = None
    holes_BR4: Tensor | None = None
    paint_BR3: Tensor | None = None
    noise_B: Tensor | None = None

    def rows(self, index: slice | Tensor) -> "Draws":
        """The draws of some rows: a slice, positions or flags. Row i keeps its draws, whatever other rows are taken."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        taken: dict[str, Any] = {name: value[index] for name, value in values.items() if isinstance(value, Tensor)}
        return dataclasses.replace(self, count=len(torch.arange(self.count)[index]), **taken)


def draw(config: AugmentConfig, size: int, batch: int, generator: torch.Generator) -> Draws:
    """Draws of `batch` images to be shown at `size` pixels, from a CPU generator. A pure function of the four."""
    pads = config.scale is None
    offsets_B2 = draw_crops(batch, config.padding(size), generator) if pads else None
    boxes_B4 = None if config.scale is None else _draw_boxes(config.scale, config.ratio, batch, generator)
    hflips_B = draw_flips(batch, config.hflip, generator) if config.hflip else None
    vflips_B = draw_flips(batch, config.vflip, generator) if config.vflip else None
    colours_B4 = _draw_colours(config, batch, generator) if config.color_jitter else None
    greys_B = draw_flips(batch, config.grayscale_prob, generator) if config.grayscale_prob else None
    holes_BR4 = _draw_holes(config, batch, generator) if config.reprob else None
    paint_BR3 = noise_B = None
    if config.reprob and config.remode == "rand":
        paint_BR3 = torch.randint(0, 256, (batch, config.recount, 3), generator=generator).to(torch.uint8)
    if config.reprob and config.remode == "pixel":
        noise_B = torch.randint(0, NOISE_SEEDS, (batch,), generator=generator)
    return Draws(
        count=batch,
        padding=config.padding(size) if pads else 0,
        interpolation=config.train_interpolation,
        offsets_B2=offsets_B2,
        boxes_B4=boxes_B4,
        hflips_B=hflips_B,
        vflips_B=vflips_B,
        colours_B4=colours_B4,
        greys_B=greys_B,
        holes_BR4=holes_BR4,
        paint_BR3=paint_BR3,
        noise_B=noise_B,
    )


def draw_crops(batch: int, padding: int, generator: torch.Generator) -> Tensor:
    """Offsets (B, 2) int64 in 0..2 padding, one (top, left) pair an image. A padding of 0 draws as well."""
    return torch.randint(0, 2 * padding + 1, (batch, 2), generator=generator)


def draw_flips(batch: int, probability: float, generator: torch.Generator) -> Tensor:
    """Bool (B,), true with `probability`."""
    return torch.rand(batch, generator=generator) < probability


def _draw_boxes(
    areas: tuple[float, float], ratios: tuple[float, float], batch: int, generator: torch.Generator
) -> Tensor:
    """Boxes (B, 4), as shares of a square image: the first attempt that fits, else the largest centre box of a possible ratio."""
    numbers = torch.rand(batch, ATTEMPTS, 4, generator=generator, dtype=torch.float64)
    height, width = _sides(numbers[..., :2], areas, ratios)
    fits, first = _first_fit((height <= 1) & (width <= 1))
    room = 1 - torch.stack([height, width], -1)
    boxes = torch.cat([numbers[..., [3, 2]] * room, height[..., None], width[..., None]], -1)
    least, most = ratios
    ratio = min(max(1.0, least), most)
    wide, high = min(1.0, ratio), min(1.0, 1 / ratio)
    centre = torch.tensor([(1 - high) / 2, (1 - wide) / 2, high, wide], dtype=torch.float64)
    return torch.where(fits[:, None], boxes[torch.arange(batch), first], centre).float()


def _sides(numbers: Tensor, areas: tuple[float, float], ratios: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Height and width as shares of a square: area uniform, ratio width / height log-uniform."""
    area = areas[0] + (areas[1] - areas[0]) * numbers[..., 0]
    low, high = math.log(ratios[0]), math.log(ratios[1])
    ratio = (low + (high - low) * numbers[..., 1]).exp()
    return (area / ratio).sqrt(), (area * ratio).sqrt()


def _first_fit(fitting: Tensor) -> tuple[Tensor, Tensor]:
    """Along the last axis: whether any attempt fits, and the first that does (0 where none)."""
    return fitting.any(-1), fitting.to(torch.uint8).argmax(-1)


def _draw_colours(config: AugmentConfig, batch: int, generator: torch.Generator) -> Tensor:
    """Factors and hue (B, 4); (1, 1, 1, 0) for images that are left alone."""
    jitter = config.color_jitter
    jittered_B = None
    if config.color_jitter_prob < 1:
        jittered_B = draw_flips(batch, config.color_jitter_prob, generator)
    numbers_B4 = 2 * torch.rand(batch, 4, generator=generator, dtype=torch.float64) - 1
    neutral_4 = torch.tensor([1, 1, 1, 0], dtype=torch.float64)
    reach_4 = torch.tensor([jitter, jitter, jitter, jitter / 4], dtype=torch.float64)
    colours_B4 = (neutral_4 + reach_4 * numbers_B4).float()
    return colours_B4 if jittered_B is None else torch.where(jittered_B[:, None], colours_B4, neutral_4.float())


def _draw_holes(config: AugmentConfig, batch: int, generator: torch.Generator) -> Tensor:
    """Rectangles (B, R, 4): 1 to `recount` of them, which share the erased area, in a share `reprob` of the images."""
    most = config.recount
    erased_B = draw_flips(batch, config.reprob, generator)
    counts_B = torch.randint(1, most + 1, (batch,), generator=generator) if most > 1 else torch.ones(batch)
    numbers = torch.rand(batch, most, ATTEMPTS, 2, generator=generator, dtype=torch.float64)
    places_BR2 = torch.rand(batch, most, 2, generator=generator, dtype=torch.float64)
    height, width = (
        side * counts_B.double().rsqrt()[:, None, None] for side in _sides(numbers, ERASED_AREA, ERASED_RATIO)
    )
    fits_BR, first_BR = _first_fit((height < 1) & (width < 1))
    sides_BR2 = torch.stack([side.gather(2, first_BR[..., None])[..., 0] for side in (height, width)], -1)
    used_BR = fits_BR & erased_B[:, None] & (torch.arange(most) < counts_B[:, None])
    return torch.where(used_BR[..., None], torch.cat([sides_BR2, places_BR2], -1), 0).float()
