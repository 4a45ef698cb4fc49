"""Everything that only a GPU can tell, in one go of under ten minutes: tests marked `gpu`, speeds, memory, NCCL, torchrun's one process.

    python -m benchmarks.on_gpu PHOTOS --out OUT [--seconds 540] [--lightly LIGHTLY] [--plan]

PHOTOS is a folder of JPEG photographs in class folders. The parts run one after the other, each in a process of its own that is ended
when its share of the time is over, most wanted first; a part that fails or is late takes nothing from the next, and all limits together
are within `--seconds`. OUT gets a log a part, in which the parts that take turns write each one's seconds as it ends, summary.csv (part,
state, seconds), and what the parts write themselves is copied to OUT/results. LIGHTLY is the environment that
benchmarks/lightly_train_loop.py tells how to make; without it lightly-train is left out. `--plan` prints the commands alone.
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
EXTRACTION = (
    "--teacher",
    "vit_base_patch16_224",
    "--images",
    "4096",
    "--batch-size",
    "256",
    "--compute-dtype",
    "bfloat16",
)
SIZES = ("--setting", "224x128", "--setting", "64x512", "--setting", "32x1024")
STEPS = ("--batch-size", "256", "--steps", "10", "--rounds", "5", "--no-small")
ONLINE = ("--images", "1024", "--student", "resnet18", "--teacher", "vit_base_patch14_dinov2", "-b", "128")
STREAM_SIZE = "32"  # pixels of the frames that one_stream.STUDENTS are built for


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


def parts(photos: str, scratch: str, lightly: str | None = None) -> list[Part]:
    """What is measured, most wanted first, but that `extract-rank` makes the store of those after it."""
    store = f"{scratch}/photos.store"
    teacher = ("--teacher", TEACHER, "--teacher-checkpoint", f"{scratch}/{WEIGHTS}")
    train = ("--model", "resnet18", "--shots", "4", "--steps", "50", "--img-size", "64", "--out", f"{scratch}/run")
    online = () if lightly is None else ("--lightly", lightly)
    collectives = Part(name="nccl", seconds=25, module="benchmarks.collectives", arguments=("--device", "cuda"))
    return [
        Part(name="tests", seconds=80, module="pytest", arguments=("-q", "-m", "gpu", "tests")),
        _benchmark("training-step", 80, *STEPS),
        collectives,
        _benchmark("extraction", 75, photos, *EXTRACTION, "--workers", WORKERS),
        _rank("extract-rank", 40, "extract", photos, "--out", store, *teacher, "--workers", WORKERS),
        _rank("train-rank", 35, "train", store, *train),
        _benchmark("online-teacher", 100, photos, *ONLINE, *online, "-j", WORKERS, "--rounds", "2"),
        _benchmark("one-stream", 65, store, "--img-size", STREAM_SIZE, "--steps", "100", "--rounds", "2"),
        _benchmark("augmentation", 35, *SIZES, "--rounds", "7"),
    ]


def _benchmark(name: str, seconds: float, *arguments: str) -> Part:
    """A script beside this one; its results are of a name of their own."""
    given = (*arguments, "--device", "cuda", "--name", f"gpu-{name}")
    return Part(name=name, seconds=seconds, module=f"benchmarks.{name.replace('-', '_')}", arguments=given)


def _rank(name: str, seconds: float, *arguments: str) -> Part:
    """A command of tcs in the one process of a torchrun: its launcher, and no NCCL, which `nccl` is for."""
    given = ("--standalone", "--nproc-per-node", "1", "-m", "tcs", *arguments, "--device", "cuda")
    return Part(name=name, seconds=seconds, module="torch.distributed.run", arguments=given)


def save_teacher(path: pathlib.Path) -> None:
    """Random weights, which cost the same time as anybody's."""
    save_file(timm.create_model(TEACHER, num_classes=0).state_dict(), path)


def main(given: Sequence[str] | None = None) -> None:
    """Run the parts that fit the time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("photos", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seconds", type=float, default=540, help="for all parts together")
    parser.add_argument("--lightly", type=pathlib.Path, help="virtual environment of lightly-train, where there is one")
    parser.add_argument("--plan", action="store_true", help="print the commands, and run nothing")
    options = parser.parse_args(given)
    end = time.monotonic() + options.seconds
    lightly = None if options.lightly is None else str(options.lightly.resolve())
    wanted = parts(str(options.photos.resolve()), str(options.out.resolve() / "scratch"), lightly)
    if options.plan:
        for part in wanted:
            print(f"{part.seconds:.0f} s  {shlex.join(part.command)}")
        return
    (options.out / "scratch").mkdir(parents=True, exist_ok=True)
    save_teacher(options.out / "scratch" / WEIGHTS)
    run_all(wanted, options.out, end)
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
