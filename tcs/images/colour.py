"""A loaded Pillow image of any mode -> 8-bit sRGB, by pixel rules 2. docs/reference/data.md has the table.

Legend: H height, W width, S rows of a strip.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tcs.images.profiles import BadProfileError, is_srgb, to_srgb

# What happened to an image, for the counts at the end of an extraction.
TURNED = "turned_upright"
TRANSPARENT = "transparent"
NARROW = "narrow_16_bit"
CONVERTED = "colour_profile"
IGNORED = "bad_colour_profile"
FIRST_FRAME = "first_frame"

STRIP_ROWS = 256  # of wide pixels, so that 8 bytes a value are never there for the whole image
NARROW_BELOW = 1 << 14  # of 65,536 values: 8 to 14 bits, as sensors and scanners have them
GREY = frozenset(("1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"))


class BadPixelsError(Exception):
    """Pixels without a known meaning; str() is the reason."""


def to_rgb(image: Image.Image, background: str, sixteen_bits: bool) -> tuple[Image.Image, set[str]]:
    """The image as mode RGB (itself where it is so), and what was done. BadPixelsError for pixels without a known meaning.

    `sixteen_bits` says that pixels of 8 bits are the upper half of what the file had.
    """
    done: set[str] = set()
    profile = image.info.get("icc_profile") or b""
    is_grey = image.mode in GREY
    if image.mode.startswith("I") or image.mode == "F":
        colours, alpha = _eight_bits(image, done)
    elif image.has_transparency_data:
        colours, alpha = _parted(image.convert("RGBA"))
    else:
        colours, alpha = image, None
    if sixteen_bits and image.mode.startswith("RGB") and _highest(colours) < NARROW_BELOW >> 8:
        done.add(NARROW)
    colours = _srgb(colours, profile if isinstance(profile, bytes) else b"", is_grey, done)
    if alpha is not None and alpha.getextrema()[0] < 255:  # type: ignore[operator]  # of one band: (least, most)
        done.add(TRANSPARENT)
        canvas = Image.new("RGB", colours.size, background)
        canvas.paste(colours, mask=alpha)  # (colour * alpha + background * (255 - alpha)) / 255, rounded
        colours = canvas
    return colours, done


def follow_profile(image: Image.Image, profile: bytes) -> tuple[Image.Image, set[str]]:
    """An RGB image with its colours as sRGB, and what was done."""
    done: set[str] = set()
    return _srgb(image, profile, False, done), done


def _parted(rgba: Image.Image) -> tuple[Image.Image, Image.Image]:
    """Colours and alpha; a function of its own, so that the whole goes before more is made of the parts."""
    return rgba.convert("RGB"), rgba.getchannel("A")


def _srgb(colours: Image.Image, profile: bytes, is_grey: bool, done: set[str]) -> Image.Image:
    """Colours of any 8-bit mode as RGB, by their profile where it makes sense."""
    if colours.mode not in ("RGB", "L", "CMYK", "LAB"):
        colours = colours.convert("RGB")
    if profile:
        try:
            source = colours.convert("L") if is_grey else colours
            if is_srgb(profile, source.mode):
                return colours
            shown = to_srgb(source, profile)
            done.add(CONVERTED)
            return shown
        except BadProfileError:
            done.add(IGNORED)
    return colours if colours.mode == "RGB" else colours.convert("RGB")


def _eight_bits(image: Image.Image, done: set[str]) -> tuple[Image.Image, Image.Image | None]:
    """Wide grey pixels as 8 bits, and the alpha of one value that the file calls transparent."""
    _require_range(image, done)
    scale = 255 if image.mode == "F" else 1 / 256  # the upper 8 of 16 bits, of all images alike
    shown_HW = np.empty((image.height, image.width), np.uint8)
    clear = image.info.get("transparency")
    opaque_HW = np.full_like(shown_HW, 255) if isinstance(clear, int) else None
    for rows, values_SW in _strips(image):
        scaled_SW = values_SW.astype(np.float64) * scale
        shown_HW[rows] = np.rint(scaled_SW) if image.mode == "F" else np.floor(scaled_SW)
        if opaque_HW is not None:
            opaque_HW[rows][values_SW == clear] = 0
    return Image.fromarray(shown_HW), None if opaque_HW is None else Image.fromarray(opaque_HW)


def _require_range(image: Image.Image, done: set[str]) -> None:
    """BadPixelsError for wide values of no known range; says where integers use little of theirs."""
    extremes = np.array([(values_SW.min(), values_SW.max()) for _, values_SW in _strips(image)], np.float64)
    low, high = extremes.min(), extremes.max()  # not a number where any value is not
    if image.mode == "F":
        if not (low >= 0 and high <= 1):
            raise BadPixelsError(
                f"floating-point pixels from {low:g} to {high:g}; only 0 to 1 has a known meaning: save the file with 8 or 16 bits"
            )
    elif low < 0 or high > 65535:
        raise BadPixelsError("integer pixels outside 0 to 65535 have no known range")
    elif high < NARROW_BELOW:
        done.add(NARROW)


def _strips(image: Image.Image) -> Iterator[tuple[slice, NDArray[np.generic]]]:
    for top in range(0, image.height, STRIP_ROWS):
        bottom = min(top + STRIP_ROWS, image.height)
        yield slice(top, bottom), np.asarray(image.crop((0, top, image.width, bottom)))


def _highest(image: Image.Image) -> int:
    """The highest value of any band."""
    extrema = image.getextrema()
    bands = extrema if isinstance(extrema[0], tuple) else (extrema,)
    return max(int(most) for _, most in bands)
