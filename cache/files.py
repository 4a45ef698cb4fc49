"""Files that appear whole or not at all, at once or piece by piece, and the lock that keeps a second writer out of a folder."""

import contextlib
import errno
import glob
import os
import shutil
import stat
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from cache.errors import LockedStoreError, StoreWriteError, UnreadableFileError
from cache.partials import claim

try:
    import fcntl
except ImportError:  # not POSIX: no advisory locks, a second writer is not noticed
    fcntl = None  # type: ignore[assignment]

LOCK_NAME = ".lock"
PARTIAL_SUFFIX = ".tcs.partial"
NOT_ORDINARY = "it is a link, or no ordinary file"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSALS = {  # of the system, when a sound file may be what is asked for
    errno.EACCES: ("permission denied", "give this user the right to read it"),
    errno.EPERM: ("operation not permitted", "give this user the right to read it"),
    errno.EMFILE: ("too many open files", "raise ulimit -n, or extract with a larger --rows-per-shard"),
    errno.ENFILE: ("too many open files on this machine", "close other programs and run again"),
    errno.ENOMEM: ("memory ran out", "close other programs and run again"),
    errno.EIO: ("input/output error", "check the disk and run again"),
}

# Writes end at multiples of this place in the file: random rows of a file just written so, its pages still in memory, came
# at 0.90 x the speed of one array's, against 0.80 x after writes of 16 MiB from any place on (Linux 6.18).
_PIECE_BYTES = 1 << 20


def atomic_write_bytes(path: str | os.PathLike[str], data: bytes | memoryview) -> None:
    """Write `data` to `path` so that at every moment the old file or the whole new one stands there.

    The bytes go to `NAME.<8 hex>.partial` beside it, are fsynced and renamed, and the folder is fsynced. Raises
    StoreWriteError when the system refuses; the .partial file is removed then, and where the process is killed by the next writer
    of `path` on this machine.
    """
    atomic_write_pieces(path, [data])


def atomic_write_pieces(path: str | os.PathLike[str], pieces: Iterable[bytes | memoryview]) -> None:
    """Write `pieces`, one after the other, as `atomic_write_bytes` does."""
    target = Path(path)
    try:
        _write_and_rename(target, pieces)
        sync_folder(target.parent)
    except OSError as error:
        raise write_error(target, error) from error


def open_ordinary(path: Path) -> BinaryIO:
    """`path` opened for reading, if it is an ordinary file and no link; OSError otherwise, at once even for a pipe."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, NOT_ORDINARY, str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, NOT_ORDINARY, str(path))
    return os.fdopen(descriptor, "rb")


def write_error(path: Path, error: OSError, *, resumes: bool = True) -> StoreWriteError:
    """The one-line error for a write to `path` that the system refused; `resumes` where a rerun goes on from here."""
    reason = error.strerror or type(error).__name__
    if error.errno in _NO_SPACE:
        remedy, kept = "free space and rerun the same command", "; it resumes"
    else:
        remedy, kept = "make the folder writable, or name another output, and rerun", "; finished parts are kept"
    return StoreWriteError(f"cannot write {path}: {reason}; {remedy}", kept if resumes else "")


def unreadable(path: Path, error: OSError | MemoryError) -> UnreadableFileError | None:
    """The one-line error where the system, and not the file, is why `path` cannot be read; None where it may be the file."""
    number = errno.ENOMEM if isinstance(error, MemoryError) else error.errno
    if number not in _REFUSALS:
        return None
    what, remedy = _REFUSALS[number]
    return UnreadableFileError(f"{path} cannot be read ({what}), which says nothing of its content; {remedy}.")


def _write_and_rename(target: Path, pieces: Iterable[bytes | memoryview]) -> None:
    partial, descriptor = claim(target)
    with os.fdopen(descriptor, "wb") as file:
        try:
            file.writelines(pieces)
            file.flush()
            os.fsync(descriptor)
            if fcntl is None:  # Windows renames no open file; elsewhere it is this writer's until it has its name
                file.close()
            partial.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


def sync_folder(folder: Path) -> None:
    """Let a rename inside `folder` reach the disk."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def locked_descriptor(path: Path) -> int:
    """A descriptor of the file `path`, made if need be, under an exclusive lock; BlockingIOError where another has it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:  # removed or renamed between opening and locking it: once more
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


class FolderLock:
    """An exclusive lock on a folder, held from construction to `release`; the system drops it when a process dies."""

    def __init__(self, folder: Path) -> None:
        """Lock `folder` at once or raise LockedStoreError; a lock file that cannot be made raises StoreWriteError."""
        self._path = folder / LOCK_NAME
        self._descriptor: int | None = _locked_for(folder, self._path)

    @property
    def folder(self) -> Path:
        """The folder that is locked."""
        return self._path.parent

    def moved_to(self, folder: Path) -> None:
        """Tell that the locked folder has another name now, its lock file in it."""
        self._path = folder / LOCK_NAME

    def release(self) -> None:
        """Remove the lock file and let go of the lock; a second call changes nothing."""
        if self._descriptor is None:
            return
        _unlock(self._path, self._descriptor)
        self._descriptor = None


@contextlib.contextmanager
def locked_file(target: Path) -> Iterator[None]:
    """An exclusive lock on the file `target`, which need not be there: `.NAME.lock` beside it, dropped by the system when the process
    dies. LockedStoreError at once where another process has it; StoreWriteError where the folder takes no file."""
    path = target.with_name(f".{target.name}{LOCK_NAME}")
    descriptor = _locked_for(target, path)
    try:
        remove_partials(target.parent, glob.escape(target.name))
        yield
    finally:
        _unlock(path, descriptor)


def remove_file(path: Path) -> None:
    """Delete a file that may be gone already; raises StoreWriteError when the system refuses."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(path, error) from error


