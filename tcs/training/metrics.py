"""metrics.jsonl: one JSON object a line, a line a row. The lines are strict JSON whatever the values.

JSON has no word for numbers that are not finite, so they stand there as the texts "nan", "inf" and "-inf", which tell more
than null and which `float()` reads; `load_metrics` gives the numbers back. A line is handed to the system at once, and whole.
"""

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from cache import write_error
from tcs.errors import ArtefactError
from tcs.ordinary import read_ordinary, require_ordinary

Value = float | int | str | None
Row = Mapping[str, Value]
STEP = "step"
MEASURED_COLUMNS = ("images_per_s", "data_wait")  # by the clock
NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def load_metrics(path: pathlib.Path, *, measured: bool = True) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, in order; without the MEASURED_COLUMNS if so asked.

    All other columns of a resumed run are those of an uninterrupted one. A last line that a kill cut short is left out.
    ArtefactError, with file and line, for any other line that is no row, and where the file is missing.
    """
    try:
        data = read_ordinary(path)
    except OSError as error:
        raise ArtefactError(f"metrics {path} cannot be read ({error.strerror}); is {path.parent} a run?") from error
    left_out = () if measured else MEASURED_COLUMNS
    return [{key: row[key] for key in row if key not in left_out} for row in parse_lines(data, path)]


def to_line(row: Row) -> bytes:
    """`row` as a line of metrics.jsonl."""
    assert isinstance(row.get(STEP), int), f"a row needs a whole number as {STEP}: {row}"
    for key, value in row.items():
        assert value is None or isinstance(value, float | int | str), (
            f"{key} is a {type(value).__name__}; log plain values"
        )
    texts = {key: str(value) if _is_not_finite(value) else value for key, value in row.items()}
    return (json.dumps(texts, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "backslashreplace")


def parse_lines(data: bytes, path: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of `data`, read from `path`; errors as in `load_metrics`."""
    *lines, last = data.split(b"\n")
    rows = [_parsed(line, f"metrics {path}, line {number}") for number, line in enumerate(lines, 1)]
    try:
        return [*rows, *([_parsed(last, "")] if last else [])]
    except ArtefactError:
        return rows


def _is_not_finite(value: Value) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _parsed(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict) or type(row.get(STEP)) is not int:
        found = line[:60].decode("utf-8", "backslashreplace")
        raise ArtefactError(
            f"{where} is no row ({found!r}); a row is a JSON object with a whole number as {STEP}. Delete that line."
        )
    return {key: NOT_FINITE.get(value, value) if isinstance(value, str) else value for key, value in row.items()}


def _refuse(word: str) -> None:
    raise ValueError(word)


class AppendedFile:
    """`path`, opened to append without a buffer: what was written survives a kill of this process.

    A write that the system refuses raises StoreWriteError; the piece may then stand there in part.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        try:
            require_ordinary(path)
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise write_error(path, error) from error

    def write(self, piece: bytes) -> None:
        """Append `piece`."""
        rest = memoryview(piece)
        try:
            while rest:  # a disk that fills up takes a part of it first
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise write_error(self._path, error) from error

    def sync(self) -> None:
        """Let all that was written reach the disk, so that it survives a power cut too."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise write_error(self._path, error) from error

    def close(self) -> None:
        """Let go of the file; a second call changes nothing."""
        self._file.close()
