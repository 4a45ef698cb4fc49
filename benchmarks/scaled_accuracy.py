"""What `--scaled-decoding` does to a student's accuracy: the same runs on whole and on scaled frames, in pairs of one seed.

    tar xf flowers5.tar -C PHOTOS/flowers5; tar xf pbc8.tar -C PHOTOS/pbc8       # folders of train/<class> and test/<class>
    python -m benchmarks.scaled_accuracy PHOTOS/flowers5 PHOTOS/pbc8

About 8 minutes on 2 idle cores (estimated; 40 runs).
Photographs of 160 and 192 pixels are decoded at a half for frames of 32 pixels, at a quarter
for frames of 20. A student learns from all training labels, from scratch, and is scored on the test images, which a student of scaled
frames sees scaled as well. Runs of a seed differ in nothing else. A run is a row of results/scaled-decoding/accuracy.csv; rows that are
there are not made again. Differences are in points of top-1, with the 95 % t-interval over seeds.
"""

import argparse
import collections
import itertools
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

import cache
from benchmarks.tables import Done, append_rows
from benchmarks.turns import RESULTS
from tcs.config.augment import AugmentConfig
from tcs.config.evaluate import EvalConfig
from tcs.config.pixels import SCALED_MARGIN
from tcs.config.train import TrainConfig
from tcs.evaluation.students import evaluate
from tcs.images.folder import list_images
from tcs.images.scaled import divisor_for
from tcs.plain_files import load_table
from tcs.reporting.grid_report import plain
from tcs.reporting.intervals import Interval, paired_difference
from tcs.reporting.tables import markdown
from tcs.training.train import train

WAYS = {"whole": False, "scaled": True}
KEY = ("data", "px", "way", "seed")
Rows = Sequence[Mapping[str, Any]]


def make_store(folder: pathlib.Path, split: str, out: pathlib.Path) -> str:
    """The images of a split with their labels, and a feature that nothing reads."""
    found = list_images(folder, labels="folder", split=split)
    cache.create(
        out,
        {"avg": np.zeros((len(found.keys), 1), np.float32)},
        keys=found.keys,
        labels=found.labels,
        classes=found.classes,
        images=[found.read(key) for key in found.keys],
    )
    return str(out)


def usual_divisor(folder: pathlib.Path, frame: int) -> int:
    """By what most training images are scaled for such frames."""
    found = list_images(folder, labels="folder", split="train")
    counts: collections.Counter[int] = collections.Counter()
    for key in found.keys:
        with Image.open(pathlib.Path(found.root, key)) as image:
            counts[divisor_for(image.size, SCALED_MARGIN * frame)] += 1
    return counts.most_common(1)[0][0]


def top1(config: TrainConfig, test: str) -> float:
    """Of one student, trained now."""
    train(config)
    (row,) = evaluate(EvalConfig(run=config.out, store=test))
    return float(row["top1"])


def measure(options: argparse.Namespace, done: Done) -> Iterator[dict[str, Any]]:
    """A row for each run that is missing: whole and scaled of a seed one after the other, seed by seed."""
    for folder in options.photos:
        runs = itertools.product(options.frames, range(options.seeds), WAYS)
        missing = [run for run in runs if _key(folder, *run) not in done]
        if missing:
            yield from measure_photographs(options, folder, missing)


def _key(folder: pathlib.Path, frame: int, seed: int, way: str) -> tuple[str, ...]:
    return (folder.name, str(frame), way, str(seed))


def measure_photographs(
    options: argparse.Namespace, folder: pathlib.Path, missing: Sequence[tuple[int, int, str]]
) -> Iterator[dict[str, Any]]:
    """The rows of one data set: frame, seed and way of each are given."""
    divisors = {frame: usual_divisor(folder, frame) for frame in options.frames}
    with tempfile.TemporaryDirectory() as scratch:
        train_store, test_store = (
            make_store(folder, split, pathlib.Path(scratch, f"{split}.store")) for split in ("train", "test")
        )
        for frame, seed, way in missing:
            out = str(pathlib.Path(scratch, f"{frame}-{seed}-{way}"))
            config = run_config(options, train_store, out, frame, seed, is_scaled=WAYS[way])
            facts = dict(zip(KEY, (folder.name, frame, way, seed), strict=True))
            yield facts | {"divisor": divisors[frame], "top1": top1(config, test_store)}


def run_config(
    options: argparse.Namespace, store: str, out: str, frame: int, seed: int, *, is_scaled: bool
) -> TrainConfig:
    """A run on all labels; what differs in a pair is the decoding alone."""
    return TrainConfig(
        store=store,
        out=out,
        models=(options.model,),
        method="labels",
        img_size=frame,
        steps=options.steps,
        batch_size=options.batch_size,
        held_out=0,
        seed=seed,
        augment=AugmentConfig(scaled_decoding=is_scaled),
    )


def differences(rows: Rows) -> dict[tuple[str, str], Interval | None]:
    """(data set, frame) -> scaled less whole, paired by seed; ("mean of all", "") the same of the means of a seed."""
    places = dict.fromkeys((row["data"], row["px"]) for row in rows)
    by_place = {place: _difference([row for row in rows if (row["data"], row["px"]) == place]) for place in places}
    return {**by_place, ("mean of all", ""): _difference(rows)}


def _difference(rows: Rows) -> Interval | None:
    """Over the seeds that have as many rows of both ways as any has: of others the mean would be of other places."""
    found: dict[str, dict[str, list[float]]] = {way: {} for way in WAYS}
    for row in rows:
        found[row["way"]].setdefault(row["seed"], []).append(float(row["top1"]))
    most = max(len(values) for seeds in found.values() for values in seeds.values())
    means = {
        way: {seed: sum(values) / most for seed, values in seeds.items() if len(values) == most}
        for way, seeds in found.items()
    }
    return paired_difference(means["scaled"], means["whole"])


def summary(rows: Rows) -> str:
    """The differences as Markdown."""
    told = [
        [data, px, "-" if found is None else f"{'+' if found.mean >= 0 else ''}{plain(found)}"]
        for (data, px), found in differences(rows).items()
    ]
    return markdown(["photographs", "px", "scaled - whole"], told)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, and print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=pathlib.Path, nargs="+", help="folders of train/<class> and test/<class>")
    parser.add_argument("--frames", type=int, nargs="+", default=[32, 20], help="sides in pixels")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--model", default="cifar_resnet8")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("-b", "--batch-size", type=int, default=64)
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS / "scaled-decoding" / "accuracy.csv")
    options = parser.parse_args(arguments)
    append_rows(options.out, KEY, lambda done: measure(options, done))
    print(summary(load_table(options.out)))


if __name__ == "__main__":
    main()
