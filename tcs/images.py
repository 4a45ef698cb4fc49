"""Image folders: what lies in them, in which order, and how the bytes become RGB pixels.

Knows nothing of teachers. Pixels follow timm and torchvision where they are silent: transparency is dropped, the EXIF
orientation is not applied, the first frame of an animation counts.
"""

import dataclasses
import io
import os
import pathlib
import re
import warnings

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from tcs.errors import DataError, did_you_mean

EXTENSIONS = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
)
SPLIT_SYNONYMS = (("train", "training"), ("val", "valid", "validation", "eval", "evaluation"), ("test", "testing"))
# A 1 x 5000 strip, its shorter side resized to 224, would take 750 MB; no photograph is that long.
MAX_ASPECT_RATIO = 1000
JPEG_QUALITY = 95


class BadImageError(Exception):
    """Bytes that are no image we can read; str() is the reason, for the quarantine list."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageList:
    """The images under `root`: `keys` are relative posix paths in natural order, `labels` index `classes` (-1: none).

    `ignored` counts the visible files without an image extension.
    """

    root: pathlib.Path
    keys: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    ignored: int = 0

    def read(self, key: str) -> bytes:
        """The bytes of the file `key`; OSError where it cannot be read."""
        return (self.root / key).read_bytes()

    def size_bytes(self) -> int:
        """The summed size of all files (0 for those that vanished meanwhile; reading them will tell)."""
        paths = (self.root / key for key in self.keys)
        return sum(path.stat().st_size for path in paths if path.exists())


def natural_key(text: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key by which ``img2`` comes before ``img10``; the text itself breaks ties such as ``01`` and ``1``."""
    parts = re.findall(r"[0-9]+|[^0-9]+", text.lower())
    return [(0, int(part), "") if part[0] in "0123456789" else (1, 0, part) for part in parts], text


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


def decode_image(data: bytes) -> Image.Image:
    """The bytes of an image file as a loaded PIL image of mode RGB; BadImageError, str() the reason, for all else."""
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # another library may have switched it on; half an image is no image
    if not data:
        raise BadImageError("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PIL's: odd EXIF, big but legal sizes
            with Image.open(io.BytesIO(data)) as image:
                _check_shape(*image.size)
                image.load()
                return _to_rgb(image)
    except BadImageError:
        raise
    except Exception as error:  # PIL's decoders raise nearly every built-in type on damaged bytes
        raise BadImageError(_reason(error)) from error


def _check_shape(width: int, height: int) -> None:
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise BadImageError(f"{width} x {height} pixels: one side is over {MAX_ASPECT_RATIO} times the other")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise BadImageError("floating-point pixels have no fixed range")
    if image.mode.startswith("I"):
        return _sixteen_bit_to_rgb(image)
    if image.mode == "P":  # by way of RGBA, as PIL asks where the palette has transparency
        image = image.convert("RGBA")
    return image.convert("RGB")


def _sixteen_bit_to_rgb(image: Image.Image) -> Image.Image:
    """The upper 8 of 16 bits: PIL itself would clip every value above 255 to white."""
    values_HW = np.asarray(image).astype(np.int64)
    if values_HW.min() < 0 or values_HW.max() > 65535:
        raise BadImageError("integer pixels outside 0 to 65535 have no known range")
    return Image.fromarray((values_HW >> 8).astype(np.uint8)).convert("RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image file"
    text = " ".join(str(error).split())
    return (text or type(error).__name__)[:160]


def decode_square(data: bytes, size: int) -> np.ndarray:
    """uint8 (size, size, 3): shorter side resized to `size` (bicubic; untouched if equal), then the centre crop."""
    image = _shorter_side(decode_image(data), size)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)), dtype=np.uint8).copy()


def _shorter_side(image: Image.Image, size: int) -> Image.Image:
    shorter = min(image.size)
    if shorter == size:
        return image
    width, height = (max(size, round(side * size / shorter)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def shrink(data: bytes, image: Image.Image, size: int) -> bytes:
    """`data` re-encoded with its shorter side `size`; as it is where that is no larger already.

    `image` is the decoded `data`. JPEG stays JPEG (quality 95), everything else becomes PNG.
    """
    if min(image.size) <= size:
        return data
    buffer = io.BytesIO()
    small = _shorter_side(image, size)
    if data.startswith(b"\xff\xd8"):
        small.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    else:
        small.save(buffer, "PNG")
    return buffer.getvalue()
