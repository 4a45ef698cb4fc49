"""Suggested images to look at: a sheet of thumbnails with rank and key, or a folder of copies. Each appears whole or not at all."""

import functools
import pathlib
import re
from collections.abc import Sequence

from PIL import Image

import cache
from tcs.config.pixels import PixelRules
from tcs.errors import ArtefactError, DataError
from tcs.images.decode import BadImageError, decode_image
from tcs.images.sheet import Cell, Line, write_cells
from tcs.images.stored import ReadRow
from tcs.labelling.table import Suggestion

MOST_NAME_BYTES = 120  # of the 255 that a name may have, which grows while it is written

COPY = re.compile(r"\d{4,}-.+")  # how copies are called


def write_sheet(path: pathlib.Path, suggestions: Sequence[Suggestion], read: ReadRow, rules: PixelRules) -> None:
    """Write thumbnails in order of rank, with rank and key. DataError names an image that cannot be decoded."""
    cells = [
        Cell(functools.partial(_decoded, item, read, rules), (Line(f"{item.rank} ", item.key),)) for item in suggestions
    ]
    write_cells(path, cells)


def _decoded(item: Suggestion, read: ReadRow, rules: PixelRules) -> Image.Image:
    try:
        return decode_image(read(item.row), rules)
    except BadImageError as error:
        raise DataError(f"image '{item.key}' cannot be decoded: {error}; check the store.") from error


def write_folder(folder: pathlib.Path, suggestions: Sequence[Suggestion], read: ReadRow) -> None:
    """Write the bytes of every image as `RANK-NAME`, into a new folder that is renamed when it is whole, in place of an earlier one;
    under a lock on `folder`."""
    try:
        with cache.Draft(folder) as draft:
            path = draft.begin()
            path.mkdir()
            for item in suggestions:
                cache.atomic_write_bytes(path / _copy_name(item), read(item.row))
            draft.commit()
    except OSError as error:
        raise cache.write_error(folder, error) from error


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
