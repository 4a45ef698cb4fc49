"""The images of a data set: their keys, their order, their classes, and where their bytes are."""

import dataclasses
import pathlib
import re


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageList:
    """The images under `root`: `keys` are relative posix paths in natural order, `labels` index `classes` (-1: none).

    `ignored` counts the visible files without an image extension.
    """

    root: pathlib.Path
    keys: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    ignored: int = 0

    def read(self, key: str) -> bytes:
        """The bytes of the file `key`; OSError where it cannot be read."""
        return (self.root / key).read_bytes()

    def size_bytes(self) -> int:
        """The summed size of all files (0 for those that vanished meanwhile; reading them will tell)."""
        paths = (self.root / key for key in self.keys)
        return sum(path.stat().st_size for path in paths if path.exists())


def natural_key(text: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key by which ``img2`` comes before ``img10``; the text itself breaks ties such as ``01`` and ``1``."""
    parts = re.findall(r"[0-9]+|[^0-9]+", text.lower())
    return [(0, int(part), "") if part[0] in "0123456789" else (1, 0, part) for part in parts], text
