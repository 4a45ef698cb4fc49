"""Tables of numbers as files, read with plain csv."""

import csv
import pathlib


def read_rows(path: pathlib.Path) -> list[dict[str, str]]:
    """The rows of a CSV file, a dict each."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
