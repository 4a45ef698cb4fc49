"""Large JPEGs at a half, a quarter or an eighth of their size, for frames that are far smaller than their files.

libjpeg makes one pixel of 2 x 2, 4 x 4 or 8 x 8 by an inverse DCT of fewer points, from the lowest frequencies of a block (IJG,
libjpeg.txt, "scale_num"), so that most of the work is never done. Other fractions exist (3/8, 5/8), have no vector code in
libjpeg-turbo, and not in Pillow, which has to give the same pixels.
"""

import math
from typing import NamedTuple

from tcs.images.exif import MIRRORED_ACROSS, MIRRORED_DOWN, QUARTER_TURNS, UPRIGHT

DIVISORS = (8, 4, 2)
SCALED = "scaled_decoding"  # what happened to an image, beside the names of tcs.images.colour


class Extent(NamedTuple):
    """Where the pixels of a file lie in an image that was decoded at a fraction: `box` is left, top, right, bottom in its pixels.

    `size` is width and height of the whole image. libjpeg rounds sides up, so the last column or row may be a part of one: a box
    that is off by it would shift all pixels of a frame (benchmarks/RESULTS.md, 18: three times the change).
    """

    size: tuple[int, int]
    box: tuple[float, float, float, float]


def divisor_for(size: tuple[int, int], least: int | None) -> int:
    """The largest of 8, 4, 2 and 1 that leaves the shorter side of an image at `least` pixels or more; 1 for None."""
    if least is None:
        return 1
    return next((divisor for divisor in DIVISORS if min(size) >= divisor * least), 1)


def extent_of(size: tuple[int, int], divisor: int, orientation: int = UPRIGHT) -> Extent:
    """The extent of a file of `size` that was decoded at 1 / `divisor`, then made upright by its `orientation`."""
    width, height = size[::-1] if orientation in QUARTER_TURNS else size
    left = _overhang(width, divisor) if orientation in MIRRORED_ACROSS else 0.0
    top = _overhang(height, divisor) if orientation in MIRRORED_DOWN else 0.0
    return Extent((width, height), (left, top, left + width / divisor, top + height / divisor))


def _overhang(side: int, divisor: int) -> float:
    """The part of the last pixel that lies beyond the image."""
    return math.ceil(side / divisor) - side / divisor
