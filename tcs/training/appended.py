"""A file that grows by whole pieces, each of them handed to the system at once."""

import os
import pathlib

from cache import write_error


class AppendedFile:
    """`path`, opened to append without a buffer: what was written survives a kill of this process.

    A write that the system refuses raises StoreWriteError; the piece may then stand there in part.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise write_error(path, error) from error

    def write(self, piece: bytes) -> None:
        """Append `piece`."""
        rest = memoryview(piece)
        try:
            while rest:  # a disk that fills up takes a part of it first
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise write_error(self._path, error) from error

    def sync(self) -> None:
        """Let all that was written reach the disk, so that it survives a power cut too."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise write_error(self._path, error) from error

    def close(self) -> None:
        """Let go of the file; a second call changes nothing."""
        self._file.close()
