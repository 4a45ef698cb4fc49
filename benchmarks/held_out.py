"""Do the numbers of held-out rows tell a student that learns from its teacher from one that does not?

    python benchmarks/held_out.py students TRAIN.store GRID --out benchmarks/results/held_out/students.csv
    python benchmarks/held_out.py trace TRAIN.store TARGETS.h5 --out benchmarks/results/held_out/trace.csv --steps 400

`students` scores every finished student of a few-shot grid (GRID/results.csv and GRID/runs, one student and split), the same
student before training, and the teacher, on rows outside all runs; the spread is over five draws of them. Their labels are read
for `knn_top1` alone: this checks the numbers, no student is trained or chosen by it. `trace` trains the method `tcs-probe`
twice and scores as it goes: once as it should be, once with targets that belong to other rows (the silent failure of a cache that
is out of step). Legend: N held-out rows, n rows of a run, S student dims.
"""

import argparse
import csv
import dataclasses
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import cache
from tcs.augmentation.pixels import normalise
from tcs.config.train import TrainConfig
from tcs.distributed.collectives import ALONE
from tcs.images.stored import decode_rows
from tcs.inference.runs import FinishedStudent, load_student
from tcs.methods.named import METHODS
from tcs.plain_files import save_table
from tcs.runtime import environment
from tcs.splits.held_out import held_out_rows
from tcs.students.backbone import parse_student, pre_logits
from tcs.students.student import Student, StudentPlan, build_student, normalisation
from tcs.training.data import RunData, open_data
from tcs.training.feed import Feed
from tcs.training.jobs import Job, choose_rows, plan_jobs
from tcs.training.monitor import Monitor
from tcs.training.stream import open_streams
from tcs.training.trainer import EVAL_BATCH, Trainer

DRAWS = range(5)
UNTRAINED_SEEDS = range(3)
NAME = re.compile(r"[^A-Za-z0-9_.]+")
Array = NDArray[np.floating[Any]]
Features = Callable[[Monitor], Array]


def main(given: list[str] | None = None) -> None:
    """Write the CSV of one part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("part", choices=("students", "trace"))
    parser.add_argument("store", type=pathlib.Path)
    parser.add_argument("other", type=pathlib.Path, help="GRID or TARGETS.h5")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--student", default="resnet18,layers=(1,1,1,1),channels=(16,32,48,64),output_stride=8")
    parser.add_argument("--img-size", type=int, default=32)
    parser.add_argument("--held-out", type=int)
    parser.add_argument("--unlabelled", default="10000")
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--steps", type=int, default=400)
    arguments = parser.parse_args(given)
    found, commit = [], environment()["commit"]
    for row in (students if arguments.part == "students" else trace)(arguments):
        found.append(row | {"commit": commit})
        save_table(arguments.out, found)
        print(row, flush=True)


def students(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row a student: means and standard deviations over the draws."""
    store = cache.open(arguments.store)
    finished = list(finished_students(arguments.other))
    run_rows_n = np.unique(np.concatenate([rows_of(store, student) for _, student, _ in finished]))
    monitors = [watch(store, run_rows_n, arguments, seed) for seed in DRAWS]
    for name, features, more in [
        *teachers(store, run_rows_n, arguments),
        *((f"untrained, seed {seed}", untrained(arguments, seed), {}) for seed in UNTRAINED_SEEDS),
        *((name, finished_features(student), {"test_top1": top1}) for name, student, top1 in finished),
    ]:
        yield {"student": name} | spread([monitor.score(features(monitor)) for monitor in monitors]) | more


def teachers(
    store: cache.Store, rows_n: NDArray[np.int64], arguments: argparse.Namespace
) -> Iterator[tuple[str, Features, dict[str, str]]]:
    """The teacher, and its first components on the run's rows, as many as the student has dims: the most that it can hold."""
    width = build(arguments, 0).width
    features_nD = store.features("avg", resident_bytes=0).gather(rows_n).astype(np.float64)
    axes_DS = np.linalg.eigh(np.cov(features_nD.T))[1][:, -width:]
    yield "teacher", lambda monitor: monitor.teacher_ND, {}
    yield f"teacher, {width} components", lambda monitor: monitor.teacher_ND @ axes_DS, {}


def finished_students(grid: pathlib.Path) -> Iterator[tuple[str, FinishedStudent, str]]:
    """(label, student, test accuracy) of the grid's finished cells."""
    with (grid / "results.csv").open(newline="") as file:
        cells = [row for row in csv.DictReader(file) if row["status"] == "ok" and row["model"] != "teacher"]
    for row in cells:
        name = NAME.sub("-", "_".join(row[key] for key in ("method", "shots", "seed", "unlabelled"))).strip("-")
        (folder,) = (path.parent for path in (grid / "runs" / name).glob("*/config.json"))
        yield row["method"], load_student(folder), row["top1"]


