"""A training step with TCS + eLSH against one on labels alone: time and memory, the same student on the same batches.

    OMP_WAIT_POLICY=passive python -m benchmarks.training_step --rounds 7 --steps 2

About 12 minutes on 2 idle cores (estimated), nearly all of it ResNet-18 at 224 px in batches of 64. On a GPU:
`--device cuda --batch-size 256 --steps 10`. A try in a minute: `--batch-size 8 --rounds 1 --steps 1 --no-small`.

Each contestant is a `Trainer` as `tcs train` makes it, with a student of its own, in the main phase of its method:
  labels only      linear head, `ce`
  tcs, ce + elsh   head on K coordinates, `ce + 1.0*elsh` against H cached bits: the method `tcs+elsh` after its warm-up phase
All rows have labels, so both see all of the one batch of a step; it is made before the clock starts. A step is the whole
`train_step` (cached rows, forward, losses, backward, clipping, AdamW), the device waited for. The contestants alternate step
by step, first and second in turns; a round is `--steps` steps of each, and what is compared is the ratio inside a round.
Images, labels, coordinates and bits are random and in memory: they cost the same time as real ones. Features of D dims go
into the coordinates once (`tcs fit`, `tcs targets`), and into no step, so D is no option here.

Peak memory, before the rounds: bytes of the tensors that are alive at once over three steps, uint8 images left out
(benchmarks/tensor_memory.py), or CUDA's own count. The bounds (1.03 of the time, 1.02 of the memory) are for ResNet-18 at 224 px;
small students are told without. Writes results/NAME/. Legend: n rows, B batch, K coordinates, P bytes of bits.
"""

import argparse
import dataclasses
import gc
import statistics
import time
from collections.abc import Iterable, Sequence

import numpy as np
import torch

from benchmarks.tensor_memory import MIB, peak_bytes
from benchmarks.turns import Table, report
from tcs.config.train import TrainConfig
from tcs.functional.coordinates import HashPlanes
from tcs.methods.named import METHODS, Method, resolve_method
from tcs.runtime import pick_device, say, seed_for
from tcs.splits.held_out import nothing_held_out
from tcs.splits.shots import Split
from tcs.students.backbone import parse_student
from tcs.training.feed import Feed, showing_of
from tcs.training.images import ResidentImages
from tcs.training.jobs import Job, RunRows
from tcs.training.rows import TrainingRows
from tcs.training.trainer import Trainer

LABELS, TCS = "labels only", "tcs, ce + elsh"
METHODS_COMPARED = {LABELS: METHODS["labels"], TCS: resolve_method(None, "tcs", "ce + 1.0*elsh")}
TIME_BOUND, MEMORY_BOUND = 1.03, 1.02
WARM_UP_STEPS, MEMORY_STEPS = 2, 3
CLASSES = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """A student, the side of its images in pixels, its batch, and how many times the steps of a round it takes."""

    model: str
    size: int
    batch_size: int
    step_factor: int = 1
    bounded: bool = False

    @property
    def title(self) -> str:
        """Of its tables."""
        return f"{self.model}, {self.size} px, batch {self.batch_size}"


