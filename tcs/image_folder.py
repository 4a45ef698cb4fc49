"""Image folders: what lies in them, and in which order. Class = first-level folder."""

import os
import pathlib

from tcs.errors import DataError, did_you_mean
from tcs.image_list import ImageList, natural_key

EXTENSIONS = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
)
SPLIT_SYNONYMS = (("train", "training"), ("val", "valid", "validation", "eval", "evaluation"), ("test", "testing"))


def list_images(data: str | pathlib.Path, labels: str = "auto", split: str | None = None) -> ImageList:
    """The images of the folder `data` (of its sub-folder `split`, where given), in natural order of their keys.

    Class = first-level folder. `labels` is ``folder`` (demanded), ``none`` (not read) or ``auto`` (read where there are
    sub-folders). DataError: not a folder, no images, labels demanded and absent, several splits and none named.
    """
    root = _root_folder(pathlib.Path(data), split)
    keys, ignored = _walk(root)
    if not keys:
        extensions = ", ".join(sorted(EXTENSIONS))
        raise DataError(f"{root} holds no images ({ignored} other files); put files there that end in {extensions}.")
    keys.sort(key=natural_key)
    classes = _classes(root, keys, labels, split)
    index = {name: position for position, name in enumerate(classes)}
    numbers = tuple(index.get(_first_folder(key) or "", -1) for key in keys)
    return ImageList(root=root, keys=tuple(keys), labels=numbers, classes=classes, ignored=ignored)


def _root_folder(data: pathlib.Path, split: str | None) -> pathlib.Path:
    if not data.is_dir():
        what = "is a file" if data.exists() else "does not exist"
        raise DataError(f"{data} {what}; DATA must be a folder of images, with one sub-folder per class or flat.")
    if split is None:
        return data
    synonyms: tuple[str, ...] = next((group for group in SPLIT_SYNONYMS if split in group), ())
    for name in (split, *synonyms):
        folder = data / name
        if folder.is_dir():
            return folder
    folders = sorted(entry.name for entry in data.iterdir() if entry.is_dir())
    hint = did_you_mean(split, folders)
    raise DataError(f"--split is '{split}', but {data} has no such sub-folder (it has {_some(folders)}).{hint}")


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:5]) or "none"
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _walk(root: pathlib.Path) -> tuple[list[str], int]:
    """Keys of all image files below `root`, and the number of other files; hidden ones count as neither."""
    keys: list[str] = []
    ignored = 0
    for folder, names, files in os.walk(root, onerror=_refuse, followlinks=True):
        here = pathlib.Path(folder)
        visible = [name for name in names if not name.startswith((".", "__MACOSX"))]
        names[:] = [name for name in visible if not _leads_back(root, here / name)]
        for name in files:
            if name.startswith("."):
                continue
            if pathlib.PurePath(name).suffix.lower() in EXTENSIONS:
                keys.append(_key(root, here / name))
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


def _key(root: pathlib.Path, path: pathlib.Path) -> str:
    key = path.relative_to(root).as_posix()
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"the file name {key!a} under {root} is not valid UTF-8; rename it.") from error
    if "\n" in key or "\r" in key:
        raise DataError(f"the file name {key!a} under {root} has a line break; split files cannot hold it, rename it.")
    return key


def _first_folder(key: str) -> str | None:
    first, slash, _ = key.partition("/")
    return first if slash else None


def _classes(root: pathlib.Path, keys: list[str], labels: str, split: str | None) -> tuple[str, ...]:
    """Class names in natural order; () where there are none or `labels` is ``none``."""
    if labels == "none":
        return ()
    folders = sorted({folder for key in keys if (folder := _first_folder(key)) is not None}, key=natural_key)
    if labels == "folder" and not folders:
        raise DataError(f"--labels is folder, but {root} has no class sub-folders; use --labels none.")
    splits = {name for group in SPLIT_SYNONYMS for name in group}
    if split is None and labels == "auto" and folders and set(folders) <= splits:
        found = ", ".join(folders)
        raise DataError(f"{root} holds the splits {found}, not classes; choose one, as --split {folders[0]}.")
    return tuple(folders)