def remove_partials(folder: Path, name: str = "*") -> None:
    """Remove what writers that were killed left of files and folders in `folder` (a pattern of names); for whoever holds the lock on
    them."""
    for path in folder.glob(f"{name}.{'[0-9a-f]' * 8}.partial"):
        remove_path(path)


def remove_path(path: Path) -> None:
    """Delete a file, a link or a whole folder, or what of it the system lets go."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _locked_for(output: Path, path: Path) -> int:
    """The descriptor of the lock file `path` for whoever writes `output`."""
    try:
        return locked_descriptor(path)
    except BlockingIOError:
        raise LockedStoreError(
            f"{output} is being written by another process; wait for it to end, or name another output."
        ) from None
    except OSError as error:
        raise write_error(path, error) from error


def _unlock(path: Path, descriptor: int) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
    if fcntl is not None:  # explicit: forked children share the descriptor and would keep the lock alive
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


class StreamedFile:
    """`target` under construction as `NAME.tcs.partial`, which `commit` renames; without `commit` it is removed again.

    The .partial is locked: a second writer is refused, and what a killed one left behind is taken over.
    """

    def __init__(self, target: Path, size_bytes: int) -> None:
        """Begin a file of `size_bytes`, all zeros. Raises LockedStoreError or StoreWriteError."""
        self._target = target
        self._partial = target.with_name(f"{target.name}{PARTIAL_SUFFIX}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.fdopen(locked_descriptor(self._partial), "r+b", buffering=0)
        except BlockingIOError:
            raise LockedStoreError(
                f"{target} is being written by another process; wait for it to end, or name another output."
            ) from None
        except OSError as error:
            raise write_error(target, error, resumes=False) from error
        try:
            os.truncate(self._file.fileno(), 0)
            os.truncate(self._file.fileno(), size_bytes)
        except OSError as error:
            self._abandon()
            raise write_error(target, error, resumes=False) from error

    def __enter__(self) -> "StreamedFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        if not self._file.closed:
            self._abandon()

    def write(self, offset: int, data: npt.NDArray[Any] | bytes) -> None:
        """Put the bytes of `data` (arrays in C order) at `offset`. Raises StoreWriteError when the system refuses."""
        array = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
        source = array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
        try:
            self._file.seek(offset)
            while len(source):
                size = _PIECE_BYTES - self._file.tell() % _PIECE_BYTES
                source = source[self._file.write(source[:size]) or 0 :]
        except OSError as error:
            raise write_error(self._target, error, resumes=False) from error

    def commit(self) -> None:
        """Let the whole file appear under its name, in place of an earlier one."""
        try:
            os.fsync(self._file.fileno())
            self._partial.replace(self._target)
            self._file.close()
            sync_folder(self._target.parent)
        except OSError as error:
            raise write_error(self._target, error, resumes=False) from error

    def _abandon(self) -> None:
        with contextlib.suppress(OSError):
            self._partial.unlink(missing_ok=True)  # while the lock is held, so that it is this writer's
        self._file.close()
