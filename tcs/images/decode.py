"""How the bytes of an image file become RGB pixels, by the pixel rules of whom they are for (`tcs.config.pixels`).

Knows nothing of teachers, and nothing of where the bytes lie. Every pixel of the toolkit comes from here.

Ordinary colour JPEGs go through simplejpeg where it is installed, with Pillow's pixels; all else, and whatever it stumbles over, is
Pillow's, which also says what is wrong. Pillow is asked for the formats of `tcs.images.formats` and no others: some of those that it knows
start programs (EPS starts Ghostscript) or follow names in the file, whatever the file is called.

Legend: S side of a square.
"""

import contextlib
import io
import re
import threading
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from tcs.config.pixels import FIRST, PixelRules
from tcs.images import earlier
from tcs.images.colour import FIRST_FRAME, TURNED, follow_profile, to_rgb
from tcs.images.exif import ORIENTATION, TURNS, UPRIGHT, as_stored, exif_in_text, orientation_in, upright
from tcs.images.formats import formats, unread
from tcs.images.jpeg import NO_MARKERS, START, BadJpegError, Markers, markers_of, quick_pixels

# A 1 x 5000 strip, its shorter side resized to 224, would take 750 MB; no photograph is that long.
MAX_ASPECT_RATIO = 1000
JPEG_QUALITY = 95

# A bomb unfolds to far more than its bytes can tell of: photographs to 5 to 60 times their size, pages of text of one bit to 50 times.
# What is not large is not asked: an empty page may be a few bytes. (Pillow itself refuses more than 179 million pixels.)
MOST_UNASKED_PIXELS = 50_000_000
MOST_UNFOLDING = 200
BYTES_A_PIXEL = {"1": 1 / 8, "L": 1, "P": 1, "LA": 2, "I;16": 2, "I;16B": 2, "RGB": 3}  # any other mode: 4

OF_FRAMES = ("GIF", "PNG", "WEBP", "TIFF", "AVIF")  # whose further frames or pages are not looked at
SIXTEEN = 16
PNG_DEPTH_AT = 24  # in the file: signature, length and name of IHDR, width, height
PNG_START = b"\x89PNG\r\n\x1a\n"
BITS_PER_SAMPLE = 258  # TIFF 6.0, 8
# Netpbm's pgm(5) and ppm(5): kind, width, height, largest value, with spaces and comments between; two bytes a value above 255.
PNM_HEAD_BYTES = 4096
PNM_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
PNM_HEAD = re.compile(rb"P[2356]" + (PNM_GAP + rb"\d{1,10}") * 2 + PNM_GAP + rb"(\d{1,5})\s")
NOTHING: frozenset[str] = frozenset()


class BadImageError(Exception):
    """Bytes that are no image we can read; str() is the reason, for the quarantine list."""


class Decoded(NamedTuple):
    """An image of mode RGB with nothing but its pixels, and what was done to make it (names of `tcs.images.colour`)."""

    image: Image.Image
    done: frozenset[str]


class Square(NamedTuple):
    """uint8 pixels (S, S, 3) as a student is shown them, and what was done to make them."""

    pixels_SS3: NDArray[np.uint8]
    done: frozenset[str] = NOTHING