def rows_of(store: cache.Store, student: FinishedStudent) -> NDArray[np.int64]:
    """The rows that a finished student was trained on."""
    config = TrainConfig.from_options(student.record["config"] | {"held_out": 0})
    method = dataclasses.replace(METHODS["labels"], uses_pool=student.record["method"]["uses_pool"])
    return choose_rows(config, store, method).rows_n


def watch(store: cache.Store, run_rows_n: NDArray[np.int64], arguments: argparse.Namespace, seed: int) -> Monitor:
    """The rows of one draw, outside the run, with the teacher's features and the labels."""
    held = held_out_rows(store.keys, run_rows_n, run_rows_n, arguments.held_out, seed)
    return Monitor(
        images_N3HW=decode_rows(store, held.rows_N, arguments.img_size),
        teacher_ND=store.features("avg", resident_bytes=0).gather(held.rows_N),
        labels_N=store.labels_N[held.rows_N].astype(np.int64),
    )


def build(arguments: argparse.Namespace, seed: int) -> Student:
    """The student as a run of this seed starts it."""
    plan = StudentPlan(
        spec=parse_student(arguments.student),
        n_classes=10,
        components=None,
        reads_coordinates=False,
        image_size=arguments.img_size,
        pretrained=False,
        seed=seed,
    )
    return build_student(plan)


def untrained(arguments: argparse.Namespace, seed: int) -> Features:
    """Features of a student before its first step."""
    backbone = build(arguments, seed).backbone
    return model_features(backbone, *normalisation(backbone))


def finished_features(student: FinishedStudent) -> Features:
    """Features of a finished student."""
    details = student.record["student"]
    return model_features(student.model, details["mean"], details["std"])


def model_features(model: nn.Module, mean: Any, std: Any) -> Features:
    """Features of clean images, normalised as the student wants them."""
    mean_311, std_311 = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
    return lambda monitor: features_of(model, lambda part: normalise(part, mean_311, std_311), monitor)


@torch.no_grad()
def features_of(model: nn.Module, prepare: Callable[[Tensor], Tensor], monitor: Monitor) -> Array:
    """Features (N, S) float32 of the held-out images in evaluation mode."""
    parts = torch.split(monitor.images_N3HW, EVAL_BATCH)
    return torch.cat([pre_logits(model.eval(), prepare(part)) for part in parts]).numpy()


def spread(scores: list[dict[str, float]]) -> dict[str, float]:
    """Mean and standard deviation of every column."""
    row: dict[str, float] = {}
    for name in scores[0]:
        values = [score[name] for score in scores]
        row |= {name: round(float(np.mean(values)), 4), f"{name}_sd": round(float(np.std(values, ddof=1)), 4)}
    return row


def trace(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row a tenth of a run: the loss since the row before, and the held-out numbers."""
    with tempfile.TemporaryDirectory(prefix="held-out-") as folder:
        config = TrainConfig(
            store=str(arguments.store),
            targets=str(arguments.other),
            out=str(pathlib.Path(folder) / "run"),
            models=(arguments.student,),
            method="tcs-probe",
            shots=arguments.shots,
            unlabelled=arguments.unlabelled,
            steps=arguments.steps,
            img_size=arguments.img_size,
            seed=0,
            held_out=0,
        )
        data = open_data(config.store, config.targets)
        (job,) = plan_jobs(config, data)
        monitor = dataclasses.replace(watch(data.store, job.rows.rows_n, arguments, 0), labels_N=None)
        for targets in ("its own", "of other rows"):
            yield from ({"targets": targets} | row for row in trace_one(job, data, monitor, targets == "its own"))


def trace_one(job: Job, data: RunData, monitor: Monitor, in_step: bool) -> Iterator[dict[str, Any]]:
    """One run, scored before its first step and ten times after."""
    (stream,) = open_streams([job], data, torch.device("cpu"), ALONE)
    (trainer,) = stream.trainers
    if not in_step:
        assert trainer.rows.coordinates_nK is not None
        order = torch.randperm(len(trainer.rows.coordinates_nK), generator=torch.Generator().manual_seed(0))
        mixed_nK = trainer.rows.coordinates_nK[order]
        trainer.rows = dataclasses.replace(trainer.rows, coordinates_nK=mixed_nK)
    yield {"step": 0, "loss": ""} | score_now(trainer, monitor)
    interval = max(1, trainer.job.steps // 10)
    with stream.feed() as feed:
        while trainer.step < feed.steps:
            losses = [_step(trainer, feed) for _ in range(min(interval, feed.steps - trainer.step))]
            yield {"step": trainer.step, "loss": round(float(np.mean(losses)), 4)} | score_now(trainer, monitor)


def _step(trainer: Trainer, feed: Feed) -> float:
    trainer.train_step(feed, feed.batch(trainer.step))
    return trainer.watch.last["loss"]


def score_now(trainer: Trainer, monitor: Monitor) -> dict[str, float]:
    """The monitor's columns for the student as it is."""
    return monitor.score(features_of(trainer.student.backbone, trainer.normalised, monitor))


if __name__ == "__main__":
    main()
