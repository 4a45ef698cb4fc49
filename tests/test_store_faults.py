"""The fault harness at its short length: kills at any moment, full and read-only disks, second writers, lost manifests.

`python scripts/fault_harness.py --kills 200 --teacher --fuzz 20000` is the long one.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

import cache

ROOT = pathlib.Path(cache.__file__).parents[1]
KILLS, SHARDS = 10, 8  # a kill strikes any of the moments of a shard: more shards are more of the same


def harness(statement):
    """Run a statement in a process in which the scripts can be imported: no thread of this one may be forked."""
    places = [str(ROOT / place) for place in (".", "scripts", "tests")]
    return subprocess.run(
        [sys.executable, "-c", f"import disk, strictness\ndisk.wait_for_nothing()\nstrictness.apply()\n{statement}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


@pytest.fixture(scope="module")
def results():
    run = harness(
        f"import sys, fault_harness, fault_operations\nfault_operations.SHARDS = {SHARDS}\n"
        f"sys.argv = ['', '--kills', '{KILLS}', '--json']\nfault_harness.main()"
    )
    assert run.stderr == ""
    return json.loads(run.stdout)


@pytest.mark.parametrize(
    "name",
    [
        "write",
        "close",
        "record a gate",
        "label",
        "mend",
        "merge",
        "subset",
        "pack",
        "unpack",
        "update",
        "update by renames",
    ],
)
def test_kills_at_any_moment_leave_nothing_wrong_and_the_rerun_ends_the_same(results, name):
    found = results[f"kill: {name}"]
    assert found["result"] == "ok"
    assert found["kills"] == KILLS
    assert found["finished"] >= 1


@pytest.mark.parametrize(
    "name",
    ["file size limit", "full disk", "read-only disk", "file in the way", "two writers", "damaged manifest"],
)
def test_places_that_refuse_are_told_in_one_line_and_the_rerun_ends_the_same(results, name):
    result = results[name]["result"]
    if result.startswith("skipped: no mount"):
        pytest.skip(result)
    assert result == "ok"


BROKEN = {
    "a write that is not atomic": (
        "import pathlib, cache.part, cache.manifest\n"
        "def plain(path, data):\n"
        "    with open(path, 'wb') as file:\n"
        "        for piece in (data if isinstance(data, list) else [data]):\n"
        "            for at in range(0, len(piece), 4000):\n"
        "                file.write(piece[at:at + 4000]); file.flush()\n"
        "                open('/dev/null').close()\n"
        "cache.part.atomic_write_pieces = plain\n"
    ),
    "a rerun that writes other values": (
        "import os\n"
        "whole = fault_operations.rows\n"
        "def odd(of, index):\n"
        "    rows = whole(of, index)\n"
        "    rows.features['avg'][0, 0] += os.getpid()\n"
        "    return rows\n"
        "fault_operations.rows = odd\n"
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_harness_sees_a_writer_that_breaks_the_promise(tmp_path, name):
    statement = (
        "import pathlib, random, fault_harness, fault_operations\n"
        f"{BROKEN[name]}"
        "try:\n"
        f"    fault_harness.kill_often(fault_operations.OPERATIONS['write'], 40, pathlib.Path({str(tmp_path)!r}), "
        "random.Random(0))\n"
        "except AssertionError as error:\n"
        "    print('seen:', str(error)[:80])\n"
    )
    run = harness(statement)
    assert run.stdout.startswith("seen: "), run.stderr
