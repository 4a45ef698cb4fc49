"""Pictures in strips, as the template `pictures.html` shows them, and names cut to what a page can hold."""

import dataclasses
from collections.abc import Sequence

MOST_NAME_BYTES = 80


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tile:
    """A picture (a data URI, or empty) with its words: `name` and `alt` say which image, `lines` stand below it; `mark` is a class of its
    frame."""

    uri: str
    name: str
    alt: str
    lines: tuple[str, ...] = ()
    mark: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Strip:
    """Pictures in a row under a heading."""

    title: str
    tiles: Sequence[Tile]
    note: str = ""


def shortened(text: str) -> str:
    """Text that a page can hold: valid UTF-8, of a long one the end."""
    data = text.encode("utf-8", "replace")
    if len(data) <= MOST_NAME_BYTES:
        return data.decode()
    return "…" + data[-MOST_NAME_BYTES + 3 :].decode("utf-8", "ignore")
