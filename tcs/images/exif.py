"""The orientation in EXIF data (EXIF 2.32, 4.6.4; TIFF 6.0, 2), and what it asks for.

Read from the first directory alone, without following an offset to any value: whatever the data claims, nothing is allocated, and
at most 65,535 entries are looked at. Data that is damaged says nothing.
"""

import binascii
import struct
from collections.abc import Mapping

from PIL import Image

ORIENTATION = 0x0112
SHORT, LONG = 3, 4
ENTRY_BYTES = 12
BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
UPRIGHT = 1

# orientation -> what makes the image upright
TURNS: Mapping[int, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
OPPOSITE = {6: 8, 8: 6}  # of the others each is its own
QUARTER_TURNS = (5, 6, 7, 8)
# Where the first column or row of the stored pixels, whichever of them is upright, ends up at the right; and at the bottom
MIRRORED_ACROSS, MIRRORED_DOWN = (2, 3, 6, 7), (3, 4, 7, 8)


def orientation_in(exif: bytes) -> int:
    """1 to 8, as the EXIF data says; 1 where it says nothing, or nothing that makes sense."""
    body = exif.removeprefix(b"Exif\0\0")
    order = BYTE_ORDERS.get(body[:4])
    if order is None:
        return UPRIGHT
    try:
        (first,) = struct.unpack_from(f"{order}I", body, 4)
        (entries,) = struct.unpack_from(f"{order}H", body, first)
        for place in range(first + 2, first + 2 + ENTRY_BYTES * entries, ENTRY_BYTES):
            tag, kind = struct.unpack_from(f"{order}HH", body, place)
            if tag == ORIENTATION:
                (value,) = struct.unpack_from(f"{order}{'I' if kind == LONG else 'H'}", body, place + 8)
                return value if kind in (SHORT, LONG) and value in TURNS else UPRIGHT
    except struct.error:  # beyond the end
        pass
    return UPRIGHT


def exif_in_text(text: str) -> bytes:
    """The EXIF data that ImageMagick writes into PNG files as text: a head of three lines, then hexadecimal digits."""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except (ValueError, binascii.Error):
        return b""


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The image turned or mirrored as its orientation asks."""
    turn = TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def as_stored(image: Image.Image, orientation: int) -> Image.Image:
    """The opposite of `upright`."""
    return upright(image, OPPOSITE.get(orientation, orientation))
