"""The harness of doors at its short length: damaged files and pipes by every kind of reader, and commands stopped by signals. 90 s.

`python scripts/doors.py --cases 5000`, `python scripts/door_given.py --cases 1000` and `python scripts/door_signals.py --cases 1000` are
the long ones.
"""

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import cache

ROOT = pathlib.Path(cache.__file__).parents[1]


def run(script: str, *arguments: str) -> Any:
    """The tally of a harness in a process of its own."""
    ended = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / script), "--json", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=580,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return json.loads(ended.stdout)


def test_damaged_files_and_pipes_are_refused_in_one_line_or_change_nothing() -> None:
    tally = run("doors.py", "--cases", "12", "--only", "c.safetensors")
    assert sum(tally.values()) == 12
    assert set(tally) <= {"refused", "same", "changed"}
    assert tally["refused"] >= 4


def test_damaged_files_that_are_given_are_refused_in_one_line_or_change_nothing() -> None:
    tally = run("door_given.py", "--cases", "12", "--only", "keys.txt")
    assert sum(tally.values()) == 12
    assert set(tally) <= {"refused", "same", "changed"}
    assert tally["refused"] >= 4


def test_a_command_that_was_stopped_leaves_after_a_rerun_what_it_would_have_left() -> None:
    tally = run("door_signals.py", "--cases", "3", "--only", "fit")
    assert sum(tally.values()) == 3
    assert set(tally) <= {"same", "finished"}
