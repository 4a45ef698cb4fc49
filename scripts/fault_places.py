"""Places and company in which a store cannot be written: full or read-only disks, a second writer, damaged manifests.

Each scenario gets an empty folder and raises AssertionError where a promise is broken, `SkippedError` where the system does
not allow it. A new scenario is a function and a line in the table.
"""

import contextlib
import ctypes
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

from fault_operations import extract, make_images, plan, rows, write

import cache
from cache.errors import CacheError, LockedStoreError, StoreWriteError

CLONE_NEWNS = 0x00020000  # linux/sched.h


class SkippedError(Exception):
    """The system does not allow this scenario; str() says why."""


def in_child(run: Callable[[], str | None]) -> None:
    """Run in a child process; what it returns is why it was skipped. AssertionError where it failed."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        told = "failed without a word"
        try:
            skipped = run()
            told = f"skipped {skipped}" if skipped else "ok"
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        finally:
            os.write(writer, told.encode()[:4000])
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as lines:
        told = lines.read()
    os.waitpid(child, 0)
    if told.startswith("skipped "):
        raise SkippedError(told.removeprefix("skipped "))
    assert told == "ok", told


def refused(run: Callable[[], object], kind: type[CacheError], *words: str) -> None:
    """Require an error of that kind, on one line, that says these words."""
    try:
        run()
    except CacheError as error:
        told: CacheError | None = error
    else:
        told = None
    assert isinstance(told, kind), f"{type(told).__name__} in place of {kind.__name__}: {told}"
    assert "\n" not in str(told), "an error of several lines"
    assert all(word in str(told) for word in words), str(told)


def require_whole(folder: pathlib.Path) -> None:
    """Write the store in `folder` to its end, and compare it with one written undisturbed."""
    os.chdir(folder)
    write()
    assert cache.verify("out").is_sound
    shutil.copytree("out", "disturbed")
    shutil.rmtree("out")
    write()
    for path in pathlib.Path("out").glob("shard-*.h5"):
        assert path.read_bytes() == pathlib.Path("disturbed", path.name).read_bytes(), path.name
    assert read_manifest("out") == read_manifest("disturbed")


def read_manifest(store: str) -> Mapping[str, object]:
    """The manifest without its provenance."""
    value = json.loads(pathlib.Path(store, "manifest.json").read_text())
    return {name: item for name, item in value.items() if name != "provenance"}


def limited_files(folder: pathlib.Path) -> None:
    """RLIMIT_FSIZE below the size of a shard, and of a manifest."""
    for limit in (100, 50_000):

        def starve(limit_bytes: int = limit) -> None:
            os.chdir(folder)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, resource.RLIM_INFINITY))
            refused(write, StoreWriteError, "File too large; free space and rerun the same command; it resumes")
            assert not list(folder.rglob("*.partial"))

        in_child(starve)
    require_whole(folder)


def mounted(folder: pathlib.Path, options: str) -> str | None:
    """Mount a tmpfs on `folder`, for this process alone; why not, where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not sys.platform.startswith("linux") or libc.unshare(CLONE_NEWNS):
        return f"no mount namespace ({os.strerror(ctypes.get_errno())})"
    for command in (["--make-rprivate", "/"], ["-t", "tmpfs", "-o", options, "tmpfs", str(folder)]):
        run = subprocess.run(["mount", *command], capture_output=True, text=True, check=False)
        if run.returncode:
            return f"no mount ({run.stderr.strip()})"
    return None


def full_disk(folder: pathlib.Path) -> None:
    """A file system that is full after a few shards, and is enlarged then."""

    def fill() -> str | None:
        reason = mounted(folder, "size=400k")
        if reason:
            return reason
        os.chdir(folder)
        refused(write, StoreWriteError, "No space left on device; free space and rerun the same command; it resumes")
        found = cache.verify("out")
        assert not found.problems, found
        assert found.pending, found
        assert found.shards >= 1, found
        refused(lambda: cache.open("out"), cache.errors.IncompleteStoreError, "is incomplete")
        subprocess.run(["mount", "-o", "remount,size=32M", str(folder)], check=True, capture_output=True)
        require_whole(folder)
        return None

    in_child(fill)


def read_only(folder: pathlib.Path) -> None:
    """A file system that is read-only: what is there can be read and verified, and writing is refused in one line."""

    def freeze() -> str | None:
        reason = mounted(folder, "size=32M")
        if reason:
            return reason
        os.chdir(folder)
        write("a")
        write("out", close=False)
        pathlib.Path("out/shard-00004.h5").unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True, capture_output=True)
        assert len(cache.open("a")) == len(plan("a").keys)
        assert cache.verify("a").is_sound
        for run in (write, lambda: write("b"), lambda: cache.set_gate("a", {}), lambda: cache.pack("a", "a.h5")):
            refused(run, StoreWriteError, "Read-only file system; make the folder writable")
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True, capture_output=True)
        require_whole(folder)
        return None

    in_child(freeze)


