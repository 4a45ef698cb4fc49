"""The handwritten digits that scikit-learn ships, as a folder of images: the data of `tcs demo`, without a download.

Split, fixed for good: the images are ranked by the blake2b digest of their number, the first 1,297 are for training and
the other 500 for testing. A digest, because the streams of random generators may change between numpy versions.
"""

import hashlib
import pathlib
import shutil

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from tcs.errors import ArtefactError

SIDE = 32
TRAIN_IMAGES = 1297
MEAN = (0.309, 0.309, 0.309)  # of the training images, as STD
STD = (0.349, 0.349, 0.349)


def write_digits(folder: str | pathlib.Path) -> pathlib.Path:
    """Write `folder/train/<digit>/NNNN.png` (1,297 files) and `folder/test/<digit>/NNNN.png` (500); return `folder`.

    NNNN is the image's number in scikit-learn's order; a file holds 32 x 32 grey pixels of 8 bits. The folder appears whole
    or not at all. Where it is there already it is compared and left alone; ArtefactError if it holds anything else.
    """
    folder = pathlib.Path(folder)
    pixels = _digit_pixels()
    if folder.exists():
        _check_folder(folder, pixels)
        return folder
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for key, image_SS in pixels.items():
        (partial / key).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image_SS).save(partial / key)
    partial.replace(folder)
    return folder


def _digit_pixels() -> dict[str, np.ndarray]:
    """Relative path -> uint8 (32, 32), of all 1,797 images."""
    images, labels = load_digits(return_X_y=True)
    rank = sorted(range(len(images)), key=lambda number: hashlib.blake2b(b"digits %d" % number).digest())
    train = set(rank[:TRAIN_IMAGES])
    pixels = {}
    for number, (values_P, label) in enumerate(zip(images, labels, strict=True)):
        key = f"{'train' if number in train else 'test'}/{label}/{number:04}.png"
        small_88 = np.rint(values_P.reshape(8, 8) * (255 / 16)).astype(np.uint8)
        pixels[key] = np.asarray(Image.fromarray(small_88).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return pixels


def _check_folder(folder: pathlib.Path, pixels: dict[str, np.ndarray]) -> None:
    remedy = "choose another folder, or delete this one."
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if found != set(pixels):
        odd = min(found ^ set(pixels))
        raise ArtefactError(f"{folder} exists and is not the digit images ('{odd}' is missing or foreign); {remedy}")
    for key, image_SS in pixels.items():
        with Image.open(folder / key) as image:
            if not np.array_equal(np.asarray(image), image_SS):
                raise ArtefactError(
                    f"{folder} exists and '{key}' in it has other pixels than the digit images; {remedy}"
                )
