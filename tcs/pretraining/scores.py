"""What a pretrained teacher is worth: probes on its features beside the same on raw pixels. Labels are read here and nowhere before.

Legend: N images, D encoder dims, S image side, P = 3SS pixel values, B images of a batch.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tcs.config.pixels import PixelRules
from tcs.errors import DataError
from tcs.images.decode import BadImageError, decode_square
from tcs.images.listing import ImageList
from tcs.pretraining.loop import Pretraining
from tcs.probes.ridge import fit_ridge, knn_accuracy
from tcs.splits.shots import k_shot_split

SHOTS = (1, 4, 16)
SPLITS = 5
BATCH = 256

Array = NDArray[np.float32]


def encode(run: Pretraining, images: ImageList) -> tuple[Array, Array]:
    """Features (N, D) and pixels (N, P), float32, of the clean centre view of every image. DataError for one that cannot be read."""
    features, pixels = [], []
    for start in range(0, len(images.keys), BATCH):
        keys = images.keys[start : start + BATCH]
        batch_BSS3 = np.stack([_square(images, key, run.config.img_size) for key in keys])
        views_B3SS = torch.from_numpy(batch_BSS3).to(run.device).permute(0, 3, 1, 2)
        with torch.no_grad():
            features.append(run.encoder(run.normalised(views_B3SS)).float().cpu().numpy())
        pixels.append((views_B3SS.float() / 255).flatten(1).cpu().numpy())
    return np.concatenate(features), np.concatenate(pixels)


def _square(images: ImageList, key: str, size: int) -> NDArray[np.uint8]:
    try:
        return decode_square(images.read(key), size, PixelRules())
    except (BadImageError, OSError) as error:
        raise DataError(f"image {key}: {error}; remove it from {images.root} and start again.") from error


def require_scorable(train: ImageList, test: ImageList) -> None:
    """DataError where the two have other classes, or an image without one; for use before long work."""
    for images in (train, test):
        _labels(images, train)


def score(run: Pretraining, train: ImageList, test: ImageList) -> dict[str, Any]:
    """k-NN with all labels, and ridge probes on features and on raw pixels, fitted on train and scored on test (percent)."""
    labels_N, truth_N = _labels(train, train), _labels(test, train)
    (features_ND, pixels_NP), (test_features_ND, test_pixels_NP) = (encode(run, images) for images in (train, test))
    scores: dict[str, Any] = {"test_images": len(test.keys), "splits": SPLITS}
    scores["knn_top1"] = round(knn_accuracy(features_ND, labels_N, test_features_ND, truth_N), 1)
    smallest = int(np.bincount(labels_N).min())
    for shots in (shots for shots in SHOTS if shots <= smallest):
        splits = [k_shot_split(train.keys, labels_N, train.classes, shots, seed).rows_n for seed in range(SPLITS)]
        for name, known, unseen in (("probe", features_ND, test_features_ND), ("pixels", pixels_NP, test_pixels_NP)):
            top1 = [
                fit_ridge(known[rows_n], labels_N[rows_n], len(train.classes)).accuracy(unseen, truth_N)
                for rows_n in splits
            ]
            scores[f"{name}_{shots}_shots"] = {
                "mean": round(float(np.mean(top1)), 1),
                "std": round(float(np.std(top1, ddof=1)), 1),
            }
    return scores


def _labels(images: ImageList, known: ImageList) -> NDArray[np.int64]:
    """Labels of `images` as `known` numbers the classes."""
    odd = sorted(set(images.classes) - set(known.classes))
    if odd or -1 in images.labels:
        what = f"has the class '{odd[0]}', which {known.root} lacks" if odd else "has images without a class"
        raise DataError(f"{images.root} {what}, so nothing can be scored; give class folders of the same names.")
    return np.array([known.classes.index(images.classes[label]) for label in images.labels])
