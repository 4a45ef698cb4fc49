"""Cost of every loss per step (forward and backward), beside a ResNet-18 training step at 224 px on the same device.

    python benchmarks/losses.py --out benchmarks/results/losses.csv [--device cuda] [--batch-size 256] [--repeats 5]

Student 512-d and its last three maps at 224 px, teacher 768-d and three maps of a quarter of that area's positions, 1000
classes, 256 coordinates, 1024 bits, a run of 50,000 rows. Losses take turns (A B C A B C ...); the median counts. Writes
the CSV and tcs/embedded/loss_costs.json, which `tcs methods` shows.
"""

import argparse
import json
import pathlib
import statistics
import time
from collections.abc import Callable, Sequence

import timm
import torch
import torch.nn.functional as F  # noqa: N812

from tcs.criteria.base import Criterion, LinearHead, Setting, StepRows
from tcs.criteria.losses import LOSSES, build_criteria
from tcs.criteria.terms import parse_loss
from tcs.functional.coordinates import HashPlanes
from tcs.methods.catalogue import COSTS
from tcs.plain_files import save_json, save_table
from tcs.runtime import environment, pick_device

STUDENT_DIMS, TEACHER_DIMS, CLASSES, COORDINATES, BITS, RUN_ROWS = 512, 768, 1000, 256, 1024, 50_000
STUDENT_MAPS = ((128, 28, 28), (256, 14, 14), (512, 7, 7))
TEACHER_MAPS = ((192, 28, 28), (384, 14, 14), (768, 7, 7))


def make_setting(device: torch.device) -> Setting:
    """A setting as a run on ImageNet-sized images would have it."""
    planes = HashPlanes(
        rotation_HK=torch.randn(BITS, COORDINATES, device=device),
        thresholds_H=torch.zeros(BITS, device=device),
        rms_H=torch.ones(BITS, device=device),
    )
    return Setting(
        student_dims=STUDENT_DIMS,
        classes=CLASSES,
        rows=RUN_ROWS,
        seed=0,
        teacher_nD=torch.randn(RUN_ROWS, TEACHER_DIMS).half(),
        student_maps=STUDENT_MAPS,
        teacher_maps=TEACHER_MAPS,
        planes=planes,
    )


def make_rows(batch: int, device: torch.device) -> StepRows:
    """Random rows of a step: the student's with gradients, the cached ones in the dtypes of a store."""

    def student(*shape: int) -> torch.Tensor:
        return torch.randn(batch, *shape, device=device).requires_grad_()

    def cached(*shape: int) -> torch.Tensor:
        return torch.randn(batch, *shape, device=device).half()

    return StepRows(
        logits_BC=student(CLASSES),
        second_BC=student(CLASSES),
        head=LinearHead(
            weight_CS=cached(STUDENT_DIMS)[:1].float().expand(CLASSES, -1), bias_C=cached(CLASSES)[0].float()
        ),
        features_BS=student(STUDENT_DIMS),
        z_BK=student(COORDINATES),
        student_maps=tuple(student(*shape) for shape in STUDENT_MAPS),
        labels_B=torch.randint(0, CLASSES, (batch,), device=device),
        coordinates_BK=cached(COORDINATES).float(),
        bits_BH=(cached(BITS) > 0).to(torch.uint8),
        teacher_BD=cached(TEACHER_DIMS),
        teacher_maps=tuple(cached(*shape) for shape in TEACHER_MAPS),
        teacher_logits_BC=cached(CLASSES).float(),
        pool_labels_BC=torch.softmax(cached(CLASSES).float(), dim=1),
        place_B=torch.randperm(RUN_ROWS)[:batch].to(device),
    )


def seconds_of(step: Callable[[], None], device: torch.device) -> float:
    """Wall seconds of one call, the device drained before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def loss_step(criterion: Criterion, rows: StepRows) -> Callable[[], None]:
    """Forward and backward of one loss."""

    def step() -> None:
        criterion(rows).backward()

    return step


def student_step(batch: int, device: torch.device) -> Callable[[], None]:
    """A training step of ResNet-18 at 224 px with cross-entropy: forward, backward, optimiser."""
    model = timm.create_model("resnet18", num_classes=CLASSES).to(device).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images_B3HW = torch.randn(batch, 3, 224, 224, device=device)
    labels_B = torch.randint(0, CLASSES, (batch,), device=device)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(model(images_B3HW), labels_B).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-b", "--batch-size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--student-repeats", type=int, default=3)
    args = parser.parse_args(argv)
    device = pick_device(args.device)
    setting, rows = make_setting(device), make_rows(args.batch_size, device)
    criteria = {name: build_criteria(parse_loss(name), setting).to(device)[name] for name in LOSSES}
    steps = {name: loss_step(criterion, rows) for name, criterion in criteria.items()}  # type: ignore[arg-type]
    student = student_step(args.batch_size, device)
    for step in (*steps.values(), student):
        step()  # unmeasured: allocations, algorithm choice
    student_seconds = [seconds_of(student, device) for _ in range(args.student_repeats)]
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(args.repeats):
        for name, step in steps.items():
            taken[name].append(seconds_of(step, device))
    base = statistics.median(student_seconds)
    table = [_row(name, seconds, base) for name, seconds in taken.items()]
    table.append(
        {"loss": "(ResNet-18 step, 224 px)", "ms": round(1000 * base, 1), "percent": 100.0} | _spread(student_seconds)
    )
    save_table(args.out, table)
    facts = {"batch_size": args.batch_size, "device": args.device, "environment": environment()}
    save_json(
        pathlib.Path(str(COSTS)), facts | {"percent_of_a_step": {row["loss"]: row["percent"] for row in table[:-1]}}
    )
    print(json.dumps(facts))
    print("\n".join(f"| {row['loss']} | {row['ms']} | {row['percent']} |" for row in table))


def _row(name: str, seconds: list[float], base: float) -> dict[str, object]:
    middle = statistics.median(seconds)
    return {"loss": name, "ms": round(1000 * middle, 2), "percent": round(100 * middle / base, 2)} | _spread(seconds)


def _spread(seconds: list[float]) -> dict[str, object]:
    return {"n": len(seconds), "ms_least": round(1000 * min(seconds), 2), "ms_most": round(1000 * max(seconds), 2)}


if __name__ == "__main__":
    main()
