"""Processor time of short commands, from starting Python to the last byte: `tcs report` by the end of its name, `tcs methods`.

    python -m benchmarks.start_up benchmarks/results/students/flowers5 benchmarks/results/cifar10-methods

A minute. Each command is a process of its own, seconds are its user and system time (one thread), and contestants take turns. The
bound is BOUND_SECONDS. Writes results/start-up/.
"""

import argparse
import functools
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from benchmarks.turns import Table, report, seconds_in_turns

BOUND_SECONDS = 1.0
ENDS = (".md", ".html", ".svg", ".csv")
METHODS = "methods"


def children_seconds() -> float:
    """Processor seconds of all processes that this one has started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(*words: str) -> None:
    """A command, as a user starts it."""
    command = [sys.executable, "-m", "tcs", *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})


def measure(grid: pathlib.Path, rounds: int) -> Table:
    """Seconds of every command."""
    with tempfile.TemporaryDirectory() as folder:
        outs = {end: str(pathlib.Path(folder, end[1:], f"report{end}")) for end in ENDS}
        ways = {METHODS: functools.partial(run, METHODS)}
        ways |= {
            f"report {end}": functools.partial(run, "report", str(grid), "--out", out) for end, out in outs.items()
        }
        seconds = seconds_in_turns(ways, rounds, children_seconds)
    return Table(title=f"{grid.name}, {count_rows(grid)} rows", unit="s", base=METHODS, values=seconds)


def count_rows(grid: pathlib.Path) -> int:
    """Lines of its table without the titles."""
    return len((grid / "results.csv").read_text().splitlines()) - 1


def verdict(tables: Sequence[Table]) -> str:
    """What took longest, against the bound."""
    slowest, most = max(
        ((f"{name} of {table.title}", max(values)) for table in tables for name, values in table.values.items()),
        key=lambda found: found[1],
    )
    kept = "kept" if most < BOUND_SECONDS else "NOT kept"
    return f"- The longest: {slowest}, {most:.2f} s; the bound of {BOUND_SECONDS:g} s is {kept}."


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grids", type=pathlib.Path, nargs="+", help="folders of tcs fewshot")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--name", default="start-up", help="folder of the results")
    options = parser.parse_args(arguments)
    tables = [measure(grid, options.rounds) for grid in options.grids]
    report(options.name, tables, "benchmarks.start_up", arguments, verdict(tables))


if __name__ == "__main__":
    main()
