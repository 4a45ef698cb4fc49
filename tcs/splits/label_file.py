"""Files that say of which class images are: `class key` lines, a table with the columns `key` (or `path`) and `class`, or the JSON
of CoOp's splits, of whose entries `[path, number, class]` the list `train` is read.

The form is told by the first line. In a table, which a spreadsheet may have saved (with commas, semicolons or tabs, with or without
a byte-order mark, with the line ends of any system), rows without a class are not labelled yet and are passed over. A further header
line begins another table, with columns of its own: files of several rounds may be joined end to end. A `class key` line is cut at its
first tab, or without a tab at its first space.
"""

import codecs
import csv
import dataclasses
import io
import json
import pathlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tcs.config.names import Finder, finder
from tcs.errors import DataError, did_you_mean
from tcs.ordinary import read_ordinary

KEY, PATH, CLASS = "key", "path", "class"

DELIMITERS = (",", ";", "\t")
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
BYTE_ORDER_MARK = "\ufeff"
PICKLED = b"\x80"  # the first byte of every pickle since protocol 2; no text in UTF-8 begins with it
LINE_END = re.compile("\r\n|\n|\r")  # of old spreadsheets \r alone; no other character that Unicode has for it
IN_UTF_8 = "save it as UTF-8 (in a spreadsheet: CSV UTF-8)"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelLine:
    """A line that gives a key its class. `place` is its file and number, for messages."""

    place: str
    number: int
    name: str
    key: str

    def spelled(self, find: Finder) -> "LabelLine":
        """The line with its class as `find` has it, where that is known."""
        return dataclasses.replace(self, name=find(self.name) or self.name)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class GivenLabels:
    """M labelled rows of a store, rising, and their labels: indexes into `classes`, the names in the file, sorted. int64."""

    rows_M: NDArray[np.int64]
    labels_M: NDArray[np.int64]
    classes: tuple[str, ...]


def read_label_lines(path: str | pathlib.Path, option: str = "--split-file") -> list[LabelLine]:
    """The labelled lines of a file, in its order; DataError where it cannot be read, is no text, or a line is of neither form."""
    text = _text_of(path, option)
    try:
        lines = list(_lines_of(path, text))
    except csv.Error as error:
        raise DataError(f"{path} is no table ({error}); {IN_UTF_8}, one image a line.") from error
    for line in lines:
        _require_text(line)
    return lines


def _lines_of(path: str | pathlib.Path, text: str) -> Iterator[LabelLine]:
    """The lines in whichever form the text has: CoOp's JSON, a table, or `class key`."""
    if text.lstrip().startswith("{"):
        return _json_lines(path, text)
    delimiter = _table_delimiter(text)
    return _plain_lines(path, text) if delimiter is None else _table_lines(path, text, delimiter)


def read_key_lines(path: str | pathlib.Path, option: str) -> list[LabelLine]:
    """The images that a file names, one a line or in the column `key` or `path` of a table, in its order; their `name` is empty. Other
    columns are passed over. DataError where it cannot be read, or a line of the table has no key."""
    lines = LINE_END.split(_text_of(path, option))
    for delimiter in DELIMITERS:
        columns = next(csv.reader(lines[:1], delimiter=delimiter), [])
        column = next((columns.index(name) for name in (KEY, PATH) if name in columns), None)
        if column is not None:
            table = csv.reader(io.StringIO("\n".join(lines[1:]), newline=""), delimiter=delimiter)
            keys = [
                (number, values[column] if column < len(values) else "")
                for number, values in enumerate(table, 2)
                if values
            ]
            break
    else:
        keys = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    for number, key in keys:
        if not key:
            raise DataError(f"{path} line {number} has no key; give it, or delete the line.")
    return [LabelLine(place=f"{path} line {number}", number=number, name="", key=key) for number, key in keys]


