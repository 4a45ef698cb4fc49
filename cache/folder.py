"""Whose folder it is: a store deletes or writes only beside a manifest of its own kind."""

import json
import re
from pathlib import Path

from cache.errors import CorruptStoreError, ForeignFolderError
from cache.files import LOCK_NAME, open_ordinary, remove_file, write_error
from cache.manifest import MANIFEST_NAME, SHARD_PATTERN, manifest_bytes
from cache.notes import NOTE_PATTERN, remove_notes
from cache.partials import PARTIAL
from cache.schema import FORMAT

_HEAD_BYTES = 4096
_PARTIAL_PATTERN = re.compile(rf"({re.escape(MANIFEST_NAME)}|{SHARD_PATTERN.pattern}|{NOTE_PATTERN.pattern}){PARTIAL}")


def prepare_folder(folder: Path) -> None:
    """Make `folder` unless it is there; raises ForeignFolderError where something stands that is no store of ours."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise ForeignFolderError(f"{folder} is a file; a store is a folder, so name another --out.") from None
    except OSError as error:
        raise write_error(folder, error) from error
    require_ours(folder)


def require_ours(folder: Path) -> None:
    """Raise ForeignFolderError unless `folder` has a manifest or a shard of ours, or only what a killed start leaves."""
    if _has_manifest(folder):
        return
    others = _beyond_a_start(folder)
    if others and not any(_is_our_shard(folder / name) for name in others):
        raise ForeignFolderError(
            f"{folder} is not empty ({others[0]}) and has no manifest.json of a feature store; name another --out."
        )


def holds_nothing(folder: Path) -> bool:
    """Whether a folder is there with no more in it than a killed start or a killed removal of a store leaves."""
    return folder.is_dir() and not _beyond_a_start(folder)


def _beyond_a_start(folder: Path) -> list[str]:
    return [name for name in _names(folder) if name != LOCK_NAME and not _PARTIAL_PATTERN.fullmatch(name)]


def remove_shards(folder: Path) -> None:
    """Delete every shard of the store in `folder`, and its note, its manifest last to be replaced by the caller.

    Raises ForeignFolderError, before anything is deleted, where there is a file that no store wrote.
    """
    foreign = [name for name in _names(folder) if not _is_ours(folder / name)]
    if foreign:
        raise ForeignFolderError(
            f"{folder} holds {foreign[0]}, which no feature store wrote; move it away before --overwrite."
        )
    for name in _names(folder):
        if SHARD_PATTERN.fullmatch(name):
            remove_file(folder / name)
    remove_notes(folder)


def remove_partials(folder: Path) -> None:
    """Delete what killed writes left behind in `folder`."""
    for name in _names(folder):
        if _PARTIAL_PATTERN.fullmatch(name):
            remove_file(folder / name)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise write_error(folder, error) from error


def _is_ours(path: Path) -> bool:
    name = path.name
    patterns = (SHARD_PATTERN, NOTE_PATTERN, _PARTIAL_PATTERN)
    known = name in (LOCK_NAME, MANIFEST_NAME) or any(pattern.fullmatch(name) for pattern in patterns)
    return known and path.is_file() and not path.is_symlink()


def _has_manifest(folder: Path) -> bool:
    """Whether there is a manifest that says our format, of whatever version and however damaged below that."""
    try:
        data = manifest_bytes(folder)
        value = json.loads(data)
    except (OSError, CorruptStoreError):
        return False
    except (ValueError, RecursionError):
        return FORMAT.encode() in data[:_HEAD_BYTES]
    return isinstance(value, dict) and value.get("format") == FORMAT


def _is_our_shard(path: Path) -> bool:
    """Whether a file has the name, the first bytes and, near them, the attribute of a shard; no more is read of it."""
    if not SHARD_PATTERN.fullmatch(path.name):
        return False
    try:
        with open_ordinary(path) as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    return head.startswith(b"\x89HDF\r\n") and b"content_digest" in head
