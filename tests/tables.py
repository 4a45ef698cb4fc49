"""Tables of numbers as files, read with plain csv, and lines of tables in Markdown."""

import csv
import pathlib


def read_rows(path: pathlib.Path) -> list[dict[str, str]]:
    """The rows of a CSV file, a dict each."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def cells_of(line: str) -> tuple[str, list[str]]:
    """The first cell of a line in Markdown, and the others."""
    first, *rest = [cell.strip() for cell in line.strip("|").split("|")]
    return first, rest