def _text_of(path: str | pathlib.Path, option: str) -> str:
    try:
        content = read_ordinary(path)
    except OSError as error:
        what = (
            f"{option.removeprefix('--').replace('-', ' ')} {path}"
            if option.endswith("-file")
            else f"split file {path}"
        )
        raise DataError(f"{what} cannot be read ({error.strerror}); check {option}.") from error
    if content.startswith(UTF_16):
        raise DataError(f"{path} is UTF-16; {IN_UTF_8}.")
    if content.startswith(PICKLED):
        raise DataError(
            f"{path} is a pickle, which could run any program, and is not opened. Where you trust it, write its entries as lines: "
            "for x in pickle.load(open(path, 'rb'))['train']: print(x.classname, x.impath, sep='\\t')."
        )
    return content.decode("utf-8-sig", "surrogateescape")  # keys may be file names in no encoding at all


def _require_text(line: LabelLine) -> None:
    """DataError for a class that is no text, as of a table in Latin-1, or holds control characters, as of a quote that nobody closed:
    it would be a class of another name than was meant."""
    try:
        line.name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{line.place} has a class that is not UTF-8 ({line.name!a}); {IN_UTF_8}.") from error
    if any(unicodedata.category(letter) == "Cc" for letter in line.name):
        raise DataError(
            f"{line.place} has the class {line.name[:80]!a}, which holds control characters; is a quote left open before it?"
        )


def read_labels(path: str | pathlib.Path, keys: Sequence[str], option: str) -> GivenLabels:
    """The rows of `keys` that a file labels, whatever a store says of them; DataError for an unknown key, or one named twice."""
    lines = read_label_lines(path, option)
    classes = tuple(sorted({line.name for line in lines}))
    number_of = {name: number for number, name in enumerate(classes)}
    label_of = {row: number_of[line.name] for line, row in resolved_rows(lines, keys)}
    rows_M = np.array(sorted(label_of), np.int64)
    labels_M = np.array([label_of[row] for row in rows_M.tolist()], np.int64)
    return GivenLabels(rows_M=rows_M, labels_M=labels_M, classes=classes)


def resolved_rows(lines: Iterable[LabelLine], keys: Sequence[str]) -> Iterator[tuple[LabelLine, int]]:
    """Each line with the row of its key; DataError for a key that the store lacks, or that an earlier line named.

    A key that the store lacks is also looked up as `class/key`, since published lists often leave the class folder out.
    """
    row_of, find = {key: row for row, key in enumerate(keys)}, finder(keys)
    seen: dict[int, int] = {}
    for line in lines:
        key = find(line.key) or find(f"{line.name}/{line.key}")
        if key is None:
            raise DataError(
                f"{line.place} names '{line.key}', which the store lacks.{did_you_mean(line.key, row_of) or ' Correct it.'}"
            )
        row = row_of[key]
        if row in seen:
            raise DataError(f"{line.place} names '{line.key}' again (line {seen[row]}); keep one of the two lines.")
        seen[row] = line.number
        yield line, row


def _json_lines(path: str | pathlib.Path, text: str) -> Iterator[LabelLine]:
    try:
        entries = json.loads(text)["train"]
    except (ValueError, KeyError) as error:
        raise DataError(
            f"{path} is no split file in JSON ({error}); it must have a list 'train' of [path, number, class]."
        ) from error
    for number, entry in enumerate(entries if isinstance(entries, list) else [entries], 1):
        if not (
            isinstance(entry, list) and len(entry) == 3 and isinstance(entry[0], str) and isinstance(entry[2], str)
        ):
            raise DataError(
                f"{path} entry {number} of train is {str(entry)[:80]}; each entry must be [path, number, class]."
            )
        yield LabelLine(place=f"{path} entry {number} of train", number=number, name=entry[2], key=entry[0])


