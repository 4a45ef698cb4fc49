"""timm's own training, as its train.py does it: `create_loader` over a folder of JPEGs, and a `timm.task` for the loss.

    python -m benchmarks.timm_loop PHOTOS --model resnet18                                            # labels only
    python -m benchmarks.timm_loop PHOTOS --model resnet18 --teacher vit_small_patch14_dinov2          # online teacher
    python -m benchmarks.timm_loop PHOTOS --model resnet18 --teacher vit_small_patch14_dinov2 --task logit

Everything that trains here is timm's: dataset, loader, transforms, models, optimiser, `ClassificationTask`,
`FeatureDistillationTask` (`--kd-distill-type feature`: a linear layer to the teacher's width, mean squared error) and
`LogitDistillationTask` (`logit`). The teacher is frozen, has random weights (they cost the same time), and sees the student's
own augmented image at the same size. Where timm leaves a choice, it is the faster one for timm: no colour jitter, no
gradient clipping, no scheduler, no EMA, no checkpoints, and the loader that goes on between epochs.
"""

import argparse
import dataclasses
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import timm
import timm.data
import timm.optim
import timm.task
import torch

TASKS = {"feature": timm.task.FeatureDistillationTask, "logit": timm.task.LogitDistillationTask}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """What to train, on which JPEG folder (one sub-folder a class); sizes in pixels. `teacher` None: labels only."""

    data: pathlib.Path
    model: str
    teacher: str | None = None
    task: str = "feature"
    img_size: int = 224
    batch_size: int = 32
    workers: int = 2
    lr: float = 2e-3
    device: str = "cpu"
    channels_last: bool = False
    interpolation: str | None = None  # of boxes; None: as the model was trained


def endless(loader: Any) -> Iterator[Any]:
    """Epoch after epoch."""
    while True:
        yield from loader


class TimmLoop:
    """The loop, built and ready for its first step."""

    def __init__(self, config: LoopConfig) -> None:
        self.config, self.device = config, torch.device(config.device)
        self.layout = torch.channels_last if config.channels_last else torch.contiguous_format
        dataset = timm.data.create_dataset("", root=str(config.data), is_training=True)
        classes = len(dataset.reader.class_to_idx)
        student = timm.create_model(config.model, num_classes=classes)
        self.loader = self._make_loader(dataset, timm.data.resolve_data_config({}, model=student))
        self.task = self._make_task(student, classes).to(self.device).train()
        module = self.task.get_trainable_module().to(memory_format=self.layout)
        self.optimiser = timm.optim.create_optimizer_v2(module, opt="adamw", lr=config.lr, weight_decay=0.05)
        self.batches = endless(self.loader)

    def _make_loader(self, dataset: Any, data: dict[str, Any]) -> Any:
        return timm.data.create_loader(
            dataset,
            input_size=(3, self.config.img_size, self.config.img_size),
            batch_size=self.config.batch_size,
            is_training=True,
            color_jitter=0.0,
            interpolation=self.config.interpolation or data["interpolation"],
            mean=data["mean"],
            std=data["std"],
            num_workers=self.config.workers,
            device=self.device,
            use_prefetcher=self.device.type == "cuda",
            use_multi_epochs_loader=True,
        )

    def _make_task(self, student: torch.nn.Module, classes: int) -> Any:
        if self.config.teacher is None:
            return timm.task.ClassificationTask(student, device=self.device, verbose=False)
        teacher = timm.create_model(self.config.teacher, num_classes=classes, img_size=self.config.img_size)
        return TASKS[self.config.task](student, teacher.requires_grad_(False), device=self.device, verbose=False)

    def train_steps(self, steps: int) -> float:
        """Take so many steps and return their wall seconds, waiting for data included."""
        start = time.perf_counter()
        for _ in range(steps):
            images_B3HW, labels_B = next(self.batches)
            images_B3HW = images_B3HW.to(self.device, memory_format=self.layout)
            loss = self.task(images_B3HW, labels_B.to(self.device))["loss"]
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - start


def main(arguments: list[str] | None = None) -> None:
    """Train a while and print images/s."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--teacher")
    parser.add_argument("--task", choices=TASKS, default="feature")
    parser.add_argument("--img-size", type=int, default=224)
    parser.add_argument("-b", "--batch-size", type=int, default=32)
    parser.add_argument("-j", "--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--warm-up", type=int, default=2, help="steps before the clock starts")
    parser.add_argument("--steps", type=int, default=8)
    options = vars(parser.parse_args(arguments))
    warm_up, steps = options.pop("warm_up"), options.pop("steps")
    loop = TimmLoop(LoopConfig(**options))
    loop.train_steps(warm_up)
    seconds = loop.train_steps(steps)
    print(f"{steps * loop.config.batch_size / seconds:.1f} images/s, {1000 * seconds / steps:.0f} ms a step")


if __name__ == "__main__":
    main()
