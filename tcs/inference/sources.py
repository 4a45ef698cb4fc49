"""PATHS on the command line -> images, each under the path that the user knows it by."""

import dataclasses
import os
import pathlib
import sys
from collections.abc import Iterable, Sequence

from tcs.config.extract import DataConfig
from tcs.errors import DataError
from tcs.images.listing import ImageFiles, PathFiles, check_key
from tcs.images.sources import FILES, TABLE, find_source, open_images
from tcs.runtime import say

STDIN = "-"


@dataclasses.dataclass(frozen=True, slots=True)
class NamedImage:
    """An image: `path` is how tables call it, `files` and `key` are where its bytes are."""

    path: str
    files: ImageFiles
    key: str

    def read(self) -> bytes:
        """Its bytes; OSError where it cannot be read."""
        return self.files.read(self.key)


def named_images(paths: Sequence[str]) -> list[NamedImage]:
    """The images that `paths` name, in that order: files, folders (below them, in natural order), tars, tables, `-` for stdin.

    An image is called by its path; in a folder, tar or table by the path of that and its key. DataError: a path that is not
    there, a folder without images, a tar or table that cannot be read, a name that no table can hold.
    """
    found = [image for path in paths for image in _of_path(path)]
    if not found:  # PATHS of a command are never none, stdin may be
        raise DataError(f"no image is named by {' '.join(paths)[:80]}; write one path a line.")
    return found


def _of_path(path: str) -> Iterable[NamedImage]:
    if path == STDIN:
        return (_of_file(name) for name in _lines_of_stdin())
    place = pathlib.Path(path)
    if place.is_dir() or place.suffix.lower() in FILES or not place.is_file():
        return _of_data(path)
    return (_of_file(path),)


def _of_file(path: str) -> NamedImage:
    return NamedImage(check_key(path, "PATHS"), PathFiles(pathlib.Path()), path)


def _of_data(path: str) -> Iterable[NamedImage]:
    try:
        kind = find_source(path)
    except DataError as error:
        if pathlib.Path(path).exists():
            raise
        raise DataError(
            f"'{path}' does not exist; name images, folders, tars, tables, or - for a list on stdin."
        ) from error
    # By os.path: pathlib would drop a leading ./ of what the user wrote.
    images = open_images(DataConfig(data=path, labels="none"))
    for note in images.notes:  # what of the folder is no image that can be read here
        say(note)
    base = os.path.dirname(path) if kind is TABLE else path  # noqa: PTH120
    paths = images.files.paths if isinstance(images.files, PathFiles) else {}  # of a table: its keys may be other names
    return (NamedImage(os.path.join(base, paths.get(key, key)), images.files, key) for key in images.keys)  # noqa: PTH118


def _lines_of_stdin() -> list[str]:
    """Paths, one a line; empty lines are passed over."""
    data = sys.stdin.buffer.read()
    try:
        lines = [line.removesuffix("\r") for line in data.decode().split("\n")]  # names may hold other ends of lines
    except UnicodeDecodeError as error:
        number = data[: error.start].count(b"\n") + 1
        raise DataError(f"line {number} of stdin is not UTF-8; write one path a line.") from error
    return [line for line in lines if line.strip()]
