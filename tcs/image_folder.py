"""Image folders: what lies in them, and in which order. Class = first-level folder."""

import os
import pathlib

from tcs.config import DataConfig
from tcs.errors import DataError
from tcs.image_list import ImageList, PathFiles, check_key
from tcs.image_paths import find_split, is_hidden, is_image, list_paths


def list_images(data: str | pathlib.Path, labels: str = "auto", split: str | None = None) -> ImageList:
    """The images of the folder `data` (of its sub-folder `split`, where given), in natural order of their keys.

    Class = first-level folder. `labels` is ``folder`` (demanded), ``none`` (not read) or ``auto`` (read where there are
    sub-folders). DataError: not a folder, no images, labels demanded and absent, several splits and none named, all
    images in one folder that holds others.
    """
    return open_folder(DataConfig(data=str(data), labels=labels, split=split))


def open_folder(config: DataConfig) -> ImageList:
    """The same for the folder `config.data`."""
    root = _root_folder(pathlib.Path(config.data), config.split)
    keys, ignored = _walk(root)
    origin = {"kind": "folder", "path": str(root)}
    return list_paths(config, root=str(root), keys=keys, ignored=ignored, files=PathFiles(root), origin=origin)


def _root_folder(data: pathlib.Path, split: str | None) -> pathlib.Path:
    if not data.is_dir():
        what = "is a file" if data.exists() else "does not exist"
        raise DataError(f"{data} {what}; DATA must be a folder of images, with one sub-folder per class or flat.")
    if split is None:
        return data
    return data / find_split(split, [entry.name for entry in data.iterdir() if entry.is_dir()], str(data))


def _walk(root: pathlib.Path) -> tuple[list[str], int]:
    """Keys of all image files below `root`, and the number of other files; hidden ones count as neither."""
    keys: list[str] = []
    ignored = 0
    for folder, names, files in os.walk(root, onerror=_refuse, followlinks=True):
        here = pathlib.Path(folder)
        visible = [name for name in names if not is_hidden(name, folder=True)]
        names[:] = [name for name in visible if not _leads_back(root, here / name)]
        for name in files:
            if is_hidden(name, folder=False):
                continue
            if is_image(name):
                keys.append(check_key((here / name).relative_to(root).as_posix(), str(root)))
            else:
                ignored += 1
    return keys, ignored


def _refuse(error: OSError) -> None:
    raise DataError(
        f"the folder {error.filename} cannot be listed ({error.strerror}); correct its permissions."
    ) from error


def _leads_back(root: pathlib.Path, folder: pathlib.Path) -> bool:
    """Whether `folder` is a link to a folder that holds it, directly or by way of the links above it: no end then."""
    if not folder.is_symlink():
        return False
    target = folder.resolve()
    above = [folder.parent, *folder.parent.parents]
    return any(place.resolve().is_relative_to(target) for place in above[: above.index(root) + 1])
