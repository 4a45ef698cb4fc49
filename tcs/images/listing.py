"""The images of a data set: their keys, their order, their classes, and how to get their bytes.

Every source of images (`tcs.images.sources`) makes one `ImageList`; whoever reads images knows no more than that.
"""

import dataclasses
import pathlib
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from tcs.config.extract import DataConfig
from tcs.config.names import clashes, finder, told
from tcs.errors import DataError
from tcs.ordinary import read_text


class ImageFiles(Protocol):
    """Where the bytes are. Worker processes receive it forked or pickled, so it shares no file position with others."""

    def read(self, key: str) -> bytes:
        """The encoded image `key`; OSError, str() the reason, where it cannot be had."""

    def size(self, key: str) -> int:
        """The length of those bytes without reading them; 0 where it cannot be known."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageList:
    """The images of `root` in natural order of their `keys`; `labels` index `classes` (-1: none).

    `ignored` counts the visible files that are not read (of which `notes` tell), `notes` are sentences for the user, and `origin` says
    for provenance what kind of source this is. None of the three, nor `root`, is part of a store's identity.
    """

    root: str
    keys: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    files: ImageFiles
    ignored: int = 0
    notes: tuple[str, ...] = ()
    origin: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def read(self, key: str) -> bytes:
        """The bytes of the image `key`; OSError where it cannot be read."""
        return self.files.read(key)

    def size_bytes(self) -> int:
        """The summed size of all images (0 for those that are missing; reading them will tell)."""
        return sum(self.files.size(key) for key in self.keys)


@dataclasses.dataclass(frozen=True)
class PathFiles:
    """Images that are files below `folder`, by their keys, or by `paths` where key and path differ."""

    folder: pathlib.Path
    paths: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def read(self, key: str) -> bytes:
        """The bytes of the file; OSError where it cannot be read or is no file, a pipe for example."""
        path = self._path(key)
        if path.exists() and not path.is_file():
            raise OSError("not a regular file")
        return path.read_bytes()

    def size(self, key: str) -> int:
        """The size of the file; 0 where there is none."""
        try:
            status = self._path(key).stat()
        except OSError:
            return 0
        return status.st_size if stat.S_ISREG(status.st_mode) else 0

    def _path(self, key: str) -> pathlib.Path:
        return self.folder / self.paths.get(key, key)


def natural_key(text: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key by which ``img2`` comes before ``img10``; the text itself breaks ties such as ``01`` and ``1``."""
    parts = re.findall(r"[0-9]+|[^0-9]+", text.lower())
    numbers = [part.lstrip("0") if part[0] in "0123456789" else None for part in parts]
    # A number by its length and digits: Python refuses to convert one of thousands of digits.
    pairs = zip(parts, numbers, strict=True)
    return [(1, 0, part) if number is None else (0, len(number), number) for part, number in pairs], text


def index_keys(count: int) -> list[str]:
    """Keys of images that have no path: ``00000000``, ``00000001`` ... of 8 digits, more only where 8 are too few."""
    digits = max(8, len(str(count - 1)))
    return [f"{position:0{digits}}" for position in range(count)]


def check_key(key: str, root: str) -> str:
    """`key`, if stores and split files can hold it; else DataError."""
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"the file name {key!a} under {root} is not valid UTF-8; rename it.") from error
    if "\n" in key or "\r" in key:
        raise DataError(f"the file name {key!a} under {root} has a line break; split files cannot hold it, rename it.")
    if not key or "\0" in key:
        raise DataError(f"the file name {key!a} under {root} is empty or has a NUL in it; rename it.")
    return key


def make_list(
    config: DataConfig,
    *,
    root: str,
    names: Mapping[str, str | None],
    files: ImageFiles,
    origin: Mapping[str, Any],
    classes: Iterable[str] | None = None,
    ignored: int = 0,
    notes: tuple[str, ...] = (),
) -> ImageList:
    """The list of a source that found `names`: key -> class name or None, in any order.

    The classes are those of `config.class_map`, else `classes` in the source's order, else the names found, in natural
    order. Images of a class that the map does not name are left out, which a note says. DataError: a key that cannot be
    recorded, a class map that cannot be read or that leaves no image.
    """
    if config.labels == "none":
        names, classes = dict.fromkeys(names), ()
    if config.class_map is not None:
        classes = read_class_map(config.class_map)
        names, left_out = _only(classes, names)
        notes = (*notes, *left_out)
        if not names:
            raise DataError(f"{config.class_map} names no class of {root}; give one class name per line.")
    if classes is None:
        classes = sorted({name for name in names.values() if name is not None}, key=natural_key)
    classes = tuple(classes)
    notes = (*notes, *_clashes("the classes", classes), *_clashes("the images", names))
    index: dict[str | None, int] = {name: number for number, name in enumerate(classes)} | {None: -1}
    keys = tuple(sorted((check_key(key, root) for key in names), key=natural_key))
    return ImageList(
        root=root,
        keys=keys,
        labels=tuple(index[names[key]] for key in keys),
        classes=classes,
        files=files,
        ignored=ignored,
        notes=notes,
        origin=origin,
    )


def _clashes(what: str, names: Iterable[str]) -> tuple[str, ...]:
    """A note on names that differ by case or by the form of their letters alone."""
    found = clashes(names)
    if not found:
        return ()
    one, other = found[0]
    more = f" (and {len(found) - 1:,} more such pairs)" if len(found) > 1 else ""
    return (
        f"{what} {told(one)} and {told(other)} differ by case or by the form of their letters alone{more}: they count as two; "
        "rename one where they are the same.",
    )


def _only(classes: Sequence[str], names: Mapping[str, str | None]) -> tuple[dict[str, str | None], tuple[str, ...]]:
    """Those of `names` that have no class or one of `classes`, as that is spelled there, and a note on the others."""
    find = finder(classes)
    spelled = {name: None if name is None else find(name) for name in set(names.values())}
    kept = {key: spelled[name] for key, name in names.items() if name is None or spelled[name] is not None}
    others = {name for name in names.values() if name is not None and spelled[name] is None}
    if not others:
        return kept, ()
    left_out = (
        f"{len(names) - len(kept):,} images of {len(others)} classes that --class-map does not name are left out."
    )
    return kept, (left_out,)


def read_class_map(path: str) -> tuple[str, ...]:
    """The class names in the text file `path`, one a line; a name's line number is its label, as in timm. DataError."""
    try:
        lines = read_text(path).splitlines()
    except OSError as error:
        raise DataError(f"--class-map {path} cannot be read ({error.strerror}); give a text file.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"--class-map {path} is not UTF-8 text; write one class name per line.") from error
    names = [line.strip() for line in lines]
    while names and not names[-1]:
        names.pop()
    if not all(names):
        raise DataError(f"--class-map {path} has an empty line {names.index('') + 1}; write one class name per line.")
    double = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if double is not None or not names:
        what = f"names the class '{double}' twice" if names else "is empty"
        raise DataError(f"--class-map {path} {what}; write each class name once, one per line.")
    return tuple(names)
