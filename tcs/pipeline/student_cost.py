"""What a student of a chain will take, before there is a store: it is built as its run will build it, and a step is timed.

Legend: B rows of the timed batch.
"""

import dataclasses
import time

import torch

from tcs.config.train import TrainConfig
from tcs.methods.named import Method
from tcs.runtime import pick_device
from tcs.students.backbone import StudentSpec
from tcs.students.student import StudentPlan, build_student
from tcs.training.jobs import image_size
from tcs.training.phases import count_steps

TIMED_ROWS = 16
GUESSED_COMPONENTS = 64  # of a head that reads coordinates, which are not fitted yet


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudentCost:
    """One student: parameters in millions, steps, images a step, and minutes by a few steps on made-up images."""

    model: str
    parameters_m: float
    steps: int
    batch_size: int
    minutes: float


def student_cost(
    train: TrainConfig, spec: StudentSpec, method: Method, split_rows: int, rows: int, n_classes: int
) -> StudentCost:
    """Build the student as its run will, which proves that it can be; time a step of it on made-up images."""
    size = train.img_size or image_size(spec)
    student = build_student(
        StudentPlan(
            spec=spec,
            n_classes=n_classes if method.reads_labels else 0,
            components=GUESSED_COMPONENTS,
            reads_coordinates=method.head == "tcs",
            image_size=size,
            pretrained=train.pretrained,
            seed=train.seed,
            checkpoint=train.student_checkpoint,
        )
    )
    steps = count_steps(train, method, split_rows, rows if method.uses_pool else split_rows)
    seconds = _seconds_per_image(student, size, pick_device(train.device)) * train.batch_size
    return StudentCost(
        model=spec.text,
        parameters_m=round(sum(item.numel() for item in student.backbone.parameters()) / 1e6, 4),
        steps=steps,
        batch_size=train.batch_size,
        minutes=steps * seconds / 60,
    )


def _seconds_per_image(student: torch.nn.Module, size: int, device: torch.device) -> float:
    """Of a forward and a backward pass, the first one left out."""
    student.to(device).train()
    images_B3HW = torch.zeros(TIMED_ROWS, 3, size, size, device=device)
    for _ in range(2):
        started = time.perf_counter()
        output = student(images_B3HW)
        sum(item.float().mean() for item in output.tensors() if item.numel()).backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return (time.perf_counter() - started) / TIMED_ROWS