class _Quiet:
    """How many are decoding now, and the warning filters from before the first of them."""

    lock = threading.Lock()
    depth = 0
    filters = warnings.catch_warnings()


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Ignore Pillow's warnings (odd EXIF, big but legal sizes) for the duration, in all threads.

    Filters belong to the process. So the first to come changes them and the last to leave restores them: if every thread did
    both, they would undo each other's, and could leave the filters changed for good. Who starts threads that decode holds
    this as long as they live.
    """
    with _Quiet.lock:
        if _Quiet.depth == 0:
            _Quiet.filters = warnings.catch_warnings()
            _Quiet.filters.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
        _Quiet.depth += 1
    try:
        yield
    finally:
        with _Quiet.lock:
            _Quiet.depth -= 1
            if _Quiet.depth == 0:
                _Quiet.filters.__exit__(None, None, None)


def decode_image(data: bytes, rules: PixelRules) -> Image.Image:
    """The bytes of an image file as a loaded PIL image of mode RGB; BadImageError, str() the reason, for all else."""
    return decode_told(data, rules).image


def decode_told(data: bytes, rules: PixelRules) -> Decoded:
    """The same with what was done; of rules 1 nothing is told."""
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # another library may have switched it on; half an image is no image
    if not data:
        raise BadImageError("empty file")
    markers = _markers(data, rules)
    pixels_HW3 = quick_pixels(data)
    if pixels_HW3 is not None:
        height, width, _ = pixels_HW3.shape
        _check_shape(width, height)
        return _finished_jpeg(markers, Image.fromarray(pixels_HW3), rules)
    known = formats()  # here, so that no image is blamed for a library that does not load
    try:
        with quiet_pillow(), Image.open(io.BytesIO(data), formats=known) as image:
            _check_shape(*image.size)
            _check_size(image, len(data))
            return _by_pillow(data, image, rules)
    except BadImageError:
        raise
    except Exception as error:  # PIL's decoders raise nearly every built-in type on damaged bytes
        raise BadImageError(_reason(error, data, rules)) from error


def _markers(data: bytes, rules: PixelRules) -> Markers:
    """What a JPEG tells of itself, as far as the rules look at it. BadImageError for one that lies."""
    if rules.version == FIRST or not data.startswith(START):
        return NO_MARKERS
    try:
        return markers_of(data)
    except BadJpegError as error:
        raise BadImageError(str(error)) from None


def _finished_jpeg(markers: Markers, image: Image.Image, rules: PixelRules) -> Decoded:
    """What is left to do for the decoded pixels of an ordinary colour JPEG."""
    if markers is NO_MARKERS:
        return Decoded(image, NOTHING)
    done: set[str] = set()
    if markers.profile:
        image, done = follow_profile(image, markers.profile)
        image.info = {}  # Little CMS leaves its profile there
    orientation = orientation_in(markers.exif) if rules.orientation else UPRIGHT
    if orientation in TURNS:
        image, done = upright(image, orientation), done | {TURNED}
    return Decoded(image, frozenset(done))


def _by_pillow(data: bytes, image: ImageFile.ImageFile, rules: PixelRules) -> Decoded:
    """An opened image as its rules have it."""
    if rules.version == FIRST:
        image.load()
        return Decoded(earlier.to_rgb(image), NOTHING)
    has_more = image.format in OF_FRAMES and bool(getattr(image, "is_animated", False))
    depth = _depth(data, image)
    orientation, is_turned = _load(image)
    _mend_transparency(image, depth)
    shown, done = to_rgb(image, rules.background, depth == SIXTEEN)
    if shown is image and image.format != "JPEG":  # which keeps a decoder for further frames
        shown = image.copy()
    if orientation in TURNS and is_turned != rules.orientation:
        shown = upright(shown, orientation) if rules.orientation else as_stored(shown, orientation)
    done |= {TURNED} if orientation in TURNS and rules.orientation else set()
    done |= {FIRST_FRAME} if has_more else set()
    shown.info = {}  # or a profile that was followed would be written into a copy, and followed again
    return Decoded(shown, frozenset(done))


def _depth(data: bytes, image: ImageFile.ImageFile) -> int:
    """Bits of a value in the file, where that is one of which Pillow's pixels do not tell; else 0."""
    if data.startswith(PNG_START):
        return data[PNG_DEPTH_AT]
    if image.format == "PPM":
        found = PNM_HEAD.match(data[:PNM_HEAD_BYTES])
        return SIXTEEN if found is not None and int(found[1]) > 255 else 0
    return _tiff_value(image, BITS_PER_SAMPLE)


