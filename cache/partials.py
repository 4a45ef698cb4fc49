"""Where a file is written before it has its name: `NAME.<8 hex>.partial` beside it, locked for as long as its writer lives.

The system drops the lock of a process that dies, however it dies. So the next writer of the same file tells what a killed one left, which
it removes, from what a living one is at. The first six digits are of the running system: there are network file systems on which locks
of one machine are not seen from another, and files of other machines are left alone. The last two count from 00, so that no folder is
ever listed: it may hold a million files.
"""

import contextlib
import functools
import hashlib
import itertools
import os
import platform
import re
import stat
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # not POSIX: no advisory locks, and every file that is there counts as a living writer's
    fcntl = None  # type: ignore[assignment]

PARTIAL = r"\.[0-9a-f]{8}\.partial"  # behind the name
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_THERE = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def claim(target: Path) -> tuple[Path, int]:
    """A new, empty file beside `target` that is this writer's alone, and its descriptor to write and close; to be renamed or removed
    before it is closed. What dead writers of `target` left is removed. OSError where the system refuses."""
    names = _names(target)
    for path in names:
        descriptor = _made(path)
        if descriptor is not None:
            for later in itertools.takewhile(os.path.lexists, names):
                _is_cleared(later)
            return path, descriptor
    raise AssertionError  # the names have no end


def is_partial(path: Path, name: str) -> bool:
    """Whether `path` is what a writer of a file `name` beside it has, or was killed at, before the file has its name. A folder that holds
    nothing else is one where that file was about to be the first."""
    is_called_so = re.fullmatch(re.escape(name) + PARTIAL, path.name) is not None
    # Not is_file(): one that has its name by now, and is gone from here, is nothing foreign.
    return is_called_so and not path.is_dir() and not path.is_symlink()


def _names(target: Path) -> Iterator[Path]:
    for number in itertools.count():
        yield target.with_name(f"{target.name}.{_system()}{number:02x}.partial")


@functools.cache
def _system() -> str:
    """Six hex digits of the running kernel, whose processes see each other's locks; of the machine's name where it has no id."""
    try:
        name = _BOOT_ID.read_text()
    except OSError:
        name = platform.node()
    return hashlib.blake2s(name.encode(), digest_size=3).hexdigest()


def _made(path: Path) -> int | None:
    """The descriptor of a new file `path`, locked where there are locks; None where a living writer has one of that name."""
    while True:
        try:
            descriptor = os.open(path, _NEW, 0o666)
        except FileExistsError:
            if not _is_cleared(path):
                return None
            continue
        with contextlib.suppress(OSError):  # without locks it is this writer's as well, and stays where it is killed
            _lock(descriptor)
        if _stands(descriptor, path):
            return descriptor
        os.close(descriptor)  # between making and locking it another writer took it for a dead one's: once more


def _is_cleared(path: Path) -> bool:
    """Remove the file unless its writer lives, or might: whether the name is free now."""
    try:
        descriptor = os.open(path, _THERE)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return False
        _lock(descriptor)
        if _stands(descriptor, path):
            path.unlink()
        return True
    except OSError:  # locked, or no file system for locks
        return False
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """OSError where another process has the lock, or there are none."""
    if fcntl is None:
        raise OSError("no locks")
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _stands(descriptor: int, path: Path) -> bool:
    """Whether the open file still has the name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
