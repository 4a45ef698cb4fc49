"""Tables of images: a CSV or parquet file that names the path of each image and, where known, its class.

Columns: `path` (or the one that --input-key names), and if present `label` (--target-key) and `key`; others are not read.
"""

import contextlib
import csv
import io
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from tcs.config.extract import DataConfig
from tcs.errors import DataError, did_you_mean
from tcs.images.listing import ImageList, PathFiles, make_list
from tcs.ordinary import open_ordinary, require_ordinary

PATH, LABEL, KEY = "path", "label", "key"
# Spreadsheets of some languages save CSV with semicolons.
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}

# One row: its number in the file, counted as its readers count, and the texts of path, label and key.
Row = tuple[int, tuple[str | None, str | None, str | None]]


def open_table(config: DataConfig) -> ImageList:
    """The images that the table `config.data` names, in natural order of their keys, whatever the order of the rows.

    Paths are relative to `config.data_dir`, or to the table's folder. A key is the path, tidied (``./a//b`` is
    ``a/b``), unless there is a column `key`. An empty label is none. A missing image is no error here: it cannot be
    read later. DataError: a file that is no such table, a column that is missing, an empty path, a key that is there
    twice, a path out of the folder without a key.
    """
    table = pathlib.Path(config.data)
    base = pathlib.Path(config.data_dir or table.parent).absolute()
    if not base.is_dir():
        raise DataError(f"--data-dir {base} is no folder; give the one that the paths in {table} are relative to.")
    columns, rows = _read(table, config)
    paths: dict[str, str] = {}
    names: dict[str, str | None] = {}
    numbers: dict[str, int] = {}
    for number, (path, label, key) in rows:
        if not path or "\0" in path:
            raise DataError(f"{table} has no path in row {number}; fill it in or remove the row.")
        key = key or _key(path, base, f"{table} row {number}")
        if key in numbers:
            raise DataError(f"{table} has the key '{key}' in the rows {numbers[key]} and {number}; remove one of them.")
        numbers[key], paths[key], names[key] = number, path, (label or "").strip() or None
    if not paths:
        raise DataError(f"{table} has a header and no rows; write one row per image.")
    unread = [name for name in columns if name not in _wanted(config)]
    notes = (f"columns of {table} that are not read: {', '.join(unread)}.",) if unread else ()
    files = PathFiles(base, {key: path for key, path in paths.items() if key != path})
    origin = {"kind": table.suffix.lower()[1:], "path": str(table), "base": config.data_dir}
    return make_list(config, root=str(table), names=names, files=files, origin=origin, notes=notes)


def _wanted(config: DataConfig) -> tuple[str, str, str]:
    return config.input_key or PATH, config.target_key or LABEL, KEY


def _key(path: str, base: pathlib.Path, where: str) -> str:
    """The path relative to `base`, in posix form; DataError where it leads elsewhere, so would tie a store to a place."""
    pure = pathlib.PurePath(path)
    with contextlib.suppress(ValueError):
        pure = pure.relative_to(base)
    if pure.is_absolute() or ".." in pure.parts:
        raise DataError(
            f"{where}: the path '{path}' leads out of {base}; name a --data-dir above it, or add a column key."
        )
    return pure.as_posix()


def _read(table: pathlib.Path, config: DataConfig) -> tuple[Sequence[str], Iterator[Row]]:
    """The names of all columns, and the rows of those wanted."""
    if not table.is_file():
        raise DataError(f"{table} is no file; DATA must be a folder, a .tar, a table or a timm data set string.")
    return (_read_parquet if table.suffix.lower() == ".parquet" else _read_csv)(table, config)


def _columns(
    table: pathlib.Path, config: DataConfig, columns: Sequence[str], separated: str = ""
) -> tuple[int, int | None, int | None]:
    """Places of the columns path, label and key among `columns`. DataError: missing though needed, or there twice.

    `separated` says for the message how the first line was read, where that is not by commas.
    """
    path, label, key = _wanted(config)
    found = ", ".join(columns)[:200]
    needed = [path] if config.target_key is None or config.labels == "none" else [path, label]
    for name in needed:
        if name not in columns:
            hint = did_you_mean(name, columns)
            raise DataError(
                f"{table} has no column '{name}' (its columns, by the first line{separated}: {found}); rename one, or name it with"
                f" {'--input-key' if name == path else '--target-key'}.{hint}"
            )
    for name in (path, label, key):
        if list(columns).count(name) > 1:
            raise DataError(f"{table} has two columns '{name}'; remove one of them.")
    places = [columns.index(name) if name in columns else None for name in (label, key)]
    return columns.index(path), places[0], places[1]


