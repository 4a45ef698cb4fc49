"""Files that a user names, opened so that nothing is waited for: a pipe, a device or a socket is refused before it is read.

Every file of tcs that is not its own goes through here; tests/test_ordinary.py reads the sources for one that does not.
"""

import errno
import os
import pathlib
import stat
from typing import BinaryIO

from tcs.errors import NotOrdinaryError

FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def require_ordinary(path: str | os.PathLike[str]) -> None:
    """NotOrdinaryError, an OSError, for a pipe, a device or a socket; for readers that open by name. What is missing, a folder, or may
    not be looked at is left to them."""
    try:
        mode = pathlib.Path(path).stat().st_mode
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return
    _check(mode, path)


def open_ordinary(path: str | os.PathLike[str]) -> BinaryIO:
    """`path`, links followed, opened to read bytes. OSError where it cannot be, of a folder, a pipe, a device and a socket too."""
    require_ordinary(path)  # first: to open a pipe wakes whoever writes into it, and a socket cannot be opened at all
    descriptor = os.open(path, FLAGS)
    try:
        mode = os.fstat(descriptor).st_mode
        _check(mode, path)  # again: it may be another one now
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def read_ordinary(path: str | os.PathLike[str], most_bytes: int | None = None) -> bytes:
    """The bytes of `path`. Errors as of `open_ordinary`; an OSError, before anything is read, for a file of more than `most_bytes`."""
    with open_ordinary(path) as file:
        size = os.fstat(file.fileno()).st_size
        if most_bytes is not None and size > most_bytes:
            raise OSError(
                errno.EFBIG, f"it has {size:,} bytes, and files of its kind at most {most_bytes:,}", str(path)
            )
        return file.read()


def read_text(path: str | os.PathLike[str], errors: str = "strict") -> str:
    """The UTF-8 text of `path`, with or without a byte-order mark, its line ends as Python's. Errors as of `open_ordinary`, and
    UnicodeDecodeError."""
    text = read_ordinary(path).decode("utf-8-sig", errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _check(mode: int, path: str | os.PathLike[str]) -> None:
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise NotOrdinaryError(errno.EINVAL, NotOrdinaryError.REASON, os.fspath(pathlib.Path(path)))
