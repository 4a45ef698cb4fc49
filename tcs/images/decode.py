"""How the bytes of an image file become RGB pixels.

Knows nothing of teachers, and nothing of where the bytes lie. Pixels follow timm and torchvision where they are
silent: transparency is dropped, the EXIF orientation is not applied, the first frame of an animation counts.

Ordinary colour JPEGs go through simplejpeg where it is installed: the same library (libjpeg-turbo, accurate settings) with
less around it, so the same pixels a tenth sooner (benchmarks/RESULTS.md). All else, and whatever it stumbles over, is
Pillow's, which also says what is wrong.
"""

import contextlib
import io
import threading
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

try:
    import simplejpeg
except ImportError:  # an extra: pip install "tcs-distill[fast]"
    simplejpeg = None

# A 1 x 5000 strip, its shorter side resized to 224, would take 750 MB; no photograph is that long.
MAX_ASPECT_RATIO = 1000
JPEG_QUALITY = 95
MOST_QUICK_PIXELS = 80_000_000  # below what Pillow takes for a decompression bomb


class BadImageError(Exception):
    """Bytes that are no image we can read; str() is the reason, for the quarantine list."""


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


def decode_image(data: bytes) -> Image.Image:
    """The bytes of an image file as a loaded PIL image of mode RGB; BadImageError, str() the reason, for all else."""
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # another library may have switched it on; half an image is no image
    if not data:
        raise BadImageError("empty file")
    quick = _colour_jpeg(data)
    if quick is not None:
        return quick
    try:
        with quiet_pillow(), Image.open(io.BytesIO(data)) as image:
            _check_shape(*image.size)
            image.load()
            return _to_rgb(image)
    except BadImageError:
        raise
    except Exception as error:  # PIL's decoders raise nearly every built-in type on damaged bytes
        raise BadImageError(_reason(error)) from error


def _colour_jpeg(data: bytes) -> Image.Image | None:
    """The pixels of an ordinary colour JPEG; None where it is another file, or has anything odd about it."""
    if simplejpeg is None or not data.startswith(b"\xff\xd8"):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours != "YCbCr" or height * width > MOST_QUICK_PIXELS:
            return None
        pixels_HW3 = simplejpeg.decode_jpeg(data, "RGB")
    except ValueError:  # also for what can be recovered from: Pillow decides, as it would alone
        return None
    _check_shape(width, height)
    return Image.fromarray(pixels_HW3)


def _check_shape(width: int, height: int) -> None:
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise BadImageError(f"{width} x {height} pixels: one side is over {MAX_ASPECT_RATIO} times the other")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and image.format == "JPEG":
        return image  # convert() would copy it; other formats keep a decoder for further frames
    if image.mode == "F":
        raise BadImageError("floating-point pixels have no fixed range")
    if image.mode.startswith("I"):
        return _sixteen_bit_to_rgb(image)
    if image.mode == "P":  # by way of RGBA, as PIL asks where the palette has transparency
        image = image.convert("RGBA")
    return image.convert("RGB")


def _sixteen_bit_to_rgb(image: Image.Image) -> Image.Image:
    """The upper 8 of 16 bits: PIL itself would clip every value above 255 to white."""
    values_HW = np.asarray(image).astype(np.int64)
    if values_HW.min() < 0 or values_HW.max() > 65535:
        raise BadImageError("integer pixels outside 0 to 65535 have no known range")
    return Image.fromarray((values_HW >> 8).astype(np.uint8)).convert("RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image file"
    text = " ".join(str(error).split())
    return (text or type(error).__name__)[:160]


def decode_square(data: bytes, size: int) -> np.ndarray:
    """uint8 (size, size, 3): shorter side resized to `size` (bicubic; untouched if equal), then the centre crop."""
    image = _shorter_side(decode_image(data), size)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)), dtype=np.uint8).copy()


def decode_whole(data: bytes, size: int) -> np.ndarray:
    """uint8 (size, size, 3): the whole image squashed to a square (bicubic), so that shares of its sides stay what they are."""
    return np.asarray(decode_image(data).resize((size, size), Image.Resampling.BICUBIC), dtype=np.uint8).copy()


def _shorter_side(image: Image.Image, size: int) -> Image.Image:
    shorter = min(image.size)
    if shorter == size:
        return image
    width, height = (max(size, round(side * size / shorter)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def shrink(data: bytes, image: Image.Image, size: int) -> bytes:
    """`data` re-encoded with its shorter side `size`; as it is where that is no larger already.

    `image` is the decoded `data`. JPEG stays JPEG (quality 95), everything else becomes PNG.
    """
    if min(image.size) <= size:
        return data
    buffer = io.BytesIO()
    small = _shorter_side(image, size)
    if data.startswith(b"\xff\xd8"):
        small.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    else:
        small.save(buffer, "PNG")
    return buffer.getvalue()
