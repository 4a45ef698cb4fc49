"""The five caches of the leaderboard, and the targets that some of its methods read, made from the archives.

    OMP_NUM_THREADS=1 python -m benchmarks.fewshot.stores DATA TEACHERS --out STORES

DATA has cifar10-train.tar.xz and cifar10-test.tar.xz (class folders of NNNN.jpg), flowers5.tar and pbc8.tar (train/ and test/);
TEACHERS has the two teachers' weights; README.md has their digests. Of CIFAR-10, 1,000 training and 500 test images a class are drawn by
a hash of their names (`tcs.splits.ranking`). Two processes, about six minutes; what is there is checked and left alone. It ends by
naming the stores and targets that are not those of the committed rows, to which nothing can be added from them.
NAME-train.store, NAME-test.store, and NAME-pca.h5 and NAME-jl.h5 with their coordinates.
"""

import argparse
import json
import pathlib
import posixpath
import shutil
import tarfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

import cache
import tcs
from tcs.demonstration.digits import write_digits
from tcs.splits.ranking import best_ranked

SPLITS = ("train", "test")
CIFAR_IMAGES = {"train": 1000, "test": 500}  # a class
AXES = ("pca", "jl")  # methods of the coordinates
COMMITTED = pathlib.Path(__file__).parents[1] / "results" / "leaderboard" / "ledger.json"
COMPONENTS = 128
SIMCLR: dict[str, Any] = {
    "teacher": "resnet18",
    "teacher_kwargs": {"layers": (1, 1, 1, 1)},
    "img_size": 64,
    "interpolation": "bilinear",
    "crop_pct": 1.0,
    "mean": (0.4914, 0.4822, 0.4465),
    "std": (0.2470, 0.2435, 0.2616),
}
LITE2: dict[str, Any] = {"teacher": "tf_efficientnet_lite2.in1k", "img_size": 160, "crop_pct": 1.0}
WEIGHTS = {"resnet18": "resnet10_simclr_cifar10.safetensors", LITE2["teacher"]: "tf_efficientnet_lite2.safetensors"}
EMBEDDED = pathlib.Path(tcs.__file__).parent / "embedded" / "digits_teacher.json"  # the card of the demo's teacher
CACHES: dict[str, dict[str, Any]] = {  # and digits, the demo's, with its teacher
    "cifar10-simclr": SIMCLR,
    "cifar10-lite2": LITE2 | {"img_size": 96},
    "flowers5": LITE2,
    "pbc8": LITE2,
}


def main(given: list[str] | None = None) -> None:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("teachers", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args(given)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for split, images in CIFAR_IMAGES.items():  # once, for the caches of both teachers
        draw(arguments.data / f"cifar10-{split}.tar.xz", arguments.out / f"cifar10-{split}", images)
    with ProcessPoolExecutor(arguments.jobs) as pool:
        started = [
            pool.submit(make_cache, name, arguments.data, arguments.teachers, arguments.out)
            for name in ("cifar10-lite2", "pbc8", "flowers5", "cifar10-simclr", "digits")
        ]
        for one in started:
            one.result()
    others = not_as_committed(arguments.out)
    print(
        f"other than those of the committed rows: {', '.join(others)}" if others else "the stores of the committed rows"
    )


def make_cache(name: str, data: pathlib.Path, teachers: pathlib.Path, out: pathlib.Path) -> None:
    """Both stores of one data set, and its targets."""
    for split in SPLITS:
        options = extraction_of(name, split, data, teachers, out)
        tcs.extract(**options, out=out / f"{name}-{split}.store", workers=0)
    train = out / f"{name}-train.store"
    for axes in AXES:
        coordinates = out / f"{name}-{axes}.safetensors"
        tcs.fit(train, method=axes, components=COMPONENTS, ceiling_shots=[4], out=coordinates)
        tcs.fit_targets(train, coordinates, out=out / f"{name}-{axes}.h5")


def not_as_committed(out: pathlib.Path, ledger: pathlib.Path = COMMITTED) -> list[str]:
    """Names of the stores and targets whose identities are not those of the committed rows."""
    names = []
    for name, part in json.loads(ledger.read_text(encoding="utf-8"))["datasets"].items():
        origin = part["origin"]
        found = {f"{name}-{split}.store": cache.open(out / f"{name}-{split}.store").identity for split in SPLITS}
        wanted = {f"{name}-{split}.store": origin[split] for split in SPLITS} | origin["targets"]
        found |= {file: tcs.open_targets(out / file).identity for file in origin["targets"]}
        names += [file for file, identity in wanted.items() if found[file] != identity]
    return names


def extraction_of(
    name: str, split: str, data: pathlib.Path, teachers: pathlib.Path, out: pathlib.Path
) -> dict[str, Any]:
    """Options of `tcs.extract`: the teacher, and the archive as it is or the folder of those of CIFAR-10 that are drawn."""
    if name == "digits":
        return {"data": write_digits(out / "digits") / split, "teacher_card": EMBEDDED}
    options = CACHES[name] | {"teacher_checkpoint": teachers / WEIGHTS[CACHES[name]["teacher"]]}
    if not name.startswith("cifar10"):
        return options | {"data": data / f"{name}.tar", "split": split}
    return options | {"data": out / f"cifar10-{split}"}


def draw(archive: pathlib.Path, folder: pathlib.Path, images: int) -> pathlib.Path:
    """`folder` with so many images of each class of an archive of class folders, drawn by a hash of CLASS/FILE; SystemExit where it holds
    others."""
    with tarfile.open(archive) as tar:
        members = {posixpath.normpath(one.name): one for one in tar if one.isfile()}
        drawn = _drawn(sorted(members), images)
        if folder.exists():
            if {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} != drawn:
                raise SystemExit(f"{folder} holds other images than are drawn; move it away.")
            return folder
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        tar.extractall(partial, members=[members[key] for key in sorted(drawn)], filter="data")
    partial.replace(folder)
    return folder


def _drawn(keys: Sequence[str], images: int) -> set[str]:
    classes = np.array([key.split("/")[0] for key in keys])
    return {
        keys[row]
        for one in sorted(set(classes.tolist()))
        for row in best_ranked(np.flatnonzero(classes == one), keys, f"leaderboard {one}", 0, images)
    }


if __name__ == "__main__":
    main()
