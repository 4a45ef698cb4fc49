"""Kills at any moment and full disks while packing, in subprocesses: no packed store, or a whole one."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from artefacts import make_store

import cache
from cache.files import PARTIAL_SUFFIX

ROOT = Path(cache.__file__).parents[1]
PACK = "import sys, cache; cache.pack(sys.argv[1], sys.argv[2])"
LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({}, resource.RLIM_INFINITY))\n"
# Slow enough for a kill to fall between any two writes of the file.
SLOW = (
    "import time, cache.files as s; write = s.StreamedFile.write\n"
    "s.StreamedFile.write = lambda *a: (write(*a), time.sleep(0.02))\n"
)


def child(*arguments, before=""):
    command = [sys.executable, "-W", "error", "-c", before + PACK, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process):
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("kills") / "x.store", rows=200)


def test_kills_leave_no_packed_store_and_the_rerun_writes_it(tmp_path, store):
    out, whole = tmp_path / "x.h5", tmp_path / "whole.h5"
    partial = out.with_name(out.name + PARTIAL_SUFFIX)
    cache.pack(store.path, whole)
    for wait_seconds in (0, 0.05, 0.2, 0.4):
        process = child(store.path, out, before=SLOW)
        while process.poll() is None and not (partial.exists() and partial.stat().st_size):
            time.sleep(0.001)
        time.sleep(wait_seconds)
        process.send_signal(signal.SIGKILL)
        assert finish(process)[0] == -signal.SIGKILL
        assert not out.exists()
    assert finish(child(store.path, out)) == (0, "")
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["whole.h5", "x.h5"]


@pytest.mark.parametrize("limit_bytes", [0, 1000, 30_000])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, store, limit_bytes):
    code, output = finish(child(store.path, tmp_path / "x.h5", before=LIMIT.format(limit_bytes)))
    assert code == 1
    last = output.splitlines()[-1]
    assert last.startswith("cache.errors.StoreWriteError: cannot write ")
    assert last.endswith("x.h5: File too large; free space and rerun the same command.")
    assert list(tmp_path.iterdir()) == []
