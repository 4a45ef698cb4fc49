"""Folders of images, in natural order, with class = first-level folder; and what paths say about images.

Which names are images, what is hidden, what is a split and which class an image has are one set of rules for folders and tars,
so that a tar of a folder lists the same keys and labels as the folder.
"""

import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tcs.config.extract import DataConfig
from tcs.errors import DataError, did_you_mean, listed
from tcs.images.formats import extensions, is_image, left_out
from tcs.images.listing import ImageFiles, ImageList, PathFiles, check_key, make_list, natural_key

SPLIT_SYNONYMS = (("train", "training"), ("val", "valid", "validation", "eval", "evaluation"), ("test", "testing"))


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
    keys, others = _walk(root)
    origin = {"kind": "folder", "path": str(root)}
    return list_paths(config, root=str(root), keys=keys, others=others, files=PathFiles(root), origin=origin)


def _root_folder(data: pathlib.Path, split: str | None) -> pathlib.Path:
    if not data.is_dir():
        what = "is a file" if data.exists() else "does not exist"
        raise DataError(f"{data} {what}; DATA must be a folder of images, with one sub-folder per class or flat.")
    if split is None:
        return data
    return data / find_split(split, [entry.name for entry in data.iterdir() if entry.is_dir()], str(data))


def _walk(root: pathlib.Path) -> tuple[list[str], list[str]]:
    """Keys of all image files below `root`, and names of the other files; hidden ones are neither."""
    keys: list[str] = []
    others: list[str] = []
    for folder, names, files in os.walk(root, onerror=_refuse, followlinks=True):
        here = pathlib.Path(folder)
        visible = [name for name in names if not is_hidden(name, folder=True)]
        names[:] = [name for name in visible if not _leads_back(root, here / name)]
        for name in files:
            if is_hidden(name, folder=False):
                continue
            key = (here / name).relative_to(root).as_posix()
            if is_image(name):
                keys.append(check_key(key, str(root)))
            else:
                others.append(key)
    return keys, others


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


def is_hidden(name: str, *, folder: bool) -> bool:
    """Whether a file or folder of that name is passed over: dot files, and the folders that macOS puts into archives."""
    return name.startswith((".", "__MACOSX") if folder else ".")


def find_split(split: str, folders: Iterable[str], root: str) -> str:
    """The one of `folders` that is the split `split`, under that name or a synonym of it. DataError if none is."""
    folders = set(folders)
    synonyms: tuple[str, ...] = next((group for group in SPLIT_SYNONYMS if split in group), ())
    for name in (split, *synonyms):
        if name in folders:
            return name
    hint = did_you_mean(split, folders)
    raise DataError(f"--split is '{split}', but {root} has no such split (it has {listed(sorted(folders), 5)}).{hint}")


def list_paths(
    config: DataConfig,
    *,
    root: str,
    keys: Sequence[str],
    others: Sequence[str],
    files: ImageFiles,
    origin: Mapping[str, Any],
) -> ImageList:
    """The list of the images `keys`, relative posix paths: class = first folder. DataError, as `list_images` says.

    `others` are files that are not read; notes say what they are.
    """
    notes = left_out(others)
    if not keys:
        found = f" {' '.join(notes)}" if notes else ""
        raise DataError(
            f"{root} holds no images ({len(others)} other files); put files there that end in {', '.join(sorted(extensions()))}.{found}"
        )
    names = {key: first_folder(key) for key in keys}
    _check_classes(config, root, {name for name in names.values() if name is not None}, keys)
    return make_list(config, root=root, names=names, files=files, ignored=len(others), notes=notes, origin=origin)


def first_folder(key: str) -> str | None:
    """The first folder of a relative posix path; None where it has none."""
    first, slash, _ = key.partition("/")
    return first if slash else None


def _check_classes(config: DataConfig, root: str, folders: set[str], keys: Sequence[str]) -> None:
    """Raise DataError where there are no folders but must be, or where they are likely no classes."""
    if config.labels == "folder" and not folders:
        raise DataError(f"--labels is folder, but {root} has no class sub-folders; use --labels none.")
    if config.labels != "auto" or config.split is not None or not folders:
        return
    splits = {name for group in SPLIT_SYNONYMS for name in group}
    found = sorted(folders, key=natural_key)
    if folders <= splits:
        shown = ", ".join(found)
        raise DataError(f"{root} holds the splits {shown}, not classes; choose one, as --split {found[0]}.")
    if len(folders) == 1 and len({key.split("/")[1] for key in keys if key.count("/") > 1}) > 1:
        raise DataError(
            f"all images of {root} lie in its one folder {found[0]}; choose --split {found[0]} (the folders in it are the"
            " classes), --labels folder (it is the only class) or --labels none."
        )
