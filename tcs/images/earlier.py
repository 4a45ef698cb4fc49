"""Pixel rules 1: what releases before `pixels` stood in a store's identity made of an image, kept to the bit for their stores.

Transparency is dropped, the EXIF orientation and colour profiles are not looked at, the first frame of an animation counts.
"""

import numpy as np
from PIL import Image

from tcs.images.colour import BadPixelsError


def to_rgb(image: Image.Image) -> Image.Image:
    """A loaded image as RGB. BadPixelsError for pixels without a known meaning."""
    if image.mode == "RGB" and image.format == "JPEG":
        return image  # convert() would copy it; other formats keep a decoder for further frames
    if image.mode == "F":
        raise BadPixelsError("floating-point pixels have no fixed range")
    if image.mode.startswith("I"):
        return _sixteen_bit_to_rgb(image)
    if image.mode == "P":  # by way of RGBA, as PIL asks where the palette has transparency
        image = image.convert("RGBA")
    return image.convert("RGB")


def _sixteen_bit_to_rgb(image: Image.Image) -> Image.Image:
    """The upper 8 of 16 bits: PIL itself would clip every value above 255 to white."""
    values_HW = np.asarray(image)
    if values_HW.min() < 0 or values_HW.max() > 65535:
        raise BadPixelsError("integer pixels outside 0 to 65535 have no known range")
    return Image.fromarray((values_HW >> 8).astype(np.uint8)).convert("RGB")
