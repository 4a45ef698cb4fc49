"""The folder that stores and runs go to: room, speed, locks; and names in the working folder that hide packages."""

import contextlib
import os
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator

from tcs.doctor.finding import ERROR, WARNING, Finding, gib

LEAST_FREE_BYTES = 5 * 2**30
SPEED_BYTES, PIECE_BYTES = 32 << 20, 1 << 20
SLOW_BYTES_PER_SECOND = 20e6
HIDDEN = ("cache", "tcs", "torch", "timm", "numpy", "h5py", "faiss", "PIL", "click", "safetensors", "onnx", "datasets")
OURS = ("cache", "tcs")


def check_disk(folder: pathlib.Path) -> Finding:
    """Free space, and how fast a file is written and read."""
    free = shutil.disk_usage(folder).free
    written, read = _speeds(folder)
    text = f"{folder}: {gib(free)} free, writes {written / 1e6:,.0f} MB/s, reads {read / 1e6:,.0f} MB/s (just written)"
    if free < LEAST_FREE_BYTES:
        return Finding(name="disk", level=WARNING, text=text, remedy="free space, or put stores and runs elsewhere")
    if written < SLOW_BYTES_PER_SECOND:
        return Finding(name="disk", level=WARNING, text=text, remedy="put stores and runs on a local disk")
    return Finding(name="disk", text=text)


def _speeds(folder: pathlib.Path) -> tuple[float, float]:
    """Bytes a second, written (down to the disk) and read back."""
    piece = os.urandom(PIECE_BYTES)  # a file system that compresses shall not look fast
    count = SPEED_BYTES // PIECE_BYTES
    with tempfile.TemporaryFile(prefix=".tcs-doctor-", dir=folder) as file:
        started = time.perf_counter()
        for _ in range(count):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
        written = time.perf_counter()
        file.seek(0)
        while file.read(PIECE_BYTES):
            pass
        read = time.perf_counter()
    size = count * PIECE_BYTES
    return size / max(1e-9, written - started), size / max(1e-9, read - written)


def check_locking(folder: pathlib.Path) -> Finding:
    """A lock that one holder has is refused to a second: what keeps two writers off one store."""
    try:
        import fcntl
    except ImportError:
        return Finding(name="locking", text="not on this system: do not let two commands write one output")
    elsewhere = "do not let two commands write one output there, or use a file system with locks"
    with _descriptors(folder) as (first, second):
        try:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            remedy = f"use another folder, or mount this one with locks ({error.strerror})"
            return Finding(
                name="locking", level=ERROR, text=f"{folder} takes no lock, and stores need one", remedy=remedy
            )
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return Finding(name="locking", text="a second writer is refused")
    return Finding(name="locking", level=WARNING, text=f"{folder} lets two hold one lock", remedy=elsewhere)


@contextlib.contextmanager
def _descriptors(folder: pathlib.Path) -> Iterator[tuple[int, int]]:
    """Two, opened one after the other, of one new file."""
    first, path = tempfile.mkstemp(prefix=".tcs-doctor-", dir=folder)
    second = os.open(path, os.O_RDWR)
    try:
        yield first, second
    finally:
        os.close(second)
        os.close(first)
        pathlib.Path(path).unlink()


def check_names(working: pathlib.Path) -> Iterator[Finding]:
    """Modules of the working folder that `python -m` and scripts there would import in place of packages."""
    found = [path for name in HIDDEN for path in _hiders(working, name)]
    for path in found:
        yield Finding(
            name="names",
            level=WARNING,
            text=f"{path} hides the package {path.stem} from scripts beside it and from python -m",
            remedy="rename it, or start the command tcs",
        )
    if not found:
        yield Finding(name="names", text="nothing in the working folder hides a package")


def _hiders(working: pathlib.Path, name: str) -> Iterator[pathlib.Path]:
    """`name.py` or `name/` in the folder, unless it is the package that is in use."""
    module, package = working / f"{name}.py", working / name
    loaded = getattr(sys.modules.get(name), "__file__", None)
    in_use = None if loaded is None else pathlib.Path(loaded).resolve()
    if module.is_file() and module.resolve() != in_use:
        yield module
    starts = package / "__init__.py"
    if starts.is_file() and starts.resolve() != in_use:
        yield package
