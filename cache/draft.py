"""A file or folder on its way to its name: made in a folder of its own beside it, and renamed when it is whole."""

import contextlib
import secrets
import shutil
import types
from pathlib import Path
from typing import Self

from cache.files import locked_file, write_error


class Draft:
    """What will be `final`, a file or a folder. Without `commit` it is removed again, whatever ends the block; where the process is
    killed, by the next draft of `final`.

    From `begin` on there is a lock on `final`: LockedStoreError at once where another process has it.
    """

    def __init__(self, final: Path) -> None:
        self.final = final
        self._place = final.with_name(f"{final.name}.{secrets.token_hex(4)}.partial")
        self.path = self._place / final.name  # as it will be called: readers go by the ending
        self._lock = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        shutil.rmtree(self._place, ignore_errors=True)
        self._lock.close()

    def begin(self) -> Path:
        """Take the lock; the path at which the file or folder is to be made, in a folder that is there. StoreWriteError where the system
        refuses."""
        try:
            self.final.parent.mkdir(parents=True, exist_ok=True)
            self._lock.enter_context(locked_file(self.final))
            self._place.mkdir()
        except OSError as error:
            raise write_error(self.final, error) from error
        return self.path

    def commit(self) -> None:
        """Let it appear as `final`, in place of what was there, which comes back where that fails."""
        old = self._place / "old"
        try:
            if self.final.is_dir():  # a folder that holds something cannot be renamed over
                self.final.rename(old)
            self.path.replace(self.final)
        except BaseException:  # the place is about to be removed, and what was there must not go with it
            if old.exists():
                old.rename(self.final)
            raise
