"""timm's ``torch/NAME``: torchvision's data sets of small arrays, read from the files torchvision keeps.

The images have no paths and no encoded bytes: keys are their places (``00000012``), and their bytes are PNGs that depend on
nothing but the pixels. PNG writers agree on the pixels, not on the bytes, which change with the compression library. A content
hash must not, so the pixels are stored as they are: deflate's stored blocks (RFC 1951, 3.2.4), rows without a filter (PNG, third
edition, 9).

Legend: N images, H height, W width, B = channels x W bytes of a row.
"""

import contextlib
import dataclasses
import pathlib
import struct
import sys
import zlib
from typing import Any

import numpy as np

from tcs.config.extract import DataConfig
from tcs.errors import DataError, did_you_mean
from tcs.images.folder import open_folder
from tcs.images.listing import ImageList, index_keys, make_list

# timm's name -> torchvision's class, all of them with `data`, `targets` and `classes`
ARRAY_SETS = {
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "mnist": "MNIST",
    "kmnist": "KMNIST",
    "fashion_mnist": "FashionMNIST",
    "qmnist": "QMNIST",
}
FOLDER_NAMES = ("image_folder", "folder")
AS_FILES = "its images are files; give their folder as DATA, with --split, "
FILE_SETS = {
    "imagenet": AS_FILES + "for example tcs extract imagenet --split train",
    "places365": "its images and labels are listed in a text file; write a CSV table of them",
    "inaturalist": AS_FILES + "for example tcs extract inat --split 2021_train",
    "inat": AS_FILES + "for example tcs extract inat --split 2021_train",
}
PARTS = {True: ("train", "training"), False: ("val", "valid", "validation", "eval", "evaluation", "test", "testing")}

# PNG, third edition: the first bytes, colour types; RFC 1951: the longest stored block
SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB = 0, 2
BLOCK_BYTES = 65535


class ArrayFiles:
    """Images held as pixels uint8, (N, H, W) or (N, H, W, 3), by the number that their key is."""

    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels = pixels

    def read(self, key: str) -> bytes:
        """The PNG of the image."""
        return stored_png(self._pixels[int(key)])

    def size(self, key: str) -> int:
        """The length of that PNG."""
        return len(self.read(key))


def open_torch(config: DataConfig) -> ImageList:
    """The images of ``torch/NAME`` in torchvision's order; classes as torchvision names them.

    DataError: a name that timm does not have or that is better read as files, no split, no folder, files that are
    missing or damaged.
    """
    name = config.data.rpartition("/")[2].lower()
    if config.data_dir is None:
        raise DataError(f"{config.data} needs --data-dir, the folder where torchvision keeps it (or shall keep it).")
    if name in FOLDER_NAMES:
        return open_folder(dataclasses.replace(config, data=config.data_dir))
    if name in FILE_SETS:
        raise DataError(f"{config.data} is not read by that name: {FILE_SETS[name]}.")
    if name not in ARRAY_SETS:
        known = (*ARRAY_SETS, *FOLDER_NAMES)
        raise DataError(
            f"there is no {config.data}; torch/NAME is one of {', '.join(known)}.{did_you_mean(name, known)}"
        )
    found = _load(config, name)
    labels_N = np.asarray(found.targets)
    labels_N = labels_N[:, 0] if labels_N.ndim == 2 else labels_N  # QMNIST: the digit, then its history
    classes = tuple(str(title) for title in found.classes)
    keys = index_keys(len(labels_N))
    return make_list(
        config,
        root=config.data,
        names={key: classes[label] for key, label in zip(keys, labels_N.tolist(), strict=True)},
        classes=classes,
        files=ArrayFiles(np.asarray(found.data)),
        origin=_origin(config),
    )


def _is_train(config: DataConfig) -> bool:
    part = next((train for train, names in PARTS.items() if config.split in names), None)
    if part is None:
        raise DataError(f"{config.data} has the splits train and test, --split is {config.split}; name one of them.")
    return part


def _load(config: DataConfig, name: str) -> Any:
    """The data set as torchvision reads it, with torchvision's own check of its files; DataError."""
    import torchvision.datasets

    root = pathlib.Path(str(config.data_dir))
    train = _is_train(config)
    if not root.is_dir() and not config.dataset_download:
        raise DataError(f"--data-dir {root} is no folder; give the one with {config.data}, or add --dataset-download.")
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return getattr(torchvision.datasets, ARRAY_SETS[name])(root, train=train, download=config.dataset_download)
    except Exception as error:  # torchvision checks by RuntimeError, and reads damaged files into any other
        reason = (str(error).splitlines() or [""])[0].partition(". You can use")[0].rstrip(".")
        remedy = "try again later" if config.dataset_download else "correct --data-dir, or add --dataset-download"
        raise DataError(
            f"{config.data} cannot be read in {root} ({reason or type(error).__name__}); {remedy}."
        ) from error


def _origin(config: DataConfig) -> dict[str, Any]:
    import torchvision

    facts = {"kind": "torch", "name": config.data, "split": config.split, "root": config.data_dir}
    return facts | {"torchvision": str(torchvision.__version__)}


def stored_png(pixels: np.ndarray) -> bytes:
    """The PNG of uint8 `pixels`, (H, W) grey or (H, W, 3) RGB. ValueError for any other array."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)) or pixels.size == 0:
        raise ValueError(
            f"pixels of shape {pixels.shape} and type {pixels.dtype}; they must be uint8 (H, W) or (H, W, 3)"
        )
    height, width = pixels.shape[:2]
    rows_HB = pixels.reshape(height, -1)
    raw = np.concatenate([np.zeros((height, 1), np.uint8), rows_HB], axis=1).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, GREY if pixels.ndim == 2 else RGB, 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", _stored(raw)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _stored(raw: bytes) -> bytes:
    """A zlib stream (RFC 1950) of `raw` without compression."""
    blocks = []
    for start in range(0, len(raw), BLOCK_BYTES):
        block = raw[start : start + BLOCK_BYTES]
        last = start + BLOCK_BYTES >= len(raw)
        blocks.append(struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF) + block)
    return b"\x78\x01" + b"".join(blocks) + struct.pack(">I", zlib.adler32(raw))
