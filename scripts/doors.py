"""Damage every file that tcs writes and reads back, and open it by every command that reads it: one line an error, nothing hangs.

    python scripts/doors.py --cases 500 [--seed 0] [--part 1/10] [--tally FILE.csv] [--only config.json] [--json] [--verbose]

A case is one damage of one file, or a pipe in its place, and one command, in a process of its own with a limit of memory and of time. It
is fine where the command ends with 0, or with 1 and one line of error (tcs verify: and its list of faults). Counted as faults: a
traceback, an error that nobody foresaw (exit code 70), several lines, a crash, a hang. `changed` is no fault: the command ended with 0
and told something else than of the sound file, as it must where a number of the file was replaced by another that could be true. A case
is a function of (seed, number). `door_signals.py` stops commands that write.
"""

import collections
import itertools
import os
import pathlib
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

from door_calls import call, preload
from door_mutations import mutations
from door_specimens import prepare
from door_table import Door, doors
from door_tally import Asked, command_line

LISTED = re.compile(r"(: \d+ problems?[;,] [^\n]*|\d+ of \d+ images have no prediction\.)\n\Z")
FINE = ("refused", "same", "changed")


def verdict(code: int | None, said: str, sound: str) -> str:
    """One word for what a command did with a damaged file; `sound` is what it says of the sound one."""
    if code is None:
        return "hang"
    if code < 0:
        return "crash"
    if "Traceback" in said:
        return "traceback"
    if code == 70:
        return "unforeseen"
    if code == 1 and LISTED.search(said):  # of verify and predict, which end with 1 and no error
        return "refused"
    if code == 0:
        return "same" if _results(said) == _results(sound) else "changed"
    errors = [line for line in said.splitlines() if line.startswith("Error: ")]
    return "refused" if code in (1, 2) and len(errors) == 1 and said.rstrip().endswith(errors[0].rstrip()) else "untold"


def _results(said: str) -> str:
    """What is said on stdout, as far as it does not depend on the clock."""
    return "\n".join(line for line in said.splitlines() if line.startswith(("{", "[", "path,")))


def cases(
    folder: pathlib.Path, table: Sequence[Door], seed: int, only: str
) -> Iterator[tuple[Door, str, bytes | None]]:
    """Damages of all doors in turn, without end."""
    chosen = [door for door in table if only in door.file]
    streams = [mutations(folder / door.file, random.Random(f"{seed} {number}")) for number, door in enumerate(chosen)]
    for turn in itertools.count():
        door = chosen[turn % len(chosen)]
        yield (door, *next(streams[turn % len(chosen)]))


def main() -> None:
    """The cases of damaged files."""
    command_line(__doc__ or "", "damages", run_cases, FINE, "files whose path holds this")


def _put(path: pathlib.Path, data: bytes | None) -> None:
    """Replace the file by one of these bytes, or by a pipe that nobody writes into."""
    path.unlink()
    if data is None:
        os.mkfifo(path)
    else:
        path.write_bytes(data)


def run_cases(
    asked: Asked,
    prepared: Callable[[pathlib.Path, int], None] = prepare,
    table: Callable[[pathlib.Path], Sequence[Door]] = lambda _: doors(),
) -> dict[str, int]:
    """Verdict -> how many cases; the faults are told on stderr as they are found. `prepared` makes the specimens in a folder, `table` says
    which commands read which of them."""
    preload()
    tally: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as scratch:
        sound, work = pathlib.Path(scratch) / "sound", pathlib.Path(scratch) / "work"
        sound.mkdir()
        prepared(sound, asked.seconds)
        said_of: dict[Door, str] = {}
        stream = itertools.islice(cases(sound, table(sound), asked.seed, asked.only), asked.first, asked.last)
        for number, (door, what, data) in enumerate(stream, asked.first):
            began = time.perf_counter()
            if door not in said_of:
                said_of[door] = _said_of_sound(door, sound, work, asked.seconds)
            found, last = _opened(door, data, sound, work, said_of[door], asked.seconds)
            tally[found] += 1
            if found not in FINE or asked.verbose:
                where = f"{door.file} ({what}) by {door.arguments[0]}, {time.perf_counter() - began:.1f} s"
                print(f"{number} {found}: {where}: {last}", file=sys.stderr, flush=True)
    return dict(tally)


def _said_of_sound(door: Door, sound: pathlib.Path, work: pathlib.Path, seconds: int) -> str:
    """What the command says of the sound file."""
    shutil.copytree(sound, work)
    code, said = call(work, door.arguments, seconds)
    assert code == 0, (door, said)
    shutil.rmtree(work)
    return said


def _opened(
    door: Door, data: bytes | None, sound: pathlib.Path, work: pathlib.Path, said_of_sound: str, seconds: int
) -> tuple[str, str]:
    """The verdict on the command with `data` in the place of the file, and the last line that it said."""
    shutil.copytree(sound, work)
    _put(work / door.file, data)
    code, said = call(work, door.arguments, seconds)
    shutil.rmtree(work)
    return verdict(code, said, said_of_sound), (said.strip().splitlines() or [""])[-1][:300]


if __name__ == "__main__":
    main()
