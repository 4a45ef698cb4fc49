"""Pictures of rows, small enough that a page of many stays below PAGE_BYTES.

Every picture is encoded at the best quality of a list that fits `most_bytes`; `sheet` puts many small ones into one. The bound of the
page of tcs look, with base64 (4/3): 996 pictures of 4.2 kB and a sheet of 1.8 MB, 8.0 MB, and 1.9 MB for text.
"""

import base64
import concurrent.futures
import functools
import io
import math
import pathlib
from collections.abc import Callable, Sequence

from PIL import Image, ImageOps

import cache
from tcs.config.pixels import PixelRules
from tcs.errors import TcsError
from tcs.images.decode import BadImageError, decode_image, quiet_pillow
from tcs.images.recorded import recorded_data
from tcs.images.stored import ReadRow, cores, find_images
from tcs.runtime import progress_bar

PAGE_BYTES = 10_000_000
PICTURE_PIXELS, PICTURE_BYTES = 104, 4200
QUALITIES = (90, 80, 70, 55, 40, 25)
SHEET_BYTES = 1_800_000
SHEET_LOOKS = (
    (64, 75),
    (64, 55),
    (48, 60),
    (40, 50),
    (28, 50),
    (20, 40),
    (14, 30),
)  # (pixels of a cell, quality), the best that fits


def find_reader(store: cache.Store, data: str | None) -> tuple[ReadRow | None, str]:
    """How the bytes of a row are read, and a sentence where that is not from the store: from `data`, else from the place that the store
    records, if it is on this machine; None where there are no images. DataError or ConfigError for a `data` that does not fit."""
    if store.has_images or data is not None:
        return find_images(store, data), "" if data is None else f"The pictures are read from {data}."
    recorded = recorded_data(store.manifest.provenance)
    if recorded is None or not pathlib.Path(recorded.data).exists():
        return None, "The store holds no images, so the page has no pictures; name them with --data."
    try:
        return find_images(store, recorded.data), f"The pictures are read from {recorded.data}, as the store records."
    except TcsError as error:
        return None, f"The page has no pictures: {error}"


class Pictures:
    """Pictures of the rows of one store; those that cannot be had are counted and left out."""

    def __init__(self, read: ReadRow | None, rules: PixelRules, most_bytes: int = PICTURE_BYTES) -> None:
        self._read, self._rules, self._most_bytes = read, rules, most_bytes
        self._held: dict[int, str] = {}
        self.broken: set[int] = set()

    def prepare(self, rows: Sequence[int]) -> None:
        """Make the pictures of these rows, in threads."""
        wanted = sorted(set(rows) - self._held.keys())
        for row, image in zip(wanted, self._small(wanted, _fitted), strict=True):
            if image is not None:
                self._held[row] = _uri(_encoded(image, self._most_bytes))

    def uri(self, row: int) -> str:
        """The picture of a row that was prepared as a data URI; empty where there is none."""
        return self._held.get(row, "")

    def sheet(self, rows: Sequence[int]) -> tuple[str, int]:
        """One picture with a square cell for every row, in order, `columns_of` a line: (data URI, its columns); empty without
        images."""
        if self._read is None or not rows:
            return "", 0
        side, columns = SHEET_LOOKS[0][0], math.ceil(math.sqrt(len(rows)))
        whole = Image.new("RGB", (columns * side, math.ceil(len(rows) / columns) * side), "#888")
        for place, image in enumerate(self._small(rows, functools.partial(_squared, side=side))):
            if image is not None:
                whole.paste(image, (place % columns * side, place // columns * side))
        for pixels, quality in SHEET_LOOKS:
            smaller = whole if pixels == side else whole.resize([length * pixels // side for length in whole.size])
            data = _jpeg(smaller, quality)
            if len(data) <= SHEET_BYTES:
                break
        return _uri(data), columns

    def _small(self, rows: Sequence[int], shrink: Callable[[Image.Image], Image.Image]) -> list[Image.Image | None]:
        """Every row's image, made small as soon as it is decoded; None for what cannot be read."""
        if self._read is None:
            return [None] * len(rows)
        read, found = self._read, list[Image.Image | None]()

        def one(row: int) -> Image.Image | None:
            try:
                return shrink(decode_image(read(row), self._rules).convert("RGB"))
            except (BadImageError, TcsError):
                self.broken.add(row)
                return None

        with (
            quiet_pillow(),
            progress_bar(len(rows), "pictures", "images") as bar,
            concurrent.futures.ThreadPoolExecutor(cores()) as pool,
        ):
            for image in pool.map(one, rows):
                found.append(image)
                bar.advance(1)
        return found


def _fitted(image: Image.Image) -> Image.Image:
    """The whole image within PICTURE_PIXELS; a smaller one as it is."""
    image.thumbnail((PICTURE_PIXELS, PICTURE_PIXELS))
    return image


def _squared(image: Image.Image, side: int) -> Image.Image:
    return ImageOps.fit(image, (side, side))


def _encoded(image: Image.Image, most_bytes: int) -> bytes:
    """The best JPEG of at most so many bytes; half as large a picture where none is."""
    for quality in QUALITIES:
        data = _jpeg(image, quality)
        if len(data) <= most_bytes:
            return data
    return _encoded(image.resize((max(1, image.width // 2), max(1, image.height // 2))), most_bytes)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _uri(data: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