def file_in_the_way(folder: pathlib.Path) -> None:
    """A file where the store, or a folder above it, should be."""
    os.chdir(folder)
    pathlib.Path("out").write_text("mine")
    refused(write, cache.errors.ForeignFolderError, "out is a file; a store is a folder")
    refused(lambda: cache.StoreWriter("out/deeper", plan("out"), provenance={}), StoreWriteError, "cannot write")
    assert pathlib.Path("out").read_text() == "mine"
    pathlib.Path("out").unlink()
    require_whole(folder)


def two_writers(folder: pathlib.Path) -> None:
    """A second writer is refused at once, the first is unharmed."""
    os.chdir(folder)
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        write(slow_seconds=0.05)
        os._exit(0)
    while not pathlib.Path("out/shard-00000.h5").exists():
        time.sleep(0.002)
    for _ in range(5):
        refused(write, LockedStoreError, "is being written by another process")
        assert not cache.verify("out").problems
    assert os.waitpid(child, 0)[1] == 0
    before = {path.name: path.stat().st_mtime_ns for path in pathlib.Path("out").iterdir()}
    write()
    assert before == {path.name: path.stat().st_mtime_ns for path in pathlib.Path("out").iterdir()}
    require_whole(folder)


def damaged_manifest(folder: pathlib.Path) -> None:
    """A manifest cut, emptied, or of other bytes: refused; once deleted, the whole shards are taken over."""
    os.chdir(folder)
    write()
    path = pathlib.Path("out/manifest.json")
    whole = path.read_bytes()
    for data in (b"", whole[:-2], whole[: len(whole) // 2], b"\0" * 100, whole.replace(b'"closed"', b'"clozed"')):
        path.write_bytes(data)
        assert cache.verify("out").bad_manifest
        for run in (write, lambda: cache.open("out")):
            refused(run, CacheError, "delete this file and rerun")
    path.unlink()
    before = {file.name: file.stat().st_mtime_ns for file in path.parent.glob("shard-*.h5")}
    write()
    assert before == {file.name: file.stat().st_mtime_ns for file in path.parent.glob("shard-*.h5")}
    assert path.read_bytes() == whole
    path.write_bytes(b"")
    with cache.StoreWriter("out", plan("out"), provenance={}, overwrite=True) as writer:
        assert len(writer.pending()) == len(before)
        writer.write_shard(0, rows(writer.plan, 0))
    require_whole(folder)


def kill_workers(parent: int) -> int:
    """Kill the forked copies of a process (not its git and the like); returns how many there were."""
    killed = 0
    with contextlib.suppress(OSError):
        own = pathlib.Path(f"/proc/{parent}/cmdline").read_bytes()
        for child in pathlib.Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            with contextlib.suppress(OSError):
                if pathlib.Path(f"/proc/{child}/cmdline").read_bytes() == own and own:
                    os.kill(int(child), signal.SIGKILL)
                    killed += 1
    return killed


def crashed_worker(folder: pathlib.Path) -> None:
    """A decoding process of tcs extract is killed: one line, and the rerun completes."""
    os.chdir(folder)
    make_images()
    in_child(lambda: extract(0))
    whole = {path.name: path.read_bytes() for path in pathlib.Path("out").glob("shard-*.h5")}
    shutil.rmtree("out")
    code = "import sys; sys.path.insert(0, {!r}); from fault_operations import extract; extract(workers=2)"
    root, here = pathlib.Path(cache.__file__).parents[1], str(pathlib.Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen(
        [sys.executable, "-c", code.format(here)], env=environment, stderr=subprocess.PIPE, text=True
    )
    while run.poll() is None:
        kill_workers(run.pid)
        time.sleep(0.001)
    told = run.communicate(timeout=120)[1].splitlines()
    if run.returncode == 0:
        raise SkippedError("the pass was over before its worker was killed")
    assert any(line.startswith("tcs.errors.DataError: a worker process ended unexpectedly") for line in told), told
    in_child(lambda: extract(0))
    assert whole == {path.name: path.read_bytes() for path in pathlib.Path("out").glob("shard-*.h5")}


PLACES: dict[str, Callable[[pathlib.Path], None]] = {
    "file size limit": limited_files,
    "full disk": full_disk,
    "read-only disk": read_only,
    "file in the way": file_in_the_way,
    "two writers": two_writers,
    "damaged manifest": damaged_manifest,
}
PLACES_WITH_TEACHER: dict[str, Callable[[pathlib.Path], None]] = {"crashed worker": crashed_worker}
