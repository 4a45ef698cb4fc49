"""lightly-train's distillation of the same student from the same random teacher, run as its users run it: by its command.

    python3 -m venv LIGHTLY && LIGHTLY/bin/pip install "lightly-train[timm]==0.18.0" timm==1.0.31    # 7 GB: brings its own torch
    python -m benchmarks.lightly_train_loop PHOTOS --lightly LIGHTLY --model resnet18 --teacher vit_small_patch14_dinov2

lightly-train is AGPL-3.0: it lives in an environment of its own and is only ever run as a program; nothing here imports it.
`method=distillation` is its default (version 3: similarities to a queue of teacher features, and between patches; MixUp;
strong colour jitter and blur, all its own choices). Teacher and student are timm's, `method_args.teacher_weights` names a
file of random weights, so nothing is fetched; it trains with no network at all (checked without any interface). Its
telemetry is switched off, and so are its checkpoints and exports after each epoch, which would cost it 2 s each.

Seconds come from its metrics.jsonl: `profiling/batch_time` plus `profiling/data_time` of every step but the first of each
epoch, where its loader starts anew; the first epoch warms up. That is in its favour: the batches its workers decoded
ahead while that first step ran come free. (On a GPU it logs both some steps later; means over many steps are not touched.)
"""

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import tempfile
from collections.abc import Sequence

import timm
import torch

from benchmarks import tensor_memory

VERSION = "0.18.0"
WARM_UP_EPOCHS = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class LightlyConfig:
    """What to train. `environment` is the virtual environment that holds lightly-train, `weights` a state dict of the teacher."""

    environment: pathlib.Path
    data: pathlib.Path
    model: str
    teacher: str
    weights: pathlib.Path
    img_size: int = 224
    batch_size: int = 32
    workers: int = 2
    epochs: int = 1
    device: str = "cpu"
    batches: int | None = None  # of an epoch; None: all


def save_random_weights(teacher: str, img_size: int, path: pathlib.Path) -> pathlib.Path:
    """A state dict of timm's `teacher` with random weights, for `teacher_weights`; tensors only."""
    torch.save(timm.create_model(teacher, img_size=img_size).state_dict(), path)
    return path


def command_line(config: LightlyConfig, out: pathlib.Path) -> list[str]:
    """The command of lightly-train, its warm-up epoch included."""
    settings: dict[str, object] = {
        "out": out,
        "data": config.data.absolute(),
        "model": f"timm/{config.model}",
        "method": "distillation",
        "method_args.teacher": f"timm/{config.teacher}",
        "method_args.teacher_weights": config.weights.absolute(),
        "method_args.teacher_args.img_size": config.img_size,
        "transform_args.image_size": f"[{config.img_size},{config.img_size}]",
        "epochs": WARM_UP_EPOCHS + config.epochs,
        "batch_size": config.batch_size,
        "num_workers": config.workers,
        "accelerator": "cpu" if config.device == "cpu" else "gpu",
        "devices": 1,
        "precision": "32-true",
        "trainer_args.log_every_n_steps": 1,
        "loggers.tensorboard": "null",
        "callbacks.model_checkpoint": "null",
        "callbacks.model_export": "null",
    }
    if config.batches is not None:
        settings["trainer_args.limit_train_batches"] = config.batches
    executable = config.environment / "bin" / "lightly-train"
    return [str(executable), "pretrain", *(f"{key}={value}" for key, value in settings.items())]


def step_seconds(metrics: str) -> list[float]:
    """Seconds of the steps in the text of a metrics.jsonl, without the warm-up and without the first step of each epoch."""
    rows = [json.loads(line) for line in metrics.splitlines()]
    timed = [row for row in rows if "profiling/batch_time" in row and row["epoch"] >= WARM_UP_EPOCHS]
    firsts = {min(row["step"] for row in timed if row["epoch"] == epoch) for epoch in {row["epoch"] for row in timed}}
    return [
        row["profiling/batch_time"] + row.get("profiling/data_time", 0.0) for row in timed if row["step"] not in firsts
    ]


def measure(config: LightlyConfig) -> float:
    """Mean seconds of a step. RuntimeError with the program's last words where it fails, or where an epoch has one step only."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "run"
        _run(command_line(config, out), pathlib.Path(folder))
        seconds = step_seconds((out / "metrics.jsonl").read_text())
    if not seconds:
        raise RuntimeError("lightly-train logged no steps to count; an epoch must have two batches or more.")
    return sum(seconds) / len(seconds)


def peak_bytes(config: LightlyConfig) -> tuple[int, int]:
    """(peak bytes of tensors, those of uint8 among them), counted inside the program by benchmarks.tensor_memory."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        counter = [str(config.environment / "bin" / "python"), "-P", tensor_memory.__file__]
        _run([*counter, str(scratch / "peak.json"), config.device, *command_line(config, scratch / "run")], scratch)
        found = json.loads((scratch / "peak.json").read_text())
    return found["peak_bytes"], found["image_bytes"]


def _run(command: Sequence[str], scratch: pathlib.Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {"LIGHTLY_TRAIN_EVENTS_DISABLED": "1", "HF_HUB_OFFLINE": "1"}
    environment |= {"LIGHTLY_TRAIN_CACHE_DIR": str(scratch / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no message")
        raise RuntimeError(f"lightly-train {VERSION} ended with code {done.returncode}: {last}")


def main(arguments: list[str] | None = None) -> None:
    """Train a while and print images/s."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--lightly", dest="environment", type=pathlib.Path, required=True)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--teacher", default="vit_small_patch14_dinov2")
    parser.add_argument("--img-size", type=int, default=224)
    parser.add_argument("-b", "--batch-size", type=int, default=32)
    parser.add_argument("-j", "--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory", action="store_true", help="peak bytes of tensors instead of the speed")
    options = vars(parser.parse_args(arguments))
    memory = options.pop("memory")
    with tempfile.TemporaryDirectory() as folder:
        weights = save_random_weights(options["teacher"], options["img_size"], pathlib.Path(folder) / "teacher.pt")
        config = LightlyConfig(weights=weights, **options)
        if memory:
            peak, images = peak_bytes(config)
            print(
                f"{peak / tensor_memory.MIB:.0f} MiB of tensors at the peak, {images / tensor_memory.MIB:.0f} of them uint8"
            )
            return
        seconds = measure(config)
    print(f"{config.batch_size / seconds:.1f} images/s, {1000 * seconds:.0f} ms a step")


if __name__ == "__main__":
    main()
