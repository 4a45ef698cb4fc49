"""Trainers of one small student on made-up rows, and the loop around them. Legend: n rows, K coordinates, H hash bits, C classes."""

import dataclasses
import os
import pathlib
import signal

import numpy as np
import torch

from tcs.config.augment import AugmentConfig
from tcs.config.train import TrainConfig
from tcs.functional.coordinates import HashPlanes
from tcs.methods.named import METHODS
from tcs.splits.held_out import nothing_held_out
from tcs.splits.shots import Split
from tcs.students.backbone import parse_student
from tcs.training.feed import Feed, showing_of
from tcs.training.images import ResidentImages
from tcs.training.jobs import Job, RunRows
from tcs.training.loop import Cost, Pace, Runner, train_students
from tcs.training.probe_start import Probe
from tcs.training.rows import TrainingRows
from tcs.training.trainer import Trainer

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"
N, K, H, C, SIZE = 48, 6, 16, 3, 16
UNCHANGED = AugmentConfig(crop_padding=0.0, hflip=0.0)
PACE = Pace(log=1, save=5, look=100)


class CountingBar:
    """Counts steps; can end the process's patience at one of them."""

    def __init__(self, interrupt_at: int | None = None) -> None:
        self.steps, self.interrupt_at = 0, interrupt_at
        self.begun: list[int] = []

    def begin_at(self, done: int) -> None:
        self.begun.append(done)
        self.steps = done

    def advance(self, amount: int, note: str = "") -> None:
        self.steps += amount
        if self.steps == self.interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)


def rows() -> TrainingRows:
    generator = torch.Generator().manual_seed(0)
    bits_NH = torch.randint(0, 2, (N, H), generator=generator).numpy().astype(np.uint8)
    labels_n = torch.full((N,), -1)
    labels_n[:12] = torch.arange(12) % C
    return TrainingRows(
        labels_n=labels_n,
        labelled_m=torch.arange(12),
        coordinates_nK=torch.randn(N, K, generator=generator),
        packed_nP=torch.from_numpy(np.packbits(bits_NH, axis=1, bitorder="little")),
        teacher_nD=torch.randn(N, 10, generator=generator),
        pool_labels_nC=torch.randn(N, C, generator=generator).softmax(1),
        teacher_logits_nC=2 * torch.randn(N, C, generator=generator),
    )


def images() -> torch.Tensor:
    return torch.randint(0, 256, (N, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def make(
    method: str, *, student: str = STUDENT, steps: int = 12, data: TrainingRows | None = None, **options: object
) -> Trainer:
    """A trainer of `method` on the rows above, 12 of which are labelled; `options` are those of `tcs train`."""
    chosen, generator = METHODS[method], torch.Generator().manual_seed(1)
    named = {"store": "", "out": "", "models": (student,), "batch_size": 8, "seed": 5}
    job = Job(
        spec=parse_student(student),
        config=TrainConfig.from_options(named | options),
        method=chosen,
        rows=RunRows(
            split=Split(rows_n=np.arange(12), shots=4, split_seed=None, digest="made-up"),
            rows_n=np.arange(N),
            held_out=nothing_held_out("nothing is watched."),
        ),
        steps=steps,
        size=SIZE,
        classes=() if chosen.head == "none" else tuple("abc"[:C]),
        components=K,
        probe=Probe(weight_CK=np.eye(C, K), bias_C=np.arange(C, dtype=np.float64), active_k=np.array([0, 1, 2, 4])),
        planes=HashPlanes(
            rotation_HK=torch.randn(H, K, generator=generator), thresholds_H=torch.zeros(H), rms_H=torch.ones(H)
        ),
        identity={"run": "made-up"},
    )
    return Trainer(job, data or rows(), torch.device("cpu"))


def feed_of(trainer: Trainer, augment: AugmentConfig | None = None) -> Feed:
    """The batches of a trainer, augmented as its options say, or by `augment`."""
    job = trainer.job
    config = job.config if augment is None else dataclasses.replace(job.config, augment=augment)
    return Feed(ResidentImages(images()), trainer.rows.labelled_m, job.stages, showing_of(config, SIZE))


def run(
    trainer: Trainer,
    folder: pathlib.Path | None = None,
    bar: CountingBar | None = None,
    augment: AugmentConfig | None = None,
) -> Cost:
    runner = Runner(trainer=trainer, folder=folder)
    (cost,) = train_students(feed_of(trainer, augment), [runner], bar or CountingBar(), PACE)
    if runner.failure is not None:
        raise runner.failure
    return cost


def one_step(trainer: Trainer, feed: Feed | None = None) -> None:
    feed = feed or feed_of(trainer)
    trainer.train_step(feed, feed.batch(trainer.step))


def same(one: Trainer, other: Trainer) -> bool:
    first, second = one.student.state_dict(), other.student.state_dict()
    return all(torch.equal(first[key], second[key]) for key in first)
