"""Splits as files that other programs read as well; tcs.splits.label_file reads all of them.

`lines` is `class key`, one a row. `ibm2` is the same with the key inside its class folder, as the lists of IbM2 and practical few-shot
learning are. `coop` is the JSON of CoOp's splits: lists `train`, `val` and `test` of `[path, number of the class, class]`, of which
the last two are empty.
Legend: N rows of the store.
"""

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

import cache
from tcs.errors import DataError
from tcs.splits.shots import Split

LINES, IBM2, COOP = "lines", "ibm2", "coop"
Row = tuple[str, int, str]  # key, number of the class, class


def write_split_file(
    path: str | pathlib.Path,
    split: Split,
    keys: Sequence[str],
    labels_N: NDArray[np.integer],
    classes: Sequence[str],
    form: str = LINES,
) -> None:
    """Write the rows of the split in its order, whole or not at all. DataError for a name that the form cannot hold.

    In lines the separator is one space, as in the files that others publish; a line whose class holds white space, or whose key
    holds a tab, uses one tab instead.
    """
    rows = [(keys[row], int(labels_N[row]), classes[labels_N[row]]) for row in split.rows_n]
    cache.atomic_write_bytes(pathlib.Path(path), FORMS[form](rows).encode("utf-8", "surrogateescape"))


def suffix_of(form: str) -> str:
    """`.txt`, or `.json` for `coop`."""
    return ".json" if form == COOP else ".txt"


def _lines(rows: Sequence[Row]) -> str:
    return "".join(_line(name, key) for key, _, name in rows)


def _ibm2(rows: Sequence[Row]) -> str:
    return "".join(_line(name, _inside(name, key)) for key, _, name in rows)


def _coop(rows: Sequence[Row]) -> str:
    for key, _, name in rows:
        _require_text(name, key)
    return json.dumps({"train": [list(row) for row in rows], "val": [], "test": []}, ensure_ascii=False)


def _inside(name: str, key: str) -> str:
    folder, slash, rest = key.partition("/")
    if not (slash and rest and folder == name):
        raise DataError(
            f"key '{key}' is not in a folder '{name}', its class, as lists of IbM2 have it; write the split as {LINES} or {COOP}."
        )
    return rest


def _line(name: str, key: str) -> str:
    if "\n" in name + key or "\t" in name:
        raise DataError(f"class '{name!r}', key '{key!r}': a split file cannot hold line breaks, nor tabs in a class.")
    separator = "\t" if "\t" in key or len(name.split()) != 1 else " "
    return f"{name}{separator}{key}\n"


def _require_text(name: str, key: str) -> None:
    try:
        (name + key).encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"class {name!a}, key {key!a}: JSON holds names in UTF-8 alone; write the split as {LINES}."
        ) from error


FORMS: Mapping[str, Callable[[Sequence[Row]], str]] = {LINES: _lines, IBM2: _ibm2, COOP: _coop}
