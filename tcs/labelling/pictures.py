"""Suggested images to look at: a sheet of thumbnails with rank and key, or a folder of copies. Each appears whole or not at all."""

import io
import math
import pathlib
import re
import secrets
import shutil
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

import cache
from tcs.errors import ArtefactError, DataError
from tcs.images.decode import BadImageError, decode_image
from tcs.images.stored import ReadRow
from tcs.labelling.table import Suggestion
from tcs.runtime import progress_bar

THUMBNAIL_PIXELS, TEXT_PIXELS, GAP_PIXELS = 128, 14, 4

CELL_WIDTH, CELL_HEIGHT = THUMBNAIL_PIXELS + GAP_PIXELS, THUMBNAIL_PIXELS + TEXT_PIXELS + GAP_PIXELS

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}

MOST_NAME_BYTES = 120  # of the 255 that a name may have, which grows while it is written

COPY = re.compile(r"\d{4,}-.+")  # how copies are called


def write_sheet(path: pathlib.Path, suggestions: Sequence[Suggestion], read: ReadRow) -> None:
    """Write thumbnails in order of rank, about as many across as down. DataError names an image that cannot be decoded."""
    across = math.ceil(math.sqrt(len(suggestions)))
    down = math.ceil(len(suggestions) / across)
    sheet = Image.new("RGB", (across * CELL_WIDTH, down * CELL_HEIGHT), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT_PIXELS - 3)
    with progress_bar(len(suggestions), "thumbnails", "images") as bar:
        for index, item in enumerate(suggestions):
            left, top = index % across * CELL_WIDTH, index // across * CELL_HEIGHT
            small = _thumbnail(item, read)
            middle = (left + (CELL_WIDTH - small.width) // 2, top + GAP_PIXELS + (THUMBNAIL_PIXELS - small.height) // 2)
            sheet.paste(small, middle)
            text = _fitting(f"{item.rank} ", item.key, draw, font)
            draw.text((left + GAP_PIXELS, top + THUMBNAIL_PIXELS + GAP_PIXELS), text, "black", font)
            bar.advance(1)
    buffer = io.BytesIO()
    sheet.save(buffer, FORMATS[path.suffix.lower()])
    cache.atomic_write_bytes(path, buffer.getvalue())


def _thumbnail(item: Suggestion, read: ReadRow) -> Image.Image:
    """The whole image, as large as its cell; small ones are enlarged."""
    try:
        image = decode_image(read(item.row))
    except BadImageError as error:
        raise DataError(f"image '{item.key}' cannot be decoded: {error}; check the store.") from error
    scale = THUMBNAIL_PIXELS / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def _fitting(rank: str, key: str, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Rank and as much of the end of the key as a cell is wide; letters that Pillow's own font may lack are `?`."""
    known = key.encode("latin-1", "replace").decode("latin-1")
    for start in range(len(known)):
        text = rank + (f"...{known[start:]}" if start else known)
        if draw.textlength(text, font) <= THUMBNAIL_PIXELS:
            return text
    return rank


def write_folder(folder: pathlib.Path, suggestions: Sequence[Suggestion], read: ReadRow) -> None:
    """Write the bytes of every image as `RANK-NAME`, into a new folder that is renamed when it is whole, in place of an earlier one."""
    partial = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}.partial")
    try:
        partial.mkdir(parents=True)
        for item in suggestions:
            cache.atomic_write_bytes(partial / _copy_name(item), read(item.row))
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    except OSError as error:
        raise cache.write_error(folder, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def require_copies(folder: pathlib.Path) -> None:
    """ArtefactError where `folder`, which is about to be replaced, holds anything but copies of an earlier run."""
    foreign = (
        [path.name for path in folder.iterdir() if not COPY.fullmatch(path.name)] if folder.is_dir() else [folder.name]
    )
    if foreign:
        raise ArtefactError(
            f"--folder {folder} holds '{min(foreign)}', which is no copy of a suggested image; name a new folder."
        )


def _copy_name(item: Suggestion) -> str:
    """The key's last part behind the rank, so that the order is kept and no two are alike."""
    name = re.sub(r"[\x00-\x1f/\\:*?\"<>|]", "_", pathlib.PurePosixPath(item.key).name or "image")
    end = name.encode("utf-8", "surrogateescape")[-MOST_NAME_BYTES:].decode("utf-8", "ignore")
    return f"{item.rank:04}-{end}"
