"""Where an export goes: written under a name of its own beside the final one, and renamed when it has been checked."""

import contextlib
import pathlib
import secrets
import shutil
import types
from collections.abc import Mapping

from cache import atomic_write_bytes
from tcs.errors import ArtefactError

Contents = bytes | Mapping[str, bytes]  # of a file, or of the files of a folder


class Draft:
    """An export on its way to `final`, a file or a folder. Without `commit` it is removed again, whatever ends the block."""

    def __init__(self, final: pathlib.Path) -> None:
        self.final = final
        # The ending stays: readers go by it.
        self.path = final.with_name(f"{final.stem}.{secrets.token_hex(4)}.partial{final.suffix}")

    def __enter__(self) -> "Draft":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        _remove(self.path)

    def write(self, contents: Contents) -> None:
        """Put the contents there. cache's StoreWriteError, one line, where the system refuses."""
        if isinstance(contents, bytes):
            _make_folder(self.path.parent)
            atomic_write_bytes(self.path, contents)
            return
        _make_folder(self.path)
        for name, data in contents.items():
            atomic_write_bytes(self.path / name, data)

    def commit(self) -> None:
        """Let it appear as `final`, in place of an earlier export."""
        old = self.final.with_name(f"{self.path.name}.old")
        if self.final.is_dir():  # a folder that holds something cannot be renamed over
            self.final.rename(old)
        self.path.replace(self.final)
        _remove(old)

    def keep_as(self, final: pathlib.Path) -> None:
        """Let it appear under another name than it was meant to have."""
        self.final = final
        self.commit()


def _make_folder(folder: pathlib.Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtefactError(
            f"folder {folder} cannot be made ({error.strerror or error}); name another --out."
        ) from error


def _remove(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
