"""What the headers of a file tell and Pillow's 8-bit pixels do not: bits of a value, EXIF data, the one transparent colour.

For images that Pillow has opened.
"""

import re

from PIL import ImageFile, TiffImagePlugin

from tcs.images.exif import exif_in_text

SIXTEEN = 16
PNG_DEPTH_AT = 24  # in the file: signature, length and name of IHDR, width, height
PNG_START = b"\x89PNG\r\n\x1a\n"
BITS_PER_SAMPLE = 258  # TIFF 6.0, 8
# Netpbm's pgm(5) and ppm(5): kind, width, height, largest value, with spaces and comments between; two bytes a value above 255.
PNM_HEAD_BYTES = 4096
PNM_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
PNM_HEAD = re.compile(rb"P[2356]" + (PNM_GAP + rb"\d{1,10}") * 2 + PNM_GAP + rb"(\d{1,5})\s")


def depth_of(data: bytes, image: ImageFile.ImageFile) -> int:
    """Bits of a value in the file, where that is one of which Pillow's pixels do not tell; else 0."""
    if data.startswith(PNG_START):
        return data[PNG_DEPTH_AT]
    if image.format == "PPM":
        found = PNM_HEAD.match(data[:PNM_HEAD_BYTES])
        return SIXTEEN if found is not None and int(found[1]) > 255 else 0
    return tiff_value(image, BITS_PER_SAMPLE)


def tiff_value(image: ImageFile.ImageFile, tag: int) -> int:
    """A whole number in the first directory of a TIFF, of several the first; 0 where it is none, or no TIFF."""
    value = image.tag_v2.get(tag, 0) if isinstance(image, TiffImagePlugin.TiffImageFile) else 0
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else 0


def exif_of(image: ImageFile.ImageFile) -> bytes:
    """The EXIF data of a loaded image, which may have come behind its pixels."""
    exif, text = image.info.get("exif"), image.info.get("Raw profile type exif")
    if isinstance(exif, bytes):
        return exif
    return exif_in_text(text) if isinstance(text, str) else b""


def mend_transparency(image: ImageFile.ImageFile, depth: int) -> None:
    """PNG (third edition, 11.3.2.1) tells the one transparent colour in the file's own depth; Pillow's pixels have 8 bits."""
    clear = image.info.get("transparency")
    if image.format != "PNG" or image.mode not in ("L", "RGB"):
        return
    if depth == SIXTEEN and isinstance(clear, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    elif depth in (2, 4) and isinstance(clear, int):
        image.info["transparency"] = clear * 255 // (2**depth - 1)
