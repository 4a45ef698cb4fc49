"""The command line of the harnesses of doors: many cases run in parts, on other days or machines, and their counts in one table.

    python scripts/doors.py --cases 5000 --seed 1 --part 3/10 --tally benchmarks/results/doors/tally.csv

A part is an unbroken stretch of the cases, which are a function of (seed, number), so that all parts together are the whole. A part that
the table has of this commit is not run again: the loop over all parts resumes.
"""

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from tcs.plain_files import load_table, save_table
from tcs.runtime import environment

COLUMNS = ("harness", "cases", "seed", "part", "only", "commit", "date", "processor_s", "wall_s", "verdict", "count")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """Cases `first` to `last` - 1 of those of `seed`; of the files or commands whose name holds `only`. A command that is there after
    `seconds` hangs."""

    first: int
    last: int
    seed: int = 0
    only: str = ""
    seconds: int = 60
    verbose: bool = False


def command_line(
    told: str, harness: str, run: Callable[[Asked], Mapping[str, int]], fine: Sequence[str], only: str
) -> None:
    """Run the cases that are asked for, which print what is wrong as it is found, and print the tally; exits 1 where one is not `fine`."""
    parser = argparse.ArgumentParser(description=told.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", default="1/1", metavar="K/N", help="the K-th of N equal parts of the cases")
    parser.add_argument("--tally", type=pathlib.Path, metavar="FILE.csv", help="append the counts to this table")
    parser.add_argument("--only", default="", help=only)
    parser.add_argument("--seconds", type=int, default=60, help="after which a command hangs; more on a busy machine")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--verbose", action="store_true", help="a line for each case")
    given = parser.parse_args()
    first, last = stretch(given.cases, given.part)
    asked = Asked(
        first=first, last=last, seed=given.seed, only=given.only, seconds=given.seconds, verbose=given.verbose
    )
    key = {"harness": harness, "cases": given.cases, "seed": given.seed, "part": given.part, "only": given.only}
    key = {name: str(value) for name, value in key.items()} | {"commit": str(environment()["commit"])}
    tally: Mapping[str, int] | None = None if given.tally is None else counted(load_table(given.tally), key)
    if tally is None:
        began = time.perf_counter(), _processor_seconds()
        tally = run(asked)
        cost = {"wall_s": time.perf_counter() - began[0], "processor_s": _processor_seconds() - began[1]}
        if given.tally is not None:
            append(given.tally, key, tally, cost)
    print(json.dumps(tally) if given.json else ", ".join(f"{name} {count}" for name, count in sorted(tally.items())))
    sys.exit(any(name not in fine for name in tally))


def stretch(cases: int, part: str) -> tuple[int, int]:
    """The first case of part `K/N`, and the first behind it; SystemExit where that is no part."""
    found = re.fullmatch(r"(\d+)/(\d+)", part)
    number, parts = (int(text) for text in found.groups()) if found else (0, 0)
    if not 1 <= number <= parts:
        sys.exit(f"--part is '{part}'; it must be K/N with K from 1 to N, as 3/10.")
    return cases * (number - 1) // parts, cases * number // parts


def counted(rows: Sequence[Mapping[str, str]], key: Mapping[str, str]) -> dict[str, int] | None:
    """The tally that the table has of this part at this commit; None where it has none."""
    found = {
        row["verdict"]: int(row["count"]) for row in rows if all(row[name] == value for name, value in key.items())
    }
    return found or None


def append(path: pathlib.Path, key: Mapping[str, str], tally: Mapping[str, int], cost: Mapping[str, float]) -> None:
    """Write the table anew with a row for each verdict of this part."""
    told = {**key, "date": datetime.date.today().isoformat(), **{name: f"{value:.0f}" for name, value in cost.items()}}
    rows = [
        *load_table(path),
        *({**told, "verdict": name, "count": str(count)} for name, count in sorted(tally.items())),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    save_table(path, rows, COLUMNS)


def _processor_seconds() -> float:
    """Of this process and those that it has waited for."""
    return sum(os.times()[:4])
