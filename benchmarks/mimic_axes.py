"""Do the axes matter to a mimic loss? One small student, no labels in training: {PCA, random axes} x K x {L2, eLSH} x power.

    python benchmarks/mimic_axes.py TRAIN.store TEST.store --out benchmarks/results/mimic_axes.csv

Prints the plan first; reruns go on where the CSV ends. 10,000 training images (a seeded sample), 800 steps of 128 images,
AdamW 2e-3 with cosine, crop and flip. Labels score only: a ridge probe of the student's z (clean view), fitted on the 10,000
training images, or on 16 of them per class (mean of 5 splits), and scored on all test images; `moved` is the ridge probe of
the *teacher's* coordinates of the 16 shots, applied to the student's z. Teacher columns: the same probes on cached z.
Legend: N rows, K coordinates, H hash bits, D teacher dims.
"""

import argparse
import dataclasses
import pathlib
import tempfile
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import cache
from tcs.artefact import teacher_identity_of
from tcs.config.coordinates import TargetsConfig
from tcs.config.train import TrainConfig
from tcs.coordinates.build import fit_coordinates
from tcs.coordinates.system import save_coordinates
from tcs.coordinates.targets import Targets, fit_targets, open_targets
from tcs.images.stored import decode_rows
from tcs.methods.named import TRAINED, Method
from tcs.plain_files import load_table, save_table
from tcs.probes.ridge import fit_ridge
from tcs.runtime import environment, progress_bar
from tcs.splits.held_out import nothing_held_out
from tcs.splits.pool import pool_rows
from tcs.splits.shots import k_shot_split, without_labels
from tcs.students.backbone import parse_student
from tcs.training.data import hash_planes
from tcs.training.feed import Feed, showing_of
from tcs.training.images import ResidentImages
from tcs.training.jobs import Job, RunRows
from tcs.training.loop import Pace, Runner, train_students
from tcs.training.rows import TrainingRows
from tcs.training.trainer import EVAL_BATCH, Trainer

