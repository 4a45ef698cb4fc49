"""Labels-only training against timm's own loop: images/s of `tcs train --method labels` and of benchmarks/timm_loop.py, in turns.

    tar xf photos.tar -C PHOTOS                              # any folder of JPEG photographs
    OMP_WAIT_POLICY=passive python -m benchmarks.labels_only PHOTOS

About 8 minutes on 2 idle cores (estimated; batches are small for that). `--case mobilenetv3` for one case; a try in half a minute:
`--rounds 1 --steps 4 --warm-up 2`. Where other work shares the cores: `OMP_NUM_THREADS=1 ... --processor-time -j 0`.

Both train the same student with the same recipe: boxes of 8 to 100 % of the area, resized by Pillow's bicubic filter, flips, the
optimiser (AdamW, learning rate 2e-3, weight decay 0.05), no clipping, `channels_last`, all labels.
Contestants of a case, which goes first changes from round to round:
  timm               `create_loader` with `--workers` processes, timm's task and optimiser
  tcs, streamed      JPEGs decoded in every step by `--workers` threads (`--resident-share 0`)
  tcs, in memory     frames decoded once before the first step, which is left out, as what `tcs train` does unasked where they fit
Speeds are images per second of the clock, or of the processor with --processor-time, from the last step of the warm-up to the last
step: of `tcs train` as its log tells them. The goal is 1.1 x timm's speed. Writes results/NAME/.
"""

import argparse
import dataclasses
import pathlib
import statistics
import tempfile
import time
import unittest.mock
from collections.abc import Callable, Mapping, Sequence

from benchmarks.contestants import link_classes
from benchmarks.one_stream import photo_store
from benchmarks.timm_loop import LoopConfig, TimmLoop
from benchmarks.turns import Table, report
from tcs.config.augment import AugmentConfig
from tcs.config.optimiser import OptimiserConfig
from tcs.config.train import TrainConfig
from tcs.runtime import say
from tcs.training.log import METRICS
from tcs.training.metrics import parse_lines
from tcs.training.train import train

TIMM, STREAMED, RESIDENT = "timm", "tcs, streamed", "tcs, in memory"
BOXES = (0.08, 1.0)  # shares of the area, as timm's loader has them
LR = 2e-3
GOAL = 1.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A student, the side of its images in pixels, and the rows of a step."""

    model: str
    size: int
    batch_size: int

    @property
    def title(self) -> str:
        """Of its table."""
        return f"{self.model}, {self.size} px, batch {self.batch_size}"


CASES: Mapping[str, Case] = {
    "resnet18": Case(model="resnet18", size=224, batch_size=8),
    "mobilenetv3": Case(model="mobilenetv3_small_100", size=224, batch_size=16),
    "small": Case(model="cifar_resnet20", size=64, batch_size=32),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """What all cases share: the photographs as class folders and as a store, and how long a turn is."""

    folder: pathlib.Path
    store: pathlib.Path
    scratch: pathlib.Path
    warm_up: int
    steps: int
    workers: int


def timm_config(case: Case, setup: Setup) -> LoopConfig:
    """The run as timm's loop does it."""
    return LoopConfig(
        data=setup.folder,
        model=case.model,
        img_size=case.size,
        batch_size=case.batch_size,
        workers=setup.workers,
        lr=LR,
        channels_last=True,
        interpolation=AugmentConfig().train_interpolation,
    )


def timm_speed(case: Case, setup: Setup) -> float:
    """Images/s of timm's loop, built anew."""
    loop = TimmLoop(timm_config(case, setup))
    loop.train_steps(setup.warm_up)
    return setup.steps * case.batch_size / loop.train_steps(setup.steps)


def tcs_config(case: Case, setup: Setup, out: pathlib.Path, *, resident: bool) -> TrainConfig:
    """The same run as `tcs train` does it."""
    return TrainConfig(
        store=str(setup.store),
        out=str(out),
        models=(case.model,),
        method="labels",
        img_size=case.size,
        batch_size=case.batch_size,
        steps=setup.warm_up + setup.steps,
        log_interval=setup.warm_up,
        held_out=0,
        workers=setup.workers,
        resident_share=1.0 if resident else 0.0,
        optimiser=OptimiserConfig(lr=LR, clip_grad=0, sched="constant", warmup_share=0),
        augment=AugmentConfig(scale=BOXES),
    )


