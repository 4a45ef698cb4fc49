"""Images that Python code has in memory, as the bytes of files: so that they become pixels by the same rules as files do."""

import dataclasses
import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tcs.errors import DataError, first_line, shown
from tcs.inference.sources import NamedImage, named_images

# What a person may give for an image: a path, an opened image, or pixels uint8 (H, W, 3) or (H, W).
AnyImage = str | os.PathLike[str] | Image.Image | NDArray[np.uint8]

CHANNELS = (3, 4)
OF_PNG = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")  # modes that a PNG keeps as they are; a TIFF keeps the others
WRITTEN = "give paths, images of PIL, or arrays uint8 of shape (H, W, 3) or (H, W)"


@dataclasses.dataclass(frozen=True)
class HeldImages:
    """Images by their place in `images`; a source of bytes like a folder or a tar."""

    images: Sequence[Image.Image]

    def read(self, key: str) -> bytes:
        """The image at the place `key` as a file without loss, with its orientation and colour profile."""
        return file_of(self.images[int(key)])

    def size(self, key: str) -> int:
        """The length of that file, which is made for it."""
        return len(self.read(key))


def file_of(image: Image.Image) -> bytes:
    """The bytes of a PNG, or where that has no room for the mode a TIFF, with the same pixels."""
    buffer = io.BytesIO()
    kept = {name: image.info[name] for name in ("exif", "icc_profile", "transparency") if name in image.info}
    if image.mode in OF_PNG:
        image.save(buffer, "PNG", compress_level=0, **kept)
    else:
        kept.pop("transparency", None)
        image.save(buffer, "TIFF", **kept)
    return buffer.getvalue()


def listed_images(images: AnyImage | Sequence[AnyImage]) -> list[tuple[NamedImage, str | None]]:
    """Every image with the path that it is known by (None: in memory), in order; paths may be folders, tars and tables.

    DataError for what is no image: another type, an array of another dtype or shape, a path that is not there.
    """
    if isinstance(images, str | os.PathLike | Image.Image) or (isinstance(images, np.ndarray) and images.ndim < 4):
        images = [images]
    if not isinstance(images, Sequence | np.ndarray):
        raise DataError(f"images are {_told(images)}; {WRITTEN}.")
    found: list[tuple[NamedImage, str | None]] = []
    held: list[Image.Image] = []
    for number, image in enumerate(images):
        if isinstance(image, str | os.PathLike):
            found += [(each, each.path) for each in named_images([os.fspath(image)])]
        else:
            found.append((NamedImage(f"image {number}", HeldImages(held), str(len(held))), None))
            held.append(_opened(image, number))
    if not found:
        raise DataError(f"images are empty; {WRITTEN}.")
    return found


def _told(value: object) -> str:
    """What is no image, in one line: a tensor's own text has several."""
    if type(value).__module__ == "torch" and hasattr(value, "numpy"):
        return f"a torch tensor of shape {tuple(value.shape)}: .numpy()"  # type: ignore[attr-defined]
    return shown(" ".join(repr(value).split()))


def _opened(image: Any, number: int) -> Image.Image:
    """An image of PIL, loaded: threads that read it later must not read its file. Pixels as one."""
    if isinstance(image, Image.Image):
        try:
            image.load()
        except OSError as error:
            raise DataError(f"image {number} cannot be read ({first_line(error)}); {WRITTEN}.") from error
        return image
    if not isinstance(image, np.ndarray):
        raise DataError(f"image {number} is {_told(image)}; {WRITTEN}.")
    is_shaped = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in CHANNELS)
    if image.dtype != np.uint8 or not is_shaped or 0 in image.shape:
        raise DataError(f"image {number} is an array of {image.dtype} and shape {image.shape}; {WRITTEN}.")
    return Image.fromarray(image)
