"""How the bytes of an image file become RGB pixels, by the pixel rules of whom they are for (`tcs.config.pixels`).

Knows nothing of teachers, and nothing of where the bytes lie. Every pixel of the toolkit comes from here.

Ordinary colour JPEGs go through simplejpeg where it is installed, with Pillow's pixels; all else, and whatever it stumbles over, is
Pillow's, which also says what is wrong. Pillow is asked for the formats of `tcs.images.formats` and no others: some of those that it knows
start programs (EPS starts Ghostscript) or follow names in the file, whatever the file is called.

Legend: S side of a square.
"""

import contextlib
import io
import threading
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError

from tcs.config.pixels import FIRST, SCALED_MARGIN, PixelRules
from tcs.images import earlier
from tcs.images.colour import FIRST_FRAME, TURNED, follow_profile, to_rgb
from tcs.images.exif import ORIENTATION, TURNS, UPRIGHT, as_stored, orientation_in, upright
from tcs.images.formats import formats, unread
from tcs.images.headers import SIXTEEN, depth_of, exif_of, mend_transparency, tiff_value
from tcs.images.jpeg import NO_MARKERS, START, BadJpegError, Markers, markers_of, quick_pixels
from tcs.images.scaled import SCALED, Extent, divisor_for, extent_of

# A 1 x 5000 strip, its shorter side resized to 224, would take 750 MB; no photograph is that long.
MAX_ASPECT_RATIO = 1000
JPEG_QUALITY = 95

# A bomb unfolds to far more than its bytes can tell of: photographs to 5 to 60 times their size, pages of text of one bit to 50 times.
# What is not large is not asked: an empty page may be a few bytes. (Pillow itself refuses more than 179 million pixels.)
MOST_UNASKED_PIXELS = 50_000_000
MOST_UNFOLDING = 200
BYTES_A_PIXEL = {"1": 1 / 8, "L": 1, "P": 1, "LA": 2, "I;16": 2, "I;16B": 2, "RGB": 3}  # any other mode: 4

OF_FRAMES = ("GIF", "PNG", "WEBP", "TIFF", "AVIF")  # whose further frames or pages are not looked at
NOTHING: frozenset[str] = frozenset()


class BadImageError(Exception):
    """Bytes that are no image we can read; str() is the reason, for the quarantine list."""


class Decoded(NamedTuple):
    """An image of mode RGB with nothing but its pixels, and what was done to make it (names of `tcs.images.colour`).

    `extent` is there where it is at a fraction of its size.
    """

    image: Image.Image
    done: frozenset[str]
    extent: Extent | None = None


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


def decode_told(data: bytes, rules: PixelRules, least: int | None = None) -> Decoded:
    """The same with what was done; of rules 1 nothing is told but SCALED.

    With `least` a large JPEG is decoded at a half, a quarter or an eighth, its shorter side no shorter than that.
    """
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # another library may have switched it on; half an image is no image
    if not data:
        raise BadImageError("empty file")
    markers = _markers(data, rules)
    quick = quick_pixels(data, least)
    if quick is not None:
        _check_shape(*quick.size)
        image, done, orientation = _finished_jpeg(markers, Image.fromarray(quick.pixels_HW3), rules)
        return _told(image, done, quick.size, quick.divisor, orientation)
    known = formats()  # here, so that no image is blamed for a library that does not load
    try:
        with quiet_pillow(), Image.open(io.BytesIO(data), formats=known) as image:
            _check_shape(*image.size)
            _check_size(image, len(data))
            size, divisor = image.size, _draft(image, least)
            shown, done, orientation = _by_pillow(data, image, rules)
            return _told(shown, done, size, divisor, orientation)
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


def _draft(image: ImageFile.ImageFile, least: int | None) -> int:
    """Let Pillow decode a JPEG at a fraction, the one that `quick_pixels` chooses; returns its divisor."""
    if least is None or not isinstance(image, JpegImagePlugin.JpegImageFile):
        return 1
    divisor = divisor_for(image.size, least)
    is_drafted = divisor > 1 and image.draft(None, (least, least)) is not None
    return divisor if is_drafted else 1