SMALL = (
    Setting(model="resnet18,layers=(1,1,1,1),channels=(16,32,48,64)", size=32, batch_size=64, step_factor=10),
    Setting(model="cifar_resnet20", size=32, batch_size=64, step_factor=3),
    Setting(model="vit_tiny_patch16_224,img_size=32,patch_size=4", size=32, batch_size=64),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cached:
    """Random rows of a run with all that its methods read, the same for every contestant."""

    feed: Feed
    rows: TrainingRows
    planes: HashPlanes
    device: torch.device

    def trainer(self, setting: Setting, method: Method) -> Trainer:
        """A new student at its first step."""
        job = make_job(setting, method, self.feed.steps)
        if method.head == "tcs":
            job = dataclasses.replace(job, components=self.planes.rotation_HK.shape[1], planes=self.planes)
        return Trainer(job, self.rows, self.device)


def make_job(setting: Setting, method: Method, steps: int) -> Job:
    """The run of one contestant: two batches of rows, all of them labelled."""
    rows_n = np.arange(2 * setting.batch_size)
    return Job(
        spec=parse_student(setting.model),
        config=TrainConfig(store="", out="", models=(setting.model,), batch_size=setting.batch_size, seed=0),
        method=method,
        rows=RunRows(
            split=Split(rows_n=rows_n, shots=None, split_seed=None, digest=""),
            rows_n=rows_n,
            held_out=nothing_held_out("nothing is watched."),
        ),
        steps=steps,
        size=setting.size,
        classes=tuple(f"class {number}" for number in range(CLASSES)),
    )


def make_cached(setting: Setting, components: int, bits: int, steps: int, device: torch.device) -> Cached:
    """Two batches of random images with labels, coordinates and bits; a stream of `steps` batches of them."""
    generator = torch.Generator().manual_seed(seed_for(0, f"benchmark {setting.title}"))
    total = 2 * setting.batch_size

    def bytes_of(*shape: int) -> torch.Tensor:
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)

    rows = TrainingRows(
        labels_n=torch.randint(0, CLASSES, (total,), generator=generator).to(device),
        labelled_m=torch.arange(total),
        coordinates_nK=torch.randn(total, components, generator=generator).to(device),
        packed_nP=bytes_of(total, bits // 8).to(device),
    )
    planes = HashPlanes(
        rotation_HK=torch.randn(bits, components, generator=generator).div_(components**0.5),
        thresholds_H=torch.zeros(bits),
        rms_H=torch.ones(bits),
    )
    job = make_job(setting, METHODS_COMPARED[LABELS], steps)
    images = ResidentImages(bytes_of(total, 3, setting.size, setting.size).to(device))
    feed = Feed(images, rows.labelled_m, job.stages, showing_of(job.config, job.size))
    return Cached(feed=feed, rows=rows, planes=planes, device=device)


def step_seconds(trainer: Trainer, cached: Cached, step: int) -> float:
    """Seconds of one step, its batch left out and its device waited for."""
    batch = cached.feed.batch(step)
    _wait(cached.device)
    start = time.perf_counter()
    trainer.train_step(cached.feed, batch)
    trainer.watch.settle()
    _wait(cached.device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def alternating(names: Sequence[str], step: int) -> Iterable[str]:
    """The contestants in the order of `step`: whoever goes first in one goes last in the next."""
    return names if step % 2 == 0 else tuple(reversed(names))


def time_table(setting: Setting, cached: Cached, rounds: int, steps: int) -> Table:
    """Milliseconds a step: means over the `steps` steps of each round, after steps that do not count."""
    trainers = {name: cached.trainer(setting, method) for name, method in METHODS_COMPARED.items()}
    names, found = tuple(trainers), {name: [0.0] * rounds for name in trainers}
    for step in range(WARM_UP_STEPS + rounds * steps):
        for name in alternating(names, step):
            seconds = step_seconds(trainers[name], cached, step)
            if step >= WARM_UP_STEPS:
                found[name][(step - WARM_UP_STEPS) // steps] += 1000 * seconds / steps
    return Table(title=f"{setting.title}, time of a step", unit="ms", base=LABELS, values=found)


def memory_table(setting: Setting, cached: Cached) -> Table:
    """MiB at the peak of a few steps, each contestant alone: weights, gradients, optimiser, buffers, activations."""
    return Table(
        title=f"{setting.title}, peak memory",
        unit="MiB",
        base=LABELS,
        values={name: [_peak_mib(setting, cached, method)] for name, method in METHODS_COMPARED.items()},
    )


def _peak_mib(setting: Setting, cached: Cached, method: Method) -> float:
    def run() -> None:
        trainer = cached.trainer(setting, method)
        for step in range(MEMORY_STEPS):
            step_seconds(trainer, cached, step)

    if cached.device.type == "cuda":
        run()  # what the libraries take once, as cuBLAS its workspace, must not count for whoever comes first
    gc.collect()
    total, images = peak_bytes(str(cached.device), run)
    return (total - images) / MIB


def verdict(setting: Setting, memory: Table, times: Table) -> str:
    """A sentence: the median ratios, and whether they keep the bounds where there are any."""
    memory_ratio, ratios = statistics.median(memory.ratios(TCS)), times.ratios(TCS)
    said = (
        f"{setting.title}: {statistics.median(ratios):.3f} x the time (n {len(ratios)}, {min(ratios):.3f} - {max(ratios):.3f}),"
        f" {memory_ratio:.4f} x the memory of labels only"
    )
    if not setting.bounded:
        return f"- {said}."
    kept = statistics.median(ratios) <= TIME_BOUND and memory_ratio <= MEMORY_BOUND
    return f"- {said}: the bounds {TIME_BOUND} and {MEMORY_BOUND} are {'kept' if kept else 'NOT kept'}."


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18", help="the student that the bounds are for")
    parser.add_argument("--img-size", type=int, default=224)
    parser.add_argument("-b", "--batch-size", type=int, default=64)
    parser.add_argument("--components", type=int, default=256)
    parser.add_argument("--bits", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2, help="steps of a round; small students take more")
    parser.add_argument("--small", action=argparse.BooleanOptionalAction, default=True, help="small students too")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--name", default="training-step", help="folder of the results")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write the files."""
    options = parse(arguments)
    device = pick_device(options.device)
    first = Setting(model=options.model, size=options.img_size, batch_size=options.batch_size, bounded=True)
    tables, said = [], []
    for setting in (first, *(SMALL if options.small else ())):
        say(f"{setting.title} ...")
        steps = options.steps * setting.step_factor
        total = WARM_UP_STEPS + options.rounds * steps
        cached = make_cached(setting, options.components, options.bits, max(total, MEMORY_STEPS), device)
        memory = memory_table(setting, cached)
        tables += [time_table(setting, cached, options.rounds, steps), memory]
        said.append(verdict(setting, memory, tables[-2]))
    said.append(_where(device))
    report(options.name, tables, "benchmarks.training_step", arguments, "\n".join(said))


def _where(device: torch.device) -> str:
    """Of the device, what the other facts leave out."""
    if device.type == "cuda":
        return f"- On one {torch.cuda.get_device_name(device)}, float32."
    return f"- On the CPU with {torch.get_num_threads()} threads, float32."


if __name__ == "__main__":
    main()
