"""Tables of results that grow row by row: what a CSV holds already is not measured again."""

import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any

from tcs.plain_files import load_table, save_table
from tcs.runtime import environment

Done = Set[tuple[str, ...]]


def append_rows(out: pathlib.Path, key: Sequence[str], rows: Callable[[Done], Iterable[Mapping[str, Any]]]) -> None:
    """Add what `rows` yields to the CSV `out`, each with the commit, saved and printed as it comes.

    `rows` is given the values of the columns `key` of every row that is there, as texts, and leaves those out.
    """
    out.parent.mkdir(parents=True, exist_ok=True)  # now, and not when the first row has been paid for
    found = load_table(out)
    done, commit = {tuple(row[name] for name in key) for row in found}, environment()["commit"]
    for row in rows(done):
        found.append({**row, "commit": commit})
        save_table(out, found)
        print(" ".join(f"{value}" for value in row.values()), flush=True)
