"""Everything that only a GPU can tell, in one go of under ten minutes: tests marked `gpu`, speeds, memory, one process of torchrun.

    python -m benchmarks.on_gpu PHOTOS --out OUT [--seconds 540] [--plan]

PHOTOS is a folder of JPEG photographs in class folders. The parts run one after the other, each in a process of its own that is ended
when its share of the time is over, most wanted first; a part that fails or is late takes nothing from the next. OUT gets a log a part,
summary.csv (part, state, seconds) and what the parts write themselves is copied to OUT/results. `--plan` prints the commands alone.
"""

import argparse
import contextlib
import dataclasses
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

import timm
from safetensors.torch import save_file

from tcs.plain_files import save_table

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
WORKERS = "12"
LEAST_SECONDS = 5.0
TEACHER, WEIGHTS = "vit_small_patch16_224", "teacher.safetensors"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """`python -m module arguments`, and the seconds it may take."""

    name: str
    seconds: float
    module: str
    arguments: tuple[str, ...]

    @property
    def command(self) -> list[str]:
        """The arguments of the process."""
        return [sys.executable, "-m", self.module, *self.arguments]


def parts(photos: str, scratch: str) -> list[Part]:
    """What is measured, most wanted first."""
    store, run = f"{scratch}/photos.store", f"{scratch}/run"
    step = ("--device", "cuda", "--batch-size", "256", "--steps", "10", "--rounds", "5", "--no-small")
    sizes = ("--setting", "224x128", "--setting", "64x512", "--setting", "32x1024")
    extraction = ("--teacher", "vit_base_patch16_224", "--device", "cuda", "--images", "4096", "--batch-size", "256")
    online = ("--images", "2048", "--student", "resnet18", "--teacher", "vit_base_patch14_dinov2", "-b", "128")
    teacher = ("--teacher", TEACHER, "--teacher-checkpoint", f"{scratch}/{WEIGHTS}", "--device", "cuda")
    extract = ("extract", photos, "--out", store, *teacher)
    train = ("train", store, "--model", "resnet18", "--out", run, "--shots", "4", "--steps", "50", "--img-size", "64")
    ranks = ("--standalone", "--nproc-per-node", "1", "-m", "tcs")
    return [
        Part(name="tests", seconds=120, module="pytest", arguments=("-q", "-m", "gpu", "tests")),
        Part(
            name="training-step",
            seconds=90,
            module="benchmarks.training_step",
            arguments=(*step, "--name", "gpu-training-step"),
        ),
        Part(
            name="extraction",
            seconds=100,
            module="benchmarks.extraction",
            arguments=(
                photos,
                *extraction,
                "--compute-dtype",
                "bfloat16",
                "--workers",
                WORKERS,
                "--name",
                "gpu-extraction",
            ),
        ),
        Part(
            name="extract-rank",
            seconds=60,
            module="torch.distributed.run",
            arguments=(*ranks, *extract, "--workers", WORKERS),
        ),
        Part(
            name="train-rank",
            seconds=60,
            module="torch.distributed.run",
            arguments=(*ranks, *train, "--device", "cuda"),
        ),
        Part(
            name="augmentation",
            seconds=60,
            module="benchmarks.augmentation",
            arguments=(*sizes, "--rounds", "7", "--device", "cuda", "--name", "gpu-augmentation"),
        ),
        Part(
            name="online-teacher",
            seconds=150,
            module="benchmarks.online_teacher",
            arguments=(
                photos,
                *online,
                "--device",
                "cuda",
                "-j",
                WORKERS,
                "--rounds",
                "2",
                "--name",
                "gpu-online-teacher",
            ),
        ),
        Part(
            name="one-stream",
            seconds=120,
            module="benchmarks.one_stream",
            arguments=(store, "--device", "cuda", "--img-size", "64", "--rounds", "2", "--name", "gpu-one-stream"),
        ),
    ]


def save_teacher(path: pathlib.Path) -> None:
    """Random weights, which cost the same time as anybody's."""
    save_file(timm.create_model(TEACHER, num_classes=0).state_dict(), path)


def main(given: Sequence[str] | None = None) -> None:
    """Run the parts that fit the time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("photos", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seconds", type=float, default=540, help="for all parts together")
    parser.add_argument("--plan", action="store_true", help="print the commands, and run nothing")
    options = parser.parse_args(given)
    wanted = parts(str(options.photos.resolve()), str(options.out.resolve() / "scratch"))
    if options.plan:
        for part in wanted:
            print(f"{part.seconds:.0f} s  {shlex.join(part.command)}")
        return
    (options.out / "scratch").mkdir(parents=True, exist_ok=True)
    save_teacher(options.out / "scratch" / WEIGHTS)
    run_all(wanted, options.out, time.monotonic() + options.seconds)
    shutil.rmtree(options.out / "scratch", ignore_errors=True)


def run_all(wanted: Sequence[Part], out: pathlib.Path, end: float) -> None:
    """Each part in its turn until `end` by the monotonic clock; logs, summary.csv and results are in `out`."""
    rows: list[Mapping[str, str]] = []
    for part in wanted:
        start = time.monotonic()
        state = _run(part, out / f"{part.name}.log", min(part.seconds, end - start))
        rows.append({"part": part.name, "state": state, "seconds": f"{time.monotonic() - start:.1f}"})
        print(*rows[-1].values(), flush=True)
        save_table(out / "summary.csv", rows)
        if (RESULTS / f"gpu-{part.name}").exists():
            shutil.copytree(RESULTS / f"gpu-{part.name}", out / "results" / f"gpu-{part.name}", dirs_exist_ok=True)


def _run(part: Part, log: pathlib.Path, seconds: float) -> str:
    """What became of the part: done, failed, late (ended at its limit), or not begun where no time is left for it."""
    if seconds < LEAST_SECONDS:
        return "not begun"
    with log.open("w") as file:
        process = subprocess.Popen(
            part.command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            return "done" if process.wait(seconds) == 0 else "failed"
        except subprocess.TimeoutExpired:
            return "late"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # workers of a late part, too
            process.wait()


if __name__ == "__main__":
    main()