def _plain_lines(path: str | pathlib.Path, text: str) -> Iterator[LabelLine]:
    for number, line in enumerate(LINE_END.split(text), 1):
        if not line.strip():
            continue
        name, separator, key = line.partition("\t" if "\t" in line else " ")
        if not (name and separator and key):
            raise DataError(
                f"{path} line {number} is '{line[:80]}'; each line must be `class key`, or the first one the header of a table "
                "with the columns key and class."
            )
        yield LabelLine(place=f"{path} line {number}", number=number, name=name, key=key)


def _table_delimiter(text: str) -> str | None:
    """What separates the columns of the first line, `class` and `key` or `path`; None where it has no such columns."""
    header = LINE_END.split(text, maxsplit=1)[0]
    for delimiter in DELIMITERS:
        columns = set(next(csv.reader([header], delimiter=delimiter), []))
        if CLASS in columns and columns & {KEY, PATH}:
            return delimiter
    return None


def _table_lines(path: str | pathlib.Path, text: str, delimiter: str) -> Iterator[LabelLine]:
    table = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header = next(table)
    key_column, class_column = _columns(header)
    for values in table:
        number = table.line_num
        values[:1] = [cell.removeprefix(BYTE_ORDER_MARK) for cell in values[:1]]  # of a table joined to the one before
        _require_as_wide(f"{path} line {number}", values, header)
        _require_same_delimiter(f"{path} line {number}", values, delimiter)
        if _is_header(values):  # of the next table, whose columns may be others
            header = values
            key_column, class_column = _columns(header)
            continue
        cells = values + [""] * (len(header) - len(values))
        name, key = cells[class_column].strip(), cells[key_column]
        if not name:
            continue
        if not key:
            raise DataError(
                f"{path} line {number} has the class '{name}' and no key; give the key, or delete the line."
            )
        yield LabelLine(place=f"{path} line {number}", number=number, name=name, key=key)


def _is_header(cells: Sequence[str]) -> bool:
    return CLASS in cells and not {KEY, PATH}.isdisjoint(cells)


def _columns(header: Sequence[str]) -> tuple[int, int]:
    """Where keys and classes stand."""
    return header.index(KEY if KEY in header else PATH), header.index(CLASS)


def _require_as_wide(place: str, values: Sequence[str], header: Sequence[str]) -> None:
    """DataError for a row with more cells than its header: its class would be read from the wrong one. Empty cells at the end, as
    spreadsheets leave them, are none."""
    if not any(values[len(header) :]):
        return
    glued = _glued_header(values, header)
    if glued is None and _is_header(values):
        return
    remedy = (
        "quote a cell that holds the delimiter, or name every column in the header."
        if glued is None
        else f"the header {','.join(glued)} of a joined table has no line of its own; begin a new line before it."
    )
    cells = ", ".join(values)
    raise DataError(
        f"{place} has {len(values)} cells ({cells[:120]}), and its header {len(header)} ({', '.join(header)[:120]}); {remedy}"
    )


def _glued_header(values: Sequence[str], header: Sequence[str]) -> list[str] | None:
    """The header at the end of a row, where a file without a last line end was joined to a table: `a.jpg,tulipskey,rank,class`.

    A header of its own, `id,key,class`, is told from the row `a.jpg,key,class`, whose class was empty, by its other cells: they are words.
    """
    last, rest = values[len(header) - 1], list(values[len(header) :])
    if _is_header(values) and values[_columns(header)[0]].isidentifier():
        return None
    found = next(
        ([word, *rest] for word in (KEY, PATH, CLASS) if last.endswith(word) and _is_header([word, *rest])), None
    )
    return found or (rest if _is_header(rest) else None)


def _require_same_delimiter(place: str, values: Sequence[str], delimiter: str) -> None:
    """DataError for the header of a joined table with another delimiter, all rows of which would be one cell without a class."""
    other = _table_delimiter(values[0]) if len(values) == 1 else None
    if other is not None:
        raise DataError(
            f"{place} begins a table with the delimiter {other!r}, and the one before it has {delimiter!r}; save both with the same."
        )
