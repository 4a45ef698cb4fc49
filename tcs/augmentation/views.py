"""Augmented views of an image that can be shown again: the parameters are numbers in the store, drawn once by the teacher's pass.

A view is a box of the image resized to the input, perhaps mirrored, its colours perhaps changed. The box is kept relative to the
image, so a student at another size, or reading a smaller copy of the image, sees the same part. Parameters are float32 before
they are used, so what is stored is what was shown. Neither torch nor a teacher is needed here.

Legend: V views, P parameters.
"""

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

# `flip` and `grey` are 0 or 1; brightness, contrast and saturation are factors; `hue` is a share of the colour circle.
PARAMETERS = ("top", "left", "height", "width", "flip", "brightness", "contrast", "saturation", "hue", "grey")

BOX_ATTEMPTS = 10

SEMANTICS = 1  # raised by hand, when the same parameters would give other pixels, or the same seed other parameters


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewPolicy:
    """From what the parameters of `count` views are drawn; `jitter` is timm's --color-jitter, a quarter of it for the hue."""

    count: int
    scale: tuple[float, float]
    ratio: tuple[float, float]
    hflip: float
    jitter: float
    grayscale: float
    seed: int

    def identity(self) -> dict[str, Any]:
        """What decides the views, as JSON."""
        return {
            **dataclasses.asdict(self),
            "scale": list(self.scale),
            "ratio": list(self.ratio),
            "semantics": SEMANTICS,
        }

    def draw(self, key: str, size: tuple[int, int]) -> NDArray[np.float32]:
        """Parameters (V, P) of the image `key` with `size` (width, height) in pixels; a function of those and the policy."""
        rows = [self._view(_uniform_numbers(self.seed, key, view), *size) for view in range(self.count)]
        return np.array(rows, np.float32)

    def _view(self, numbers: Iterator[float], width: int, height: int) -> list[float]:
        """One view, in the order of PARAMETERS."""
        box = self._box(numbers, width, height)
        flip = float(next(numbers) < self.hflip)
        factors = [1 + self.jitter * (2 * next(numbers) - 1) for _ in range(3)]
        hue = self.jitter / 4 * (2 * next(numbers) - 1)
        return [*box, flip, *factors, hue, float(next(numbers) < self.grayscale)]

    def _box(self, numbers: Iterator[float], width: int, height: int) -> tuple[float, float, float, float]:
        """Relative top, left, height and width: a share of the area and a ratio of sides in pixels, as timm's random crop."""
        for _ in range(BOX_ATTEMPTS):
            area = width * height * (self.scale[0] + (self.scale[1] - self.scale[0]) * next(numbers))
            low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
            ratio = math.exp(low + (high - low) * next(numbers))
            box_width, box_height = math.sqrt(area * ratio), math.sqrt(area / ratio)
            across, down = next(numbers), next(numbers)
            if box_width <= width and box_height <= height:
                relative_height, relative_width = box_height / height, box_width / width
                return down * (1 - relative_height), across * (1 - relative_width), relative_height, relative_width
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])  # the largest centre box of a possible ratio
        relative_height, relative_width = min(1.0, width / ratio / height), min(1.0, height * ratio / width)
        return (1 - relative_height) / 2, (1 - relative_width) / 2, relative_height, relative_width


def replay(
    image: Image.Image, parameters: NDArray[np.float32], size: tuple[int, int], interpolation: str = "bicubic"
) -> Image.Image:
    """The view with `parameters` (P,) of an RGB image, resized to `size` (height, width).

    With the teacher's size and interpolation, and the image it saw, these are the pixels that the teacher saw.
    """
    values = dict(zip(PARAMETERS, np.asarray(parameters, np.float64).tolist(), strict=True))
    resample = Image.Resampling[interpolation.upper()]
    view = image.resize((size[1], size[0]), resample, box=_pixel_box(values, image.width, image.height))
    if values["flip"]:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for name, change in _COLOURS:
        if values[name] != 1:
            view = change(view).enhance(values[name])
    if values["hue"]:
        view = _turn_hue(view, values["hue"])
    return view.convert("L").convert("RGB") if values["grey"] else view


# Always in this order; a factor of 1 is left out.
_COLOURS = (
    ("brightness", ImageEnhance.Brightness),
    ("contrast", ImageEnhance.Contrast),
    ("saturation", ImageEnhance.Color),
)


def _pixel_box(values: Mapping[str, float], width: int, height: int) -> tuple[float, float, float, float]:
    """Left, top, right and bottom in pixels, within the image in spite of rounding."""
    right, bottom = values["left"] + values["width"], values["top"] + values["height"]
    return (values["left"] * width, values["top"] * height, min(right, 1) * width, min(bottom, 1) * height)


def _turn_hue(image: Image.Image, share: float) -> Image.Image:
    """All hues turned by a share of the circle, in PIL's 256 steps."""
    hue, saturation, value = image.convert("HSV").split()
    turned_HW = (np.asarray(hue).astype(np.int64) + round(share * 256)) % 256
    return Image.merge("HSV", (Image.fromarray(turned_HW.astype(np.uint8)), saturation, value)).convert("RGB")


def _uniform_numbers(seed: int, key: str, view: int) -> Iterator[float]:
    """Numbers in [0, 1), by hashing: the same with every release of numpy, in every process, in any order of images."""
    count = 4 * BOX_ATTEMPTS + 6
    data = hashlib.shake_256(f"{seed}\0view {view}\0{key}".encode()).digest(8 * count)
    return iter((np.frombuffer(data, "<u8") >> np.uint64(11)).astype(np.float64) * 2.0**-53)