def tcs_speed(case: Case, setup: Setup, *, resident: bool) -> float:
    """Images/s of `tcs train`, after its warm-up."""
    with tempfile.TemporaryDirectory(dir=setup.scratch) as folder:
        (run,) = train(tcs_config(case, setup, pathlib.Path(folder, "run"), resident=resident))
        rows = {int(row["step"]): row for row in parse_lines((run / METRICS).read_bytes(), run / METRICS)}
    first, last = rows[setup.warm_up], rows[setup.warm_up + setup.steps]
    images = [float(row["images_seen"]) for row in (first, last)]
    seconds = [seen / float(row["images_per_s"]) for seen, row in zip(images, (first, last), strict=True)]
    return (images[1] - images[0]) / (seconds[1] - seconds[0])


def contestants(case: Case, setup: Setup) -> Mapping[str, Callable[[], float]]:
    """Name -> one turn of it."""
    return {
        TIMM: lambda: timm_speed(case, setup),
        STREAMED: lambda: tcs_speed(case, setup, resident=False),
        RESIDENT: lambda: tcs_speed(case, setup, resident=True),
    }


def measure(title: str, every: Mapping[str, Callable[[], float]], rounds: int) -> Table:
    """The speeds of all contestants in each round, whose order is turned about in every second one."""
    speeds: dict[str, list[float]] = {name: [] for name in every}
    for number in range(rounds):
        for name in list(every)[:: 1 if number % 2 == 0 else -1]:
            speeds[name].append(every[name]())
            say(f"{title}, round {number + 1} of {rounds}: {name}, {speeds[name][-1]:.1f} images/s")
    return Table(title=title, unit="images/s", base=TIMM, values=speeds)


def verdict(table: Table) -> str:
    """A sentence: the ratios to timm, and whether the goal is reached."""
    told = []
    for name in (STREAMED, RESIDENT):
        ratios = table.ratios(name)
        middle = statistics.median(ratios)
        reached = "reached" if middle >= GOAL else "NOT reached"
        told.append(
            f"{name} {middle:.2f} x (n {len(ratios)}, {min(ratios):.2f} - {max(ratios):.2f}): {GOAL} x {reached}"
        )
    return f"- {table.title}: {'; '.join(told)}."


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=pathlib.Path)
    parser.add_argument("--case", dest="cases", action="append", choices=tuple(CASES), help="repeatable")
    parser.add_argument("--images", type=int, default=250, help="rows of an epoch, going round the photographs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm-up", type=int, default=6, help="steps of a turn before the clock starts")
    parser.add_argument("--steps", type=int, default=60, help="steps of a turn that are timed")
    parser.add_argument("-j", "--workers", type=int, default=2)
    parser.add_argument("--processor-time", action="store_true", help="of this process, so it needs -j 0")
    parser.add_argument("--name", default="labels-only", help="folder of the results")
    options = parser.parse_args(arguments)
    if options.processor_time and options.workers:
        parser.error(f"--processor-time sees this process alone, and -j {options.workers} starts others; give -j 0.")
    if options.warm_up < 1 or options.steps < 1:
        parser.error(f"--warm-up {options.warm_up} and --steps {options.steps} must be 1 or more.")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write the files."""
    options = parse(arguments)
    tables = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        setup = Setup(
            folder=link_classes(options.photos, scratch / "data", options.images),
            store=photo_store(options.photos, scratch / "photos.store", options.images, 0),
            scratch=scratch,
            warm_up=options.warm_up,
            steps=options.steps,
            workers=options.workers,
        )
        clock = time.process_time if options.processor_time else time.perf_counter
        with unittest.mock.patch.object(time, "perf_counter", clock):  # which both loops read
            for case in (CASES[name] for name in options.cases or CASES):
                tables.append(measure(case.title, contestants(case, setup), options.rounds))
    said = "\n".join(verdict(table) for table in tables)
    report(options.name, tables, "benchmarks.labels_only", arguments, said)


if __name__ == "__main__":
    main()