SPLIT_SEEDS = range(5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """Stores, images and the run's numbers."""

    train: cache.Store
    test: cache.Store
    rows_n: NDArray[np.int64]
    train_images: torch.Tensor
    test_images: torch.Tensor
    student: str
    steps: int
    batch_size: int
    size: int
    work: pathlib.Path


def main() -> None:
    """Run the combinations that the CSV lacks."""
    arguments = parse_arguments()
    dims = cache.open(arguments.train).features().shape[1]
    sizes = sorted({min(size, dims) for size in (32, 128, dims)})
    plan = [
        {"method": method, "K": size, "power": power, "loss": loss, "seed": seed}
        for seed in range(arguments.seeds)
        for method in ("pca", "random")
        for size in sizes
        for power in (0.0, 0.5)
        for loss in ("l2", "elsh")
    ]
    rows = load_table(arguments.out)
    todo = [entry for entry in plan if not any(all(row[key] == str(entry[key]) for key in entry) for row in rows)]
    print(f"{len(plan)} runs of {arguments.steps} x {arguments.batch_size} images; {len(todo)} to go.", flush=True)
    bench = open_bench(arguments)
    for entry in todo:
        rows.append(entry | run(bench, entry) | {"commit": environment()["commit"]})
        save_table(arguments.out, rows)
        print(rows[-1], flush=True)


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("train", type=pathlib.Path)
    parser.add_argument("test", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--student", default="resnet18,layers=(1,1,1,1),channels=(32,64,128,256)")
    parser.add_argument("--images", type=int, default=10000)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--img-size", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=1)
    return parser.parse_args()


def open_bench(arguments: argparse.Namespace) -> Bench:
    """Open the stores, choose the training images, decode."""
    train, test = cache.open(arguments.train), cache.open(arguments.test)
    rows_n = pool_rows(train.keys, np.empty(0, np.int64), str(arguments.images), split_seed=0)
    return Bench(
        train=train,
        test=test,
        rows_n=rows_n,
        train_images=decode_rows(train, rows_n, arguments.img_size),
        test_images=decode_rows(test, np.arange(len(test)), arguments.img_size),
        student=arguments.student,
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        size=arguments.img_size,
        work=pathlib.Path(tempfile.mkdtemp(prefix="mimic-axes-")),
    )


def run(bench: Bench, entry: dict[str, Any]) -> dict[str, Any]:
    """Train one student and score its z."""
    targets = make_targets(bench, entry)
    trainer = make_trainer(bench, entry, targets)
    started = time.perf_counter()
    with progress_bar(bench.steps, f"{entry['method']} K={entry['K']}", "steps") as bar:
        job = trainer.job
        images = ResidentImages(bench.train_images)
        feed = Feed(images, trainer.rows.labelled_m, job.stages, showing_of(job.config, job.size))
        runner = Runner(trainer=trainer, folder=None)
        train_students(feed, [runner], bar, Pace(log=bench.steps, save=bench.steps, look=bench.steps))
    seconds = time.perf_counter() - started
    student_train, student_test = (
        coordinates_of(trainer, images) for images in (bench.train_images, bench.test_images)
    )
    test_z = targets.coordinates.transform(bench.test.features()[:].astype(np.float32))
    train_z = targets.coordinates_rows(bench.rows_n)
    scores = score(bench, student_train, student_test, train_z)
    ceiling = score(bench, train_z, test_z, train_z)
    return {
        **{f"student_{name}": value for name, value in scores.items()},
        **{f"teacher_{name}": value for name, value in ceiling.items() if name != "moved_16"},
        "train_seconds": round(seconds, 1),
    }


def make_targets(bench: Bench, entry: dict[str, Any]) -> Targets:
    """Coordinates and hash bits of the training store for one combination (kept in a scratch folder for reuse)."""
    name = f"{entry['method']}-{entry['K']}-{entry['power']}"
    path = bench.work / f"{name}.h5"
    if not path.exists():
        system = fit_coordinates(
            bench.train.features(),
            method=entry["method"],
            components=entry["K"],
            power=entry["power"],
            seed=0,
            store_identity=bench.train.identity,
            teacher_identity=teacher_identity_of(bench.train),
            readout=next(iter(bench.train.readouts)),
        )
        save_coordinates(bench.work / f"{name}.safetensors", system)
        fit_targets(
            TargetsConfig(
                store=str(bench.train.path), coordinates=str(bench.work / f"{name}.safetensors"), out=str(path)
            )
        )
    return open_targets(path, bench.train.identity)


def make_trainer(bench: Bench, entry: dict[str, Any], targets: Targets) -> Trainer:
    """A trainer without labels: no loss reads its classifier."""
    job = Job(
        spec=parse_student(bench.student),
        config=TrainConfig(store="", out="", models=(bench.student,), batch_size=bench.batch_size, seed=entry["seed"]),
        method=Method(head="tcs", loss=entry["loss"], classifier=TRAINED),
        rows=RunRows(split=without_labels(), rows_n=bench.rows_n, held_out=nothing_held_out("nothing is watched.")),
        steps=bench.steps,
        size=bench.size,
        classes=tuple(bench.train.classes),
        components=entry["K"],
        planes=hash_planes(targets),
    )
    rows = TrainingRows(
        labels_n=torch.full((len(bench.rows_n),), -1),
        labelled_m=torch.empty(0, dtype=torch.int64),
        coordinates_nK=torch.as_tensor(targets.coordinates_rows(bench.rows_n)),
        packed_nP=torch.as_tensor(targets.bits_rows(bench.rows_n)),
    )
    return Trainer(job, rows, torch.device("cpu"))


@torch.no_grad()
def coordinates_of(trainer: Trainer, images: torch.Tensor) -> NDArray[np.float32]:
    """The student's z (N, K) of clean images."""
    trainer.student.eval()
    parts = [trainer.student(trainer.normalised(part)).z_BK for part in torch.split(images, EVAL_BATCH)]
    return torch.cat([part for part in parts if part is not None]).numpy()


def score(bench: Bench, train_z: NDArray[Any], test_z: NDArray[Any], teacher_z: NDArray[Any]) -> dict[str, float]:
    """Probe accuracies in percent; `moved_16` fits on the teacher's coordinates and scores `test_z`."""
    labels_n, test_labels, n_classes = bench.train.labels_N[bench.rows_n], bench.test.labels_N, len(bench.train.classes)
    keys = [bench.train.keys[row] for row in bench.rows_n]
    own, moved = [], []
    for split_seed in SPLIT_SEEDS:
        split = k_shot_split(keys, labels_n, bench.train.classes, 16, split_seed)
        shot_labels = labels_n[split.rows_n]
        own.append(fit_ridge(train_z[split.rows_n], shot_labels, n_classes).accuracy(test_z, test_labels))
        moved.append(fit_ridge(teacher_z[split.rows_n], shot_labels, n_classes).accuracy(test_z, test_labels))
    return {
        "probe_all": round(fit_ridge(train_z, labels_n, n_classes).accuracy(test_z, test_labels), 2),
        "probe_16": round(float(np.mean(own)), 2),
        "moved_16": round(float(np.mean(moved)), 2),
    }


if __name__ == "__main__":
    main()
