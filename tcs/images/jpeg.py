"""Ordinary colour JPEGs by simplejpeg, and what stands in the markers of a JPEG, found without decoding it.

simplejpeg is the same library as Pillow's (libjpeg-turbo, accurate settings) with less around it, so the same pixels a tenth sooner
(benchmarks/RESULTS.md). All that is not ordinary is Pillow's.
"""

import dataclasses
import re
import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tcs.images.scaled import divisor_for

try:
    import simplejpeg
except ImportError:  # an extra: pip install "tcs-distill[fast]"
    simplejpeg = None

START = b"\xff\xd8"
MOST_QUICK_PIXELS = 50_000_000  # above it is Pillow, whose way looks for bombs first

# ITU T.81, B.1.1.3: markers without a length; those after which no other segment of interest comes
BARE = frozenset((0x01, *range(0xD0, 0xD9)))
END, SCAN = 0xD9, 0xDA
APP1, APP2 = 0xE1, 0xE2
EXIF, PROFILE = b"Exif\0\0", b"ICC_PROFILE\0"
SEGMENT = struct.Struct(">BBH").unpack_from  # 0xFF, kind, length
# Frames with Huffman codes (SOF0 to SOF2): each of the 8 x 8 blocks of a component that is not subsampled takes one bit or more.
FRAMES, PROGRESSIVE = (0xC0, 0xC1, 0xC2), 0xC2
FRAME_SIZE = struct.Struct(">HH").unpack_from  # height, width
PIXELS_A_BYTE = 8 * 8 * 8
MOST_SCANS = 500  # of progressive files: cameras and programs make about ten, and each costs as much as an image
SCAN_START = (
    b"\xff\xda"  # never among coded pixels, where a zero follows 0xFF; but anywhere in segments and behind the image
)
FILL = re.compile(rb"\xff+")
# A marker that ends coded pixels, or follows a segment: no coded 0xFF (a zero follows), no restart, none without a length
NEXT_MARKER = re.compile(rb"\xff+([\x02-\xcf\xd8-\xfe])")


class BadJpegError(Exception):
    """A JPEG that says of itself what its bytes cannot hold, or that takes minutes to decode; str() is the reason."""


@dataclasses.dataclass(frozen=True)
class Markers:
    """The EXIF data and the colour profile of a JPEG; empty where there is none."""

    exif: bytes = b""
    profile: bytes = b""


NO_MARKERS = Markers()


class Quick(NamedTuple):
    """Decoded pixels, uint8 (H, W, 3), of a file whose image has `size`, width and height, at 1 / `divisor` of it."""

    pixels_HW3: NDArray[np.uint8]
    size: tuple[int, int]
    divisor: int


def quick_pixels(data: bytes, least: int | None = None) -> Quick | None:
    """An ordinary colour JPEG; None where it is another file, or has anything odd about it. `least`: as of `divisor_for`."""
    if simplejpeg is None or not data.startswith(START):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours != "YCbCr" or height * width > MOST_QUICK_PIXELS:
            return None
        size = (width, height)
        divisor = divisor_for(size, least)
        pixels_HW3 = _at_fraction(data, size, divisor) if divisor > 1 else simplejpeg.decode_jpeg(data, "RGB")
    except ValueError:  # also for what can be recovered from: Pillow decides, as it would alone
        return None
    return None if pixels_HW3 is None else Quick(pixels_HW3, size, divisor)


def _at_fraction(data: bytes, size: tuple[int, int], divisor: int) -> NDArray[np.uint8] | None:
    """The pixels at 1 / `divisor`; None where simplejpeg, which is told the least sides alone, chose another fraction."""
    width, height = (-(-side // divisor) for side in size)  # libjpeg rounds up
    pixels_HW3: NDArray[np.uint8] = simplejpeg.decode_jpeg(
        data, "RGB", min_width=width, min_height=height, min_factor=divisor
    )
    return pixels_HW3 if pixels_HW3.shape[:2] == (height, width) else None


def markers_of(data: bytes) -> Markers:
    """What the segments before the pixels hold. Of several EXIF segments the first counts; a profile may be in several pieces.

    `NO_MARKERS` itself where there is nothing. BadJpegError for a frame that lies. Written for speed: a small JPEG is decoded in a
    tenth of a millisecond.
    """
    exif, pieces, place = b"", [], len(START)
    try:
        while True:
            mark, kind, length = SEGMENT(data, place)
            if mark != 0xFF or kind in (SCAN, END):
                break
            if kind in (APP1, APP2):
                if kind == APP1 and not exif and data.startswith(EXIF, place + 4):
                    exif = data[place + 4 : place + 2 + length]
                elif kind == APP2 and data.startswith(PROFILE, place + 4):
                    pieces.append(data[place + 4 + len(PROFILE) : place + 2 + length])
            elif kind == 0xFF:  # any number of fill bytes may stand before a marker
                place = FILL.match(data, place).end() - 1  # type: ignore[union-attr]  # it begins with one
                continue
            elif kind in BARE:
                place += 2
                continue
            elif kind in FRAMES:
                _check_frame(data, place, kind)
            if length < 2:  # it counts itself
                break
            place += 2 + length
    except struct.error:  # the end of the file
        pass
    if not exif and not pieces:
        return NO_MARKERS
    # Each piece begins with its number and the number of pieces.
    return Markers(exif, b"".join(piece[2:] for piece in sorted(pieces)))


def _check_frame(data: bytes, place: int, kind: int) -> None:
    """Refuse more pixels than so few bytes can tell of, which a decoder would fill up with grey, and scans without end."""
    height, width = FRAME_SIZE(data, place + 5)
    if height * width > PIXELS_A_BYTE * len(data):
        raise BadJpegError(f"{width} x {height} pixels by its header, and {len(data):,} bytes, which cannot hold them")
    if kind != PROGRESSIVE or data.count(SCAN_START) <= MOST_SCANS:  # never fewer than there are scans
        return
    scans = _scans(data, place)
    if scans > MOST_SCANS:
        raise BadJpegError(
            f"{scans:,} scans, as decompression bombs have them; {MOST_SCANS} are the most that are decoded"
        )


def _scans(data: bytes, place: int) -> int:
    """How many scans a decoder meets from the segment at `place` on, which goes by the lengths of segments and stops at the image's end."""
    scans = 0
    while (found := NEXT_MARKER.search(data, place)) is not None:
        kind, place = data[found.start(1)], found.end()
        if kind == END:
            break
        scans += kind == SCAN
        place += int.from_bytes(data[place : place + 2], "big")
    return scans
