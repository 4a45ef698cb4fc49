"""Where an export goes: a draft beside the final file or folder, which takes its name when it has been checked."""

import pathlib
from collections.abc import Mapping

import cache
from cache import atomic_write_bytes
from tcs.errors import ArtefactError

Contents = bytes | Mapping[str, bytes]  # of a file, or of the files of a folder


class Draft(cache.Draft):
    """An export on its way to `final`; `write` begins it."""

    def write(self, contents: Contents) -> None:
        """Put the contents there, once. cache's StoreWriteError, one line, where the system refuses."""
        _make_folder(self.final.parent)
        path = self.begin()
        if isinstance(contents, bytes):
            atomic_write_bytes(path, contents)
            return
        _make_folder(path)
        for name, data in contents.items():
            atomic_write_bytes(path / name, data)


def _make_folder(folder: pathlib.Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtefactError(
            f"folder {folder} cannot be made ({error.strerror or error}); name another --out."
        ) from error
