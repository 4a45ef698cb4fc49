"""Kills at any moment and full disks while packing: no packed store, or a whole one."""

import signal
import time

import pytest
from artefacts import make_store
from forks import forked, in_process, refusal_with_files_of

import cache
from cache.files import PARTIAL_SUFFIX, StreamedFile


def pack_slowly(store, out):
    """Slow enough for a kill to fall between any two writes of the file."""
    write = StreamedFile.write
    StreamedFile.write = lambda *given: (write(*given), time.sleep(0.05))
    cache.pack(store, out)


def begun(partial):
    """Grows as a file is written, and also where that of a killed process is written anew."""
    found = partial.stat()
    return found.st_mtime_ns, found.st_size


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("kills") / "x.store", rows=200)


def test_kills_leave_no_packed_store_and_the_rerun_writes_it(tmp_path, store):
    said = tmp_path / "said"
    out, whole = tmp_path / "out" / "x.h5", tmp_path / "out" / "whole.h5"
    out.parent.mkdir()
    partial = out.with_name(out.name + PARTIAL_SUFFIX)
    cache.pack(store.path, whole)
    for wait_seconds in (0, 0.05, 0.2, 0.4):
        left = begun(partial) if partial.exists() else (0, 0)
        with forked(said, pack_slowly, store.path, out) as child:
            child.until(lambda left=left: partial.exists() and begun(partial) > left)
            time.sleep(wait_seconds)
            child.send(signal.SIGKILL)
            assert child.ended() == -signal.SIGKILL
        assert not out.exists()
    with forked(said, cache.pack, store.path, out) as child:
        assert (child.ended(), child.stdout, child.stderr) == (0, "", "")
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in out.parent.iterdir()) == ["whole.h5", "x.h5"]


@pytest.mark.parametrize("limit_bytes", [0, 1000, 30_000])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, store, limit_bytes):
    out = tmp_path / "x.h5"
    code, last = in_process(refusal_with_files_of, limit_bytes, cache.pack, store.path, out)
    assert code == 0
    assert last.startswith("cache.errors.StoreWriteError: cannot write ")
    assert last.endswith("x.h5: File too large; free space and rerun the same command.\n")
    assert list(tmp_path.iterdir()) == []