def _told(image: Image.Image, done: set[str], size: tuple[int, int], divisor: int, orientation: int) -> Decoded:
    """An image as it is handed out: of a file of `size`, decoded at 1 / `divisor` and then turned as `orientation` asks."""
    if divisor == 1:
        return Decoded(image, frozenset(done))
    return Decoded(image, frozenset(done | {SCALED}), extent_of(size, divisor, orientation))


def _finished_jpeg(markers: Markers, image: Image.Image, rules: PixelRules) -> tuple[Image.Image, set[str], int]:
    """What is left to do for the decoded pixels of an ordinary colour JPEG; returns what was done, and the orientation it was turned by."""
    if markers is NO_MARKERS:
        return image, set(), UPRIGHT
    done: set[str] = set()
    if markers.profile:
        image, done = follow_profile(image, markers.profile)
        image.info = {}  # Little CMS leaves its profile there
    orientation = orientation_in(markers.exif) if rules.orientation else UPRIGHT
    if orientation in TURNS:
        image, done = upright(image, orientation), done | {TURNED}
    return image, done, orientation


def _by_pillow(data: bytes, image: ImageFile.ImageFile, rules: PixelRules) -> tuple[Image.Image, set[str], int]:
    """An opened image as its rules have it, what was done, and the orientation that it was turned by."""
    if rules.version == FIRST:
        image.load()
        return earlier.to_rgb(image), set(), UPRIGHT
    has_more = image.format in OF_FRAMES and bool(getattr(image, "is_animated", False))
    depth = depth_of(data, image)
    orientation, is_turned = _load(image)
    mend_transparency(image, depth)
    shown, done = to_rgb(image, rules.background, depth == SIXTEEN)
    if shown is image and image.format != "JPEG":  # which keeps a decoder for further frames
        shown = image.copy()
    if orientation in TURNS and is_turned != rules.orientation:
        shown = upright(shown, orientation) if rules.orientation else as_stored(shown, orientation)
    orientation = orientation if rules.orientation else UPRIGHT
    done |= {TURNED} if orientation in TURNS else set()
    done |= {FIRST_FRAME} if has_more else set()
    shown.info = {}  # or a profile that was followed would be written into a copy, and followed again
    return shown, done, orientation


def _load(image: ImageFile.ImageFile) -> tuple[int, bool]:
    """Decode the pixels; returns their orientation, and whether Pillow has applied it, as it does for TIFF."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        image.load()
        return orientation_in(exif_of(image)), False
    orientation = tiff_value(image, ORIENTATION)
    image.info.pop("xmp", None)  # or Pillow would turn a TIFF by its XMP, and no other file
    image.load()
    return orientation, ORIENTATION not in image.tag_v2


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
    """uint8 (size, size, 3): shorter side resized to `size` (bicubic; untouched if equal), then the centre crop.

    By rules that are `scaled` from no more of a large JPEG than that takes.
    """
    return square_told(data, size, rules).pixels_SS3


def square_told(data: bytes, size: int, rules: PixelRules) -> Square:
    """The same with what was done."""
    decoded = decode_told(data, rules, _least(size, rules))
    image = _shorter_side(decoded.image, size, decoded.extent)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    pixels_SS3 = np.asarray(image.crop((left, top, left + size, top + size)), dtype=np.uint8).copy()
    return Square(pixels_SS3, decoded.done)


def decode_whole(data: bytes, size: int, rules: PixelRules) -> np.ndarray:
    """uint8 (size, size, 3): the whole image squashed to a square (bicubic), so that shares of its sides stay what they are."""
    decoded = decode_told(data, rules, _least(size, rules))
    box = None if decoded.extent is None else decoded.extent.box
    image = decoded.image.resize((size, size), Image.Resampling.BICUBIC, box)
    return np.asarray(image, dtype=np.uint8).copy()


def _least(size: int, rules: PixelRules) -> int | None:
    """The shorter side that an image of which a frame of `size` is made has to have at least; None for the whole image."""
    return SCALED_MARGIN * size if rules.scaled else None


def _shorter_side(image: Image.Image, size: int, extent: Extent | None = None) -> Image.Image:
    sides, box = (image.size, None) if extent is None else extent
    shorter = min(sides)
    if shorter == size:
        return image
    width, height = (max(size, round(side * size / shorter)) for side in sides)
    return image.resize((width, height), Image.Resampling.BICUBIC, box)


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
