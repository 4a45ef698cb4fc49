"""Where an export goes: written in a folder of its own beside the final one, and renamed when it has been checked."""

import contextlib
import pathlib
import secrets
import shutil
import types
from collections.abc import Mapping

from cache import atomic_write_bytes, locked_file
from tcs.errors import ArtefactError

Contents = bytes | Mapping[str, bytes]  # of a file, or of the files of a folder


class Draft:
    """An export on its way to `final`, a file or a folder. Without `commit` it is removed again, whatever ends the block; where the
    process is killed, by the next export to `final`.

    From `write` on there is a lock on `final`: LockedStoreError at once where another process has it.
    """

    def __init__(self, final: pathlib.Path) -> None:
        self.final = final
        self._place = final.with_name(f"{final.name}.{secrets.token_hex(4)}.partial")
        self.path = self._place / final.name  # as it will be called: readers go by the ending
        self._lock = contextlib.ExitStack()

    def __enter__(self) -> "Draft":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        shutil.rmtree(self._place, ignore_errors=True)
        self._lock.close()

    def write(self, contents: Contents) -> None:
        """Put the contents there, once. cache's StoreWriteError, one line, where the system refuses."""
        _make_folder(self.final.parent)
        self._lock.enter_context(locked_file(self.final))
        if isinstance(contents, bytes):
            _make_folder(self._place)
            atomic_write_bytes(self.path, contents)
            return
        _make_folder(self.path)
        for name, data in contents.items():
            atomic_write_bytes(self.path / name, data)

    def commit(self) -> None:
        """Let it appear as `final`, in place of an earlier export."""
        old = self._place / "old"
        try:
            if self.final.is_dir():  # a folder that holds something cannot be renamed over
                self.final.rename(old)
            self.path.replace(self.final)
        except BaseException:  # the place is about to be removed, and the earlier export must not go with it
            if old.exists():
                old.rename(self.final)
            raise


def _make_folder(folder: pathlib.Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtefactError(
            f"folder {folder} cannot be made ({error.strerror or error}); name another --out."
        ) from error