def _load(image: ImageFile.ImageFile) -> tuple[int, bool]:
    """Decode the pixels; returns their orientation, and whether Pillow has applied it, as it does for TIFF."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        image.load()
        return orientation_in(_exif_of(image)), False
    orientation = _tiff_value(image, ORIENTATION)
    image.info.pop("xmp", None)  # or Pillow would turn a TIFF by its XMP, and no other file
    image.load()
    return orientation, ORIENTATION not in image.tag_v2


def _tiff_value(image: ImageFile.ImageFile, tag: int) -> int:
    """A whole number in the first directory of a TIFF, of several the first; 0 where it is none, or no TIFF."""
    value = image.tag_v2.get(tag, 0) if isinstance(image, TiffImagePlugin.TiffImageFile) else 0
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else 0


def _exif_of(image: ImageFile.ImageFile) -> bytes:
    """The EXIF data of a loaded image, which may have come behind its pixels."""
    exif, text = image.info.get("exif"), image.info.get("Raw profile type exif")
    if isinstance(exif, bytes):
        return exif
    return exif_in_text(text) if isinstance(text, str) else b""


def _mend_transparency(image: ImageFile.ImageFile, depth: int) -> None:
    """PNG (third edition, 11.3.2.1) tells the one transparent colour in the file's own depth; Pillow's pixels have 8 bits."""
    clear = image.info.get("transparency")
    if image.format != "PNG" or image.mode not in ("L", "RGB"):
        return
    if depth == SIXTEEN and isinstance(clear, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    elif depth in (2, 4) and isinstance(clear, int):
        image.info["transparency"] = clear * 255 // (2**depth - 1)


def _check_shape(width: int, height: int) -> None:
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise BadImageError(f"{width} x {height} pixels: one side is over {MAX_ASPECT_RATIO} times the other")


def _check_size(image: Image.Image, size_bytes: int) -> None:
    """Refuse what claims so many pixels that its bytes cannot tell of them, before any memory is taken for them."""
    pixels = image.width * image.height
    if pixels > MOST_UNASKED_PIXELS and pixels * BYTES_A_PIXEL.get(image.mode, 4) > MOST_UNFOLDING * size_bytes:
        raise BadImageError(
            f"{image.width} x {image.height} pixels in {size_bytes:,} bytes, as decompression bombs have them: above "
            f"{MOST_UNASKED_PIXELS:,} pixels an image unfolds to {MOST_UNFOLDING} times its bytes at most"
        )


def _reason(error: Exception, data: bytes, rules: PixelRules) -> str:
    if isinstance(error, UnidentifiedImageError):  # reasons are kept in shards, so those of rules 1 stay what they were
        return "not an image file" if rules.version == FIRST else unread(data)
    text = " ".join(str(error).split())
    return (text or type(error).__name__)[:160]


def decode_square(data: bytes, size: int, rules: PixelRules) -> NDArray[np.uint8]:
    """uint8 (size, size, 3): shorter side resized to `size` (bicubic; untouched if equal), then the centre crop."""
    return square_told(data, size, rules).pixels_SS3


def square_told(data: bytes, size: int, rules: PixelRules) -> Square:
    """The same with what was done."""
    decoded = decode_told(data, rules)
    image = _shorter_side(decoded.image, size)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    pixels_SS3 = np.asarray(image.crop((left, top, left + size, top + size)), dtype=np.uint8).copy()
    return Square(pixels_SS3, decoded.done)


def decode_whole(data: bytes, size: int, rules: PixelRules) -> np.ndarray:
    """uint8 (size, size, 3): the whole image squashed to a square (bicubic), so that shares of its sides stay what they are."""
    image = decode_image(data, rules).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.uint8).copy()


def _shorter_side(image: Image.Image, size: int) -> Image.Image:
    shorter = min(image.size)
    if shorter == size:
        return image
    width, height = (max(size, round(side * size / shorter)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def shrink(data: bytes, image: Image.Image, size: int) -> bytes:
    """`data` re-encoded with its shorter side `size`; as it is where that is no larger already.

    `image` is the decoded `data`. JPEG stays JPEG (quality 95), everything else becomes PNG: opaque, upright and without a profile
    by rules 2, so that these rules make the same pixels of it again.
    """
    if min(image.size) <= size:
        return data
    buffer = io.BytesIO()
    small = _shorter_side(image, size)
    if data.startswith(START):
        small.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    else:
        small.save(buffer, "PNG")
    return buffer.getvalue()
