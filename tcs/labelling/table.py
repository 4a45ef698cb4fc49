"""The table of suggestions, `key,rank,reason,class`: written with an empty class, and compared with one that is there."""

import csv
import dataclasses
import io
import pathlib
from collections.abc import Sequence

import cache
from tcs.errors import ArtefactError, DataError
from tcs.ordinary import read_ordinary

COLUMNS = ("key", "rank", "reason", "class")


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """An image to label: its key, its place in the order (from 1), and in words why it was chosen. `row` is that of the store."""

    row: int
    key: str
    rank: int
    reason: str


def write_suggestions(path: pathlib.Path, suggestions: Sequence[Suggestion]) -> None:
    """Write the table, whole or not at all; DataError for a key that no line can hold."""
    broken = [item.key for item in suggestions if "\n" in item.key or "\r" in item.key]
    if broken:
        raise DataError(f"key '{broken[0]!r}' holds a line break, which a table of keys cannot; rename the image.")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((item.key, item.rank, item.reason, "") for item in suggestions)
    cache.atomic_write_bytes(path, text.getvalue().encode("utf-8", "surrogateescape"))


def read_suggested(path: pathlib.Path) -> list[tuple[str, ...]] | None:
    """(key, rank, reason) of every line of a table that is there, whatever its classes; None where the file is no such table."""
    try:
        text = read_ordinary(path).decode("utf-8-sig", "surrogateescape")
        lines = [tuple(line[:-1]) for line in csv.reader(io.StringIO(text, newline="")) if line]
    except (OSError, csv.Error):
        return None
    return lines[1:] if lines[:1] == [COLUMNS[:-1]] else None


def require_replaceable(path: pathlib.Path, n: int) -> None:
    """ArtefactError unless the file at `path`, which may hold the work of people, could be what this command writes."""
    found = read_suggested(path)
    if found is None or len(found) != n:
        what = "is no table of suggestions" if found is None else f"has {len(found)} rows and not {n}"
        raise ArtefactError(
            f"{path} exists and {what}; name another --out, or pass --overwrite to replace it with its classes."
        )


def require_same(path: pathlib.Path, suggestions: Sequence[Suggestion]) -> None:
    """ArtefactError unless the table at `path` names these suggestions."""
    if read_suggested(path) != [(item.key, str(item.rank), item.reason) for item in suggestions]:
        raise ArtefactError(
            f"{path} exists and was made otherwise (another store, seed or labels so far); name another --out, or pass "
            "--overwrite to replace it with its classes."
        )
