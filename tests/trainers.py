"""Trainers of one small student on made-up rows, and the loop around them. Legend: n rows, K coordinates, H hash bits, C classes."""

import dataclasses
import os
import pathlib
import signal

import numpy as np
import torch

from tcs.config.augment import AugmentPolicy
from tcs.config.optimiser import OptimiserConfig
from tcs.functional.coordinates import HashPlanes
from tcs.methods.named import METHODS
from tcs.students.backbone import parse_student
from tcs.students.student import StudentPlan, build_student
from tcs.training.feed import Feed, Showing
from tcs.training.images import ResidentImages
from tcs.training.loop import Outcome, Pace, Runner, train_students
from tcs.training.probe_start import Probe
from tcs.training.recipe import Recipe, plan_stages
from tcs.training.rows import TrainingRows
from tcs.training.trainer import Surroundings, Trainer

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"
N, K, H, C, SIZE = 48, 6, 16, 3, 16
AUGMENTED = AugmentPolicy(crop="pad", padding=2, hflip=0.5)
PACE = Pace(log=1, save=5, look=100)
OPTIMISER = [field.name for field in dataclasses.fields(OptimiserConfig)]


class CountingBar:
    """Counts steps; can end the process's patience at one of them."""

    def __init__(self, interrupt_at: int | None = None) -> None:
        self.steps, self.interrupt_at = 0, interrupt_at

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
    )


def images() -> torch.Tensor:
    return torch.randint(0, 256, (N, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def make(
    method: str, *, student: str = STUDENT, steps: int = 12, data: TrainingRows | None = None, **recipe: object
) -> Trainer:
    chosen = METHODS[method]
    generator = torch.Generator().manual_seed(1)
    plan = StudentPlan(
        spec=parse_student(student),
        n_classes=0 if chosen.head == "none" else C,
        components=K,
        reads_coordinates=chosen.head == "tcs",
        image_size=SIZE,
        pretrained=False,
        seed=5,
    )
    around = Surroundings(
        planes=HashPlanes(
            rotation_HK=torch.randn(H, K, generator=generator), thresholds_H=torch.zeros(H), rms_H=torch.ones(H)
        ),
        probe=Probe(weight_CK=np.eye(C, K), bias_C=np.arange(C, dtype=np.float64), active_k=np.array([0, 1, 2, 4])),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        device=torch.device("cpu"),
    )
    optimiser = OptimiserConfig(**{name: recipe.pop(name) for name in list(recipe) if name in OPTIMISER})
    settings = {"batch_size": 8, "seed": 5} | recipe
    made = Recipe(method=chosen, steps=steps, optimiser=optimiser, **settings)
    return Trainer(build_student(plan), data or rows(), made, around, student)


def feed_of(trainer: Trainer, policy: AugmentPolicy = AUGMENTED) -> Feed:
    recipe, labelled_m = trainer.recipe, trainer.rows.labelled_m
    showing = Showing(size=SIZE, policy=policy, mixing=None, clean_pool=recipe.mimic_view == "clean", seed=recipe.seed)
    return Feed(ResidentImages(images()), labelled_m, plan_stages(recipe, len(labelled_m), N), showing)


def run(
    trainer: Trainer,
    folder: pathlib.Path | None = None,
    bar: CountingBar | None = None,
    policy: AugmentPolicy = AUGMENTED,
) -> Outcome:
    runner = Runner(trainer=trainer, folder=folder, fingerprint="fingerprint")
    (outcome,) = train_students(feed_of(trainer, policy), [runner], bar or CountingBar(), PACE)
    if runner.failure is not None:
        raise runner.failure
    return outcome


def one_step(trainer: Trainer, feed: Feed | None = None) -> None:
    feed = feed or feed_of(trainer)
    trainer.train_step(feed, feed.batch(trainer.step))


def same(one: Trainer, other: Trainer) -> bool:
    first, second = one.student.state_dict(), other.student.state_dict()
    return all(torch.equal(first[key], second[key]) for key in first)