def _read_csv(table: pathlib.Path, config: DataConfig) -> tuple[Sequence[str], Iterator[Row]]:
    """Double quotes as RFC 4180 has them, UTF-8 with or without a mark, any line ends; empty lines do not count.

    Fields are separated by commas, or by semicolons or tabs where that is what makes the first line name the paths.
    """
    delimiter, lines, header = _csv_with_header(table, _wanted(config)[0])
    if not header:
        raise DataError(f"{table} is empty; its first line must name the columns: path, and label where there are any.")
    columns = [name.strip() for name in header]
    places = _columns(table, config, columns, "" if delimiter == "," else f", separated by {DELIMITERS[delimiter]}")

    def rows() -> Iterator[Row]:
        for number, fields in lines:
            if len(fields) != len(columns):
                raise DataError(
                    f"{table} line {number} has {len(fields)} fields, the header {len(columns)};"
                    f" put texts with {DELIMITERS[delimiter]} in double quotes."
                )
            path, label, key = (None if place is None else fields[place] for place in places)
            yield number, (path, label, key)

    return columns, rows()


def _csv_with_header(table: pathlib.Path, path: str) -> tuple[str, Iterator[tuple[int, list[str]]], list[str]]:
    """The first of DELIMITERS by which there is a column `path`, the lines behind the first one, and that one.

    Where there is none by any, that one counts by which the first line has more than one field, so that its columns can be told.
    """
    found = [(delimiter, *_first_line_apart(table, delimiter, told=delimiter == ",")) for delimiter in DELIMITERS]
    by_name = (item for item in found if path in (name.strip() for name in item[2]))
    by_fields = (item for item in found if len(item[2]) > 1)
    return next(by_name, None) or next(by_fields, found[0])


def _first_line_apart(
    table: pathlib.Path, delimiter: str, *, told: bool
) -> tuple[Iterator[tuple[int, list[str]]], list[str]]:
    """All lines but the first, and the first; what is wrong with a file is `told` by one delimiter alone."""
    lines = _csv_lines(table, delimiter)
    try:
        return lines, next(lines, (0, list[str]()))[1]
    except DataError:
        if told:
            raise
        return iter(()), []


def _csv_lines(table: pathlib.Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of each line that is not empty. DataError: not UTF-8, not CSV, unreadable."""
    try:
        with io.TextIOWrapper(open_ordinary(table), encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True, delimiter=delimiter)
            for fields in reader:
                if fields:
                    yield reader.line_num, fields
    except UnicodeDecodeError as error:
        raise DataError(f"{table} is not UTF-8 text ({error.reason}); save it as UTF-8.") from error
    except csv.Error as error:
        raise DataError(f"{table} line {reader.line_num} is no CSV ({error}); correct it.") from error
    except OSError as error:
        raise DataError(f"{table} cannot be read ({error.strerror}); correct its permissions.") from error


def _read_parquet(table: pathlib.Path, config: DataConfig) -> tuple[Sequence[str], Iterator[Row]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"reading {table} needs pyarrow: pip install tcs-distill[data]") from error
    try:
        require_ordinary(table)
        with pyarrow.parquet.ParquetFile(table) as file:
            schema = file.schema_arrow
            _refuse_image_columns(table, config, schema)
            places = _columns(table, config, schema.names)
            _check_types(table, schema, places)
            wanted = {schema.names[place] for place in places if place is not None}
            values = file.read(columns=sorted(wanted)).to_pydict()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{table} cannot be read as parquet ({_first_line(error)}); write it again.") from error
    texts = [
        [None] * len(values[schema.names[places[0]]]) if p is None else _texts(values[schema.names[p]]) for p in places
    ]
    return schema.names, ((number, row) for number, row in enumerate(zip(*texts, strict=True), start=1))


def _texts(values: Sequence[Any]) -> list[str | None]:
    return [None if value is None else str(value) for value in values]


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")


def _refuse_image_columns(table: pathlib.Path, config: DataConfig, schema: Any) -> None:
    name = config.input_key or "image"
    if name in schema.names and (PATH not in schema.names or config.input_key):
        kind = str(schema.field(name).type)
        if kind.startswith(("struct", "binary", "large_binary")):
            raise DataError(f"{table} holds the images themselves (column {name}); read it as hfds/{table}.")


def _check_types(table: pathlib.Path, schema: Any, places: Sequence[int | None]) -> None:
    """Only texts and whole numbers name a path or a class beyond doubt: 3.0 and true are written in several ways."""
    import pyarrow.types

    for place, number_too in zip(places, (False, True, False), strict=True):
        if place is None:
            continue
        name, kind = schema.names[place], schema.field(place).type
        if not str(kind.value_type if pyarrow.types.is_dictionary(kind) else kind).startswith(
            ("string", "large_string") + (("int", "uint", "null") if number_too else ())
        ):
            wanted = "texts or whole numbers" if number_too else "texts"
            raise DataError(f"{table} has the column {name} of type {kind}; it must hold {wanted}.")
