"""A store put in the place of the one that it grew from: the earlier one stands until the new one is whole, and is kept beside it.

The new state is written at `NAME.update`; then the two folders change places, at once where the system can (Linux, `renameat2`),
else by two renames, and the earlier state stands at `NAME.old`. Whatever kills the writer, the next `Replacement` of the same store
goes on where it stopped.
"""

import contextlib
import ctypes
import os
import types
from pathlib import Path

from cache.errors import CacheError, ForeignFolderError
from cache.files import LOCK_NAME, FolderLock, remove_file, sync_folder, write_error
from cache.folder import holds_nothing, remove_partials, remove_shards
from cache.manifest import MANIFEST_NAME, Manifest, read_closed_manifest, read_manifest

NEW, FORMER = ".update", ".old"
PARENT = "parent"  # entry of the provenance that tells which store one grew from, by its `identity`
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


class Replacement:
    """`path`, a closed store in a folder, locked; `new` is where its next state is written, and `former` where this one goes."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Finish an exchange that was cut short, and lock the store.

        Raises StoreNotFoundError (for a packed store as well), IncompleteStoreError, LockedStoreError, and ForeignFolderError where
        `new` or `former` is something that no update of this store left.
        """
        given = Path(path)
        self.path = given.resolve() if given.is_symlink() else given  # folders change places where the store lies
        self.new, self.former = (self.path.with_name(f"{self.path.name}{ending}") for ending in (NEW, FORMER))
        _go_on_by_renames(self.path, self.new, self.former)
        manifest = read_closed_manifest(self.path)
        self._lock: FolderLock | None = FolderLock(self.path)
        try:
            remove_partials(self.path)
            if _identity(self.new) is not None and _identity(self.new) == parent_identity(manifest):
                self._put_aside(self.new)
            self._require_ours(manifest)
        except BaseException:
            self.release()
            raise

    def __enter__(self) -> "Replacement":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.release()

    def release(self) -> None:
        """Let go of the store; a second call changes nothing."""
        if self._lock is not None:
            self._lock.release()
        self._lock = None

    def commit(self) -> Path:
        """Put the closed store at `new` in place of `path`, keep what stood there as `former`, and let go of both.

        Raises IncompleteStoreError for a store that is not closed, and StoreWriteError.
        """
        assert self._lock is not None, "committed once"
        found, mine = read_closed_manifest(self.new), read_closed_manifest(self.path)
        assert parent_identity(found) == mine.identity, "the writer records the parent"
        lock = FolderLock(self.new)  # held when it has its name, so that nobody else writes between two renames
        try:
            _discard(self.former)
            if exchanged(self.path, self.new):
                lock.moved_to(self.path)
                self._lock.moved_to(self.new)
                self._put_aside(self.new)
            else:
                _rename(self.path, self.former)
                self._lock.moved_to(self.former)
                _rename(self.new, self.path)
                lock.moved_to(self.path)
        finally:
            lock.release()
            self.release()
        return self.path

    def _put_aside(self, folder: Path) -> None:
        """Give the state before the last update its name, and drop the one before that."""
        _discard(self.former)
        _rename(folder, self.former)
        if self._lock is not None and self._lock.folder == folder:
            self._lock.moved_to(self.former)

    def _require_ours(self, manifest: Manifest) -> None:
        """Raise ForeignFolderError, before anything is written, for a folder that must not be replaced later."""
        is_former = holds_nothing(self.former) or _identity(self.former) == parent_identity(manifest) is not None
        if os.path.lexists(self.former) and not is_former:
            raise ForeignFolderError(
                f"{self.former} is there, and is not what {self.path} was before its last update; move it away, and run again."
            )
        if os.path.lexists(self.new) and not holds_nothing(self.new) and _parent_of(self.new) is None:
            raise ForeignFolderError(
                f"{self.new} is there, and no update of {self.path} began it; move it away, and run again."
            )


def parent_identity(manifest: Manifest) -> str | None:
    """The identity of the store that this one grew from; None where it is no update."""
    parent = manifest.provenance.get(PARENT)
    found = parent.get("identity") if isinstance(parent, dict) else None
    return found if isinstance(found, str) else None


def exchanged(one: Path, other: Path) -> bool:
    """Let two folders change places in one step; False, and nothing done, where this system or file system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    done: int = rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE)
    if done == 0:
        sync_folder(one.parent)
    return done == 0


def _go_on_by_renames(path: Path, new: Path, former: Path) -> None:
    """Do the second of two renames, where a writer was killed between them."""
    if not path.exists() and _identity(former) is not None and _parent_of(new) == _identity(former):
        _rename(new, path)


def _identity(folder: Path) -> str | None:
    """The identity of a closed store; None for anything else."""
    with contextlib.suppress(OSError, CacheError):
        return read_manifest(folder).identity
    return None


def _parent_of(folder: Path) -> str | None:
    """The identity of the parent of a store, finished or not."""
    with contextlib.suppress(OSError, CacheError):
        return parent_identity(read_manifest(folder))
    return None


def _discard(folder: Path) -> None:
    """Delete a store, the manifest after all shards so that a kill leaves what is known for ours; nothing where none is."""
    if not folder.exists():
        return
    remove_shards(folder)
    remove_partials(folder)
    for name in (MANIFEST_NAME, LOCK_NAME):
        remove_file(folder / name)
    try:
        folder.rmdir()
    except OSError as error:
        raise write_error(folder, error) from error


def _rename(one: Path, other: Path) -> None:
    try:
        one.rename(other)
        sync_folder(other.parent)
    except OSError as error:
        raise write_error(other, error) from error
