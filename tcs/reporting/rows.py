"""results.csv of a few-shot grid, read with every line checked: what `tcs fewshot` adds to and `tcs report` averages."""

import csv
import io
import math
import pathlib
from collections.abc import Mapping, Sequence

import cache
from tcs.errors import ArtefactError
from tcs.ordinary import open_ordinary

# The files of a grid's folder that a report reads.
RESULTS, RECIPE, LEDGER, CELLS, PREDICTIONS = "results.csv", "recipe.yaml", "ledger.json", "cells.jsonl", "predictions"

KEY = ("model", "method", "shots", "seed", "unlabelled")  # with DATASET the cell of a row: one row each
DATASET = "dataset"  # which pair of stores of the recipe; files of a single pair may lack the column
CELL_KEY = (DATASET, *KEY)
NEEDED = (*KEY, "status", "top1")
STATES = ("ok", "failed")
REMEDY = "remove the line and run tcs fewshot again."


def cell_digest(key: Sequence[str]) -> str:
    """16 hex digits that stand in files for the cell with these values of CELL_KEY."""
    return cache.digest_of_json(list(key))[:16]


def load_rows(
    path: pathlib.Path, needed: Sequence[str] = NEEDED
) -> tuple[tuple[str, ...], list[tuple[int, dict[str, str]]]]:
    """(columns, rows with their line numbers) of a file that has the columns `needed`, NEEDED among them; values as text.

    OSError where it cannot be read. ArtefactError for a column that is missing, and, naming the line, for too many or too few
    values, as in a line that was torn; another status; a top-1 that is no percentage; shots that are no
    count; a cell that an earlier line has already.
    """
    with io.TextIOWrapper(open_ordinary(path), encoding="utf-8", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            columns = tuple(next(reader, ()))
            lines = [(reader.line_num, values) for values in reader]
        except (csv.Error, UnicodeDecodeError) as error:
            raise ArtefactError(f"{path} is no CSV at line {reader.line_num} ({error}); {REMEDY}") from error
    missing = [column for column in needed if column not in columns]
    if missing:
        raise ArtefactError(f"{path} lacks the column {', '.join(missing)}; it is not a results file of tcs fewshot.")
    rows, seen = [], dict[tuple[str, ...], int]()
    for line, values in lines:
        row = _row(path, line, columns, values)
        before = seen.setdefault((row.get(DATASET, ""), *(row[column] for column in KEY)), line)
        if before != line:
            raise ArtefactError(f"{path} line {line} is of the same cell as line {before}; {REMEDY}")
        rows.append((line, row))
    return columns, rows


def _row(path: pathlib.Path, line: int, columns: tuple[str, ...], values: list[str]) -> dict[str, str]:
    if len(values) != len(columns):
        raise ArtefactError(f"{path} line {line} has {len(values)} values for {len(columns)} columns; {REMEDY}")
    row = dict(zip(columns, values, strict=True))
    if row["status"] not in STATES:
        raise ArtefactError(f"{path} line {line} has status '{row['status']}', and not ok or failed; {REMEDY}")
    if row["status"] == "ok" and not _is_percentage(row):
        raise ArtefactError(f"{path} line {line} has top1 '{row['top1']}', which is no percentage; {REMEDY}")
    if not (row["shots"].isascii() and row["shots"].isdecimal()):
        raise ArtefactError(
            f"{path} line {line} has shots '{row['shots']}', which is no whole number from 0 up; {REMEDY}"
        )
    return row


def _is_percentage(row: Mapping[str, str]) -> bool:
    try:
        value = float(row["top1"])
    except ValueError:
        return False
    return math.isfinite(value) and 0 <= value <= 100
