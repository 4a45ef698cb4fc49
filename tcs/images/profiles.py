"""Colour profiles (ICC.1) followed to sRGB, the space that teachers and students know, by Little CMS in Pillow.

Relative colorimetric with black point compensation, as photographs are shown on screens. A profile that is damaged, or of another
kind of pixels than it came with, is as good as none.
"""

import functools
import io
from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageCms

SPACES: Mapping[str, str] = {
    "RGB": "RGB",
    "L": "GRAY",
    "CMYK": "CMYK",
    "LAB": "Lab",
}  # mode -> what its profiles call it
KEPT = 32  # transforms: a data set has a few profiles, some a megabyte long
IS_SRGB = "srgb"

INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION


class BadProfileError(Exception):
    """A profile that cannot be followed."""


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """The colours of an image of mode RGB, L, CMYK or LAB as sRGB, mode RGB. BadProfileError."""
    transform = _transform(profile, image.mode)
    if transform is None:
        return image.convert("RGB")
    try:
        shown = _by_table(image, profile) if image.mode == "L" else transform.apply(image)
    except Exception as error:
        raise BadProfileError(str(error)) from error
    return shown


def is_srgb(profile: bytes, mode: str) -> bool:
    """Whether the profile of an image of that mode says that its colours are sRGB already. BadProfileError."""
    return _transform(profile, mode) is None


def _by_table(grey: Image.Image, profile: bytes) -> Image.Image:
    """A grey image by what its profile makes of the 256 greys."""
    return Image.merge("RGB", [grey.point(table) for table in _tables(profile)])


@functools.lru_cache(KEPT)
def _tables(profile: bytes) -> tuple[list[int], ...]:
    """Red, green and blue of each grey, computed in full: Little CMS's shortcut for images is up to 10 levels off in the dark."""
    ramp = Image.frombytes("L", (256, 1), bytes(range(256)))
    exact = _between(ImageCms.ImageCmsProfile(io.BytesIO(profile)), "L", FLAGS | ImageCms.Flags.NOOPTIMIZE)
    return tuple(list(band.tobytes()) for band in exact.apply(ramp).split())


@functools.lru_cache(KEPT)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """None for colours that are sRGB. BadProfileError, which is not kept."""
    try:
        found = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if found.profile.xcolor_space.strip() != SPACES.get(mode):
            raise BadProfileError(f"a profile of {found.profile.xcolor_space} for pixels of {mode}")
        if mode == "RGB" and IS_SRGB in (found.profile.profile_description or "").lower():
            return None
        return _between(found, mode)
    except BadProfileError:
        raise
    except Exception as error:  # Little CMS's own errors, and those of texts in no encoding
        raise BadProfileError(str(error)) from error


def _between(profile: Any, mode: str, flags: ImageCms.Flags = FLAGS) -> ImageCms.ImageCmsTransform:
    srgb = ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(profile, srgb, mode, "RGB", INTENT, flags)
