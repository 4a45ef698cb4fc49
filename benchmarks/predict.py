"""Photographs to predictions: `tcs predict` beside a bare loop of timm and a DataLoader, with equal threads.

    python -m benchmarks.predict PHOTOS --model mobilenetv3_small_100 --img-size 128 --rounds 5

PHOTOS is a folder of images in class folders. Every turn is whole: list the folder, build the model from its folder, read, decode, resize,
forward, the five likeliest classes. The loop is timm's ImageDataset with timm's evaluation transform in a DataLoader of as many
processes as `tcs predict` has decoding threads; torch's own threads are as many for both, and sleep while they wait. Two rows are
`tcs predict`: of a student, and of a timm model's folder, which timm's transform is used for. Their pixels agree but for the rounding
of the longer side.
"""

import argparse
import json
import os
import pathlib
import tempfile
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read at torch's import

import timm
import timm.data
import torch
from timm.data import ImageDataset, create_transform
from timm.models import save_for_hf
from torch.utils.data import DataLoader

from benchmarks.turns import Table, per_second, report, seconds_in_turns
from tcs.config.inference import PredictConfig
from tcs.images.folder import list_images
from tcs.inference.card import CROP, FILE, FORMAT, INTERPOLATION
from tcs.inference.prediction import predict

CLASSES = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BASE = "timm and a DataLoader"


def make_folders(place: pathlib.Path, name: str, size: int) -> tuple[pathlib.Path, pathlib.Path]:
    """A random model as a folder for the Hub, and as a student of ours."""
    facts = {
        "input_size": (3, size, size),
        "interpolation": INTERPOLATION,
        "mean": MEAN,
        "std": STD,
        "crop_pct": 1.0,
        "crop_mode": "center",
    }
    plain, ours = place / "plain", place / "ours"
    model = timm.create_model(name, num_classes=len(CLASSES))
    for folder in (plain, ours):
        labels = {"label_names": list(CLASSES)}
        save_for_hf(model, str(folder), model_config=labels, data_config=facts, safe_serialization=True)
    card = {"format": FORMAT, "architecture": name, "kwargs": {}, "classes": CLASSES, "preprocess_in_graph": False}
    transform = {"img_size": size, "mean": MEAN, "std": STD, "interpolation": INTERPOLATION, "crop": CROP}
    (ours / FILE).write_text(json.dumps({**card, "transform": transform}))
    return plain, ours


@torch.inference_mode()
def timm_loop(folder: pathlib.Path, photos: str, batch_size: int, workers: int) -> list[list[int]]:
    """What one writes with timm alone: the five likeliest classes of each photograph."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    facts = timm.data.resolve_model_data_config(model)
    dataset = ImageDataset(photos, transform=create_transform(**facts))
    found: list[list[int]] = []
    for images_B3HW, _ in DataLoader(dataset, batch_size=batch_size, num_workers=workers):
        shares_BC = model(images_B3HW).softmax(dim=1)
        found += shares_BC.topk(len(CLASSES), dim=1).indices.tolist()
    return found


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("--model", default="mobilenetv3_small_100")
    parser.add_argument("--img-size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2, help="of torch, and as many for decoding")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--name", default="predict")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    images = len(list_images(options.photos).keys)
    with tempfile.TemporaryDirectory() as place:
        plain, ours = make_folders(pathlib.Path(place), options.model, options.img_size)

        def by_us(folder: pathlib.Path) -> Callable[[], object]:
            given = {"model": str(folder), "paths": (options.photos,), "batch_size": options.batch_size}
            return lambda: predict(PredictConfig(**given, workers=options.threads))

        contestants: dict[str, Callable[[], object]] = {
            BASE: lambda: timm_loop(plain, options.photos, options.batch_size, options.threads),
            "tcs predict, a student": by_us(ours),
            "tcs predict, a timm folder": by_us(plain),
        }
        for contestant in contestants.values():
            contestant()  # files in memory, kernels chosen
        seconds = seconds_in_turns(contestants, options.rounds)
    title = f"{images:,} photographs, {options.model} at {options.img_size} px, {options.threads} threads"
    table = Table(title=title, unit="images/s", base=BASE, values=per_second(seconds, images))
    report(options.name, [table], "benchmarks.predict", arguments)


if __name__ == "__main__":
    main()
