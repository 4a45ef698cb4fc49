"""What the command line says of an exception: one line with a remedy and an exit code, and a report where nobody foresaw it.

The table below is the only place that knows what the system's errors mean to a user; commands raise TcsError for what they know better.
"""

import dataclasses
import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cache.errors import StoreWriteError

# Commands that a rerun lets go on from what is there; of the others a write that the system refused is told without that.
RESUMING = frozenset(
    {
        *("extract", "train", "pretrain", "fewshot", "distill", "demo"),
        *("cache update", "cache repair", "cache merge", "cache subset", "cache import", "cache unpack"),
    }
)

USER, USAGE, UNFORESEEN, INTERRUPTED = 1, 2, 70, 130  # exit codes; 0 is done

# errno -> (what happened, what to do)
SYSTEM: Mapping[int, tuple[str, str]] = {
    errno.ENOSPC: ("no space is left on the device", "free some, and run the same command again"),
    errno.EDQUOT: ("your quota on the device is used up", "free some, and run the same command again"),
    errno.EROFS: ("the device can only be read", "name a place that can be written"),
    errno.EACCES: ("permission is denied", "give this user the right to it, or name another place"),
    errno.EPERM: ("this user may not do that", "give this user the right to it, or name another place"),
    errno.EMFILE: ("this process has too many files open", "raise the limit (ulimit -n), or use fewer --workers"),
    errno.ENFILE: ("this machine has too many files open", "close other programs, and run the same command again"),
    errno.ENOMEM: ("memory ran out", "use a smaller batch, fewer --workers, or close other programs"),
    errno.EAGAIN: (
        "no further process or thread can be started",
        "raise the limit (ulimit -u), or use fewer --workers",
    ),
    errno.EIO: ("the device failed to read or write", "check the disk, and run the same command again"),
    errno.ENAMETOOLONG: ("the name is too long", "use a shorter one"),
    errno.ELOOP: ("the name is a link that leads back to itself", "mend the link"),
    errno.ENOENT: ("it is not there", "check the name"),
    errno.ENOTDIR: ("a part of the name is a file and no folder", "check the name"),
    errno.EISDIR: ("it is a folder, and a file is needed", "check the name"),
}
OUT_OF_MEMORY = ("memory ran out", SYSTEM[errno.ENOMEM][1])

# torch's allocators, on a CPU (Windows, else) and on a GPU, and C++'s, which all come as RuntimeError.
MEMORY_SIGNS = ("not enough memory", "can't allocate memory", "bad_alloc", "out of memory")
WORKER_SIGN = "DataLoader worker"
LIBRARY_SIGNS = ("cannot open shared object file", "image not found", "DLL load failed")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """A line for stderr and an exit code."""

    message: str
    code: int = USER


def failure_of(error: Exception, arguments: Sequence[str]) -> Failure:
    """What to say of an error that no command told: a known one of the system with its remedy, or where its report lies."""
    known = _known(error)
    if known is not None:
        what, remedy = known
        where = f" ({_named(error)})" if _named(error) else ""
        return Failure(message=f"Error: {what}{where}; {remedy}.")
    command = " ".join(["tcs", *_command(arguments)])
    place = _kept(error, arguments)
    shown = f"{type(error).__name__}: {_one_line(error)}"
    kept = (
        f"what is known of it is in {place}"
        if place
        else "no report of it could be written: --debug shows where it was"
    )
    return Failure(
        message=f"Error: {command} met an error that it should have foreseen ({shown}); {kept}.", code=UNFORESEEN
    )


def refused_write(error: "StoreWriteError", arguments: Sequence[str]) -> str:
    """What to say of a write that the system refused: that the command resumes where it does."""
    return str(error) if " ".join(_command(arguments)) in RESUMING else error.without_kept()


def _known(error: Exception) -> tuple[str, str] | None:
    text = str(error)
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(map(text.lower().count, MEMORY_SIGNS))
    ):
        return OUT_OF_MEMORY
    if isinstance(error, RuntimeError) and WORKER_SIGN in text:
        return (
            "a worker process ended unexpectedly",
            "run the same command again, with fewer --workers where memory is short",
        )
    if isinstance(error, ImportError) and any(map(text.count, LIBRARY_SIGNS)):
        return (
            f"a library of the system cannot be loaded: {_one_line(error)}",
            "install it; tcs doctor looks at all of them",
        )
    if isinstance(error, ModuleNotFoundError):
        return f"the package '{error.name}' is not installed", "install it; tcs doctor looks at all of them"
    if isinstance(error, OSError):
        plain = (error.strerror or _one_line(error), "correct that, and run the same command again")
        return SYSTEM.get(error.errno or 0, plain)
    return None


def _named(error: Exception) -> str:
    return str(getattr(error, "filename", None) or "") if isinstance(error, OSError) else ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _command(arguments: Sequence[str]) -> list[str]:
    """The names of the command, without its arguments: `cache`, `verify`."""
    words = [word for word in arguments if not word.startswith("-")]
    return words[: 2 if words[:1] == ["cache"] else 1]


def _kept(error: Exception, arguments: Sequence[str]) -> str | None:
    """Path of a new file with the traceback, the command and the versions; None where none can be written."""
    from tcs.runtime import environment

    lines = [
        "An error of tcs that nobody foresaw. Nothing in here was sent anywhere.",
        f"command: {['tcs', *arguments]}",
        *(f"{name}: {value}" for name, value in environment().items()),
        "",
        *traceback.format_exception(error),
    ]
    try:
        descriptor, path = tempfile.mkstemp(prefix="tcs-error-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write("\n".join(lines))
    except OSError:
        return None
    return path


def show_traceback(error: BaseException) -> None:
    """For --debug: where it was, on stderr."""
    traceback.print_exception(error, file=sys.stderr)
