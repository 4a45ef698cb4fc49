"""A contact sheet: thumbnails with a line or two of text each. It appears whole or not at all."""

import dataclasses
import io
import math
import pathlib
from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw, ImageFont

import cache
from tcs.runtime import progress_bar

THUMBNAIL_PIXELS, TEXT_PIXELS, GAP_PIXELS = 128, 14, 4
CELL_WIDTH = THUMBNAIL_PIXELS + GAP_PIXELS
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclasses.dataclass(frozen=True)
class Line:
    """Text below a thumbnail: `head` is always there, `tail` with as much of its end as there is room for."""

    head: str
    tail: str


@dataclasses.dataclass(frozen=True)
class Cell:
    """An image of the sheet, decoded when its turn comes, and its lines."""

    image: Callable[[], Image.Image]
    lines: tuple[Line, ...]


def write_cells(path: pathlib.Path, cells: Sequence[Cell]) -> None:
    """Write the cells in their order, about as many across as down."""
    across = math.ceil(math.sqrt(len(cells)))
    down = math.ceil(len(cells) / across)
    height = THUMBNAIL_PIXELS + TEXT_PIXELS * max(len(cell.lines) for cell in cells) + GAP_PIXELS
    sheet = Image.new("RGB", (across * CELL_WIDTH, down * height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT_PIXELS - 3)
    with progress_bar(len(cells), "thumbnails", "images") as bar:
        for index, cell in enumerate(cells):
            left, top = index % across * CELL_WIDTH, index // across * height
            small = _thumbnail(cell)
            middle = (left + (CELL_WIDTH - small.width) // 2, top + GAP_PIXELS + (THUMBNAIL_PIXELS - small.height) // 2)
            sheet.paste(small, middle)
            for number, line in enumerate(cell.lines):
                below = top + THUMBNAIL_PIXELS + GAP_PIXELS + TEXT_PIXELS * number
                draw.text((left + GAP_PIXELS, below), _fitting(line, draw, font), "black", font)
            bar.advance(1)
    buffer = io.BytesIO()
    sheet.save(buffer, FORMATS[path.suffix.lower()])
    cache.atomic_write_bytes(path, buffer.getvalue())


def _thumbnail(cell: Cell) -> Image.Image:
    """The whole image, as large as its cell; small ones are enlarged."""
    image = cell.image()
    scale = THUMBNAIL_PIXELS / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _fitting(line: Line, draw: ImageDraw.ImageDraw, font: Font) -> str:
    """The line as far as a cell is wide; letters that Pillow's own font may lack are `?`."""
    head, known = (text.encode("latin-1", "replace").decode("latin-1") for text in (line.head, line.tail))
    for start in range(len(known)):
        text = head + (f"...{known[start:]}" if start else known)
        if draw.textlength(text, font) <= THUMBNAIL_PIXELS:
            return text
    return head
