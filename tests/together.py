"""Many students of one run: three architectures with different normalisations, small enough for 16 px, and what a run leaves."""

import json
import os
import pathlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

import safetensors.torch
import torch

from tcs.config.train import TrainConfig
from tcs.training.feed import Batch, Feed
from tcs.training.metrics import load_metrics
from tcs.training.trainer import Trainer

CNN = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8),drop_path_rate=0.3"
VIT = "vit_tiny_patch16_224,img_size=16,patch_size=8,embed_dim=16,depth=1,num_heads=2,proj_drop_rate=0.2"
CIFAR = "cifar_resnet8"
THREE = (CNN, VIT, CIFAR)


def config(folder: pathlib.Path, **options: Any) -> TrainConfig:
    """A run of the three students on the store and targets in `folder`."""
    defaults = {
        "store": str(folder / "train.store"),
        "targets": str(folder / "pca.h5"),
        "out": str(folder / "run"),
        "models": THREE,
        "method": "tcs+elsh",
        "shots": 4,
        "steps": 12,
        "batch_size": 16,
        "img_size": 16,
        "seed": 3,
        "scale": (0.5, 1.0),
        "color_jitter": 0.2,
        "checkpoint_every": 4,
        "log_interval": 1,
    }
    return TrainConfig.from_options(defaults | options)


def result(folder: pathlib.Path) -> dict[str, Any]:
    """All that a student's folder says of its training, but for what the clock measured."""
    weights = {
        f"{file.name} {key}": value.numpy().tobytes()
        for file in sorted(folder.glob("*.safetensors"))
        for key, value in safetensors.torch.load_file(file).items()
    }
    lines = [line.split(",") for line in (folder / "summary.csv").read_text().splitlines()]
    kept = [at for at, name in enumerate(lines[0]) if name not in ("images_per_s", "data_wait")]
    return {
        "files": sorted(path.name for path in folder.iterdir()),
        "weights": weights,
        "metrics": load_metrics(folder / "metrics.jsonl", measured=False),
        "summary": [[line[at] for at in kept] for line in lines],
        "seen": (folder / "seen.npy").read_bytes(),
        "images_seen": record(folder)["cost"]["images_seen"],
    }


def record(folder: pathlib.Path) -> dict[str, Any]:
    """The student's config.json."""
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found


def diverging(name: str, step: int) -> Callable[[Trainer, Feed, Batch], None]:
    """A train_step that makes the classifier of the student called `name` NaN before `step`."""
    plain = Trainer.train_step

    def train_step(self: Trainer, feed: Feed, batch: Batch) -> None:
        if self.job.name == name and self.step == step:
            with torch.no_grad():
                self.student.classifier.bias.fill_(float("nan"))
        plain(self, feed, batch)

    return train_step


def killed_at(count: int, function: Callable[..., Any], *, before: bool) -> Callable[..., Any]:
    """`function`, whose call number `count` ends the process with SIGKILL, before or after its work."""
    calls: Iterator[int] = iter(range(1, 1_000_000))

    def counted(*arguments: Any, **options: Any) -> Any:
        number = next(calls)
        if number == count and before:
            os.kill(os.getpid(), signal.SIGKILL)
        found = function(*arguments, **options)
        if number == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    return counted
