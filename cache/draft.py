"""A file or folder on its way to its name: made in a folder of its own beside it, and renamed when it is whole."""

import contextlib
import glob
import os
import secrets
import shutil
import types
from pathlib import Path
from typing import Self

from cache.files import locked_file, remove_path, sync_folder, write_error


class Draft:
    """What will be `final`, a file or a folder. Without `commit` it is removed again, whatever ends the block; where the process is
    killed, by the next draft of `final`.

    From `begin` on there is a lock on `final`: LockedStoreError at once where another process has it. An earlier folder `final` is set
    aside as `NAME.<8 hex>.earlier` while the new one takes its name; where the process is killed just then, the next draft puts it back.
    """

    def __init__(self, final: Path) -> None:
        mark = secrets.token_hex(4)
        self.final = final
        self._earlier = final.with_name(f"{final.name}.{mark}.earlier")
        self._place = final.with_name(f"{final.name}.{mark}.partial")
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
            for earlier in self.final.parent.glob(f"{glob.escape(self.final.name)}.{'[0-9a-f]' * 8}.earlier"):
                self._settle(earlier)
            self._place.mkdir()
        except OSError as error:
            raise write_error(self.final, error) from error
        return self.path

    def commit(self) -> None:
        """Let it appear as `final`, on the disk as well, in place of what was there, which comes back where that fails. OSError where
        the system refuses. Files that were made in the draft are their writer's to bring to the disk; its folders are seen to here."""
        for folder, _, _ in os.walk(self.path):
            sync_folder(Path(folder))
        try:
            if self.final.is_dir():  # a folder that holds something cannot be renamed over
                self.final.rename(self._earlier)
            self.path.replace(self.final)
        except BaseException:
            self._settle(self._earlier)
            raise
        sync_folder(self.final.parent)  # before the earlier one goes
        self._settle(self._earlier)

    def _settle(self, earlier: Path) -> None:
        """Put back what was set aside, or remove it where `final` is there again."""
        if os.path.lexists(self.final):
            remove_path(earlier)
        elif os.path.lexists(earlier):
            earlier.rename(self.final)
