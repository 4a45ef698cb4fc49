"""What the commands cost as a store grows to the size of ImageNet: processor seconds and peak memory of each, and a plot of growth.

    OMP_NUM_THREADS=1 python -m benchmarks.imagenet_size --shares 0.01 0.1 --folder SCRATCH
    OMP_NUM_THREADS=1 python -m benchmarks.imagenet_size --shares 0.3 1 --folder SCRATCH    # adds to the table; 1 writes 2 GB
    OMP_NUM_THREADS=1 python -m benchmarks.imagenet_size --shares 0.015 --classes 10 1000 --stages fit --folder SCRATCH
    python -m benchmarks.imagenet_size --shares 0.1 0.3 1 --stages fit "transductive probe" "kd probe" --out NEW --folder SCRATCH

A share of 1,281,167 rows x 768 float16 of 1,000 classes, random with class structure, made and stored block by block, and a test
store of at most 50,000 rows. Every stage runs in a process of its own, whose peak memory is that of its imports (`start`) and its
work; its seconds are those of the work. Rows in the table are not measured again, so a run that was ended goes on where it was, and
a table of one commit is one with an --out of its own. A stage that works longer than --limit-seconds is ended, said, and left out of the
table. Stores are deleted when their share is done, and made anew where an ended run left them.

Legend: N rows, B rows of a block, D features, C classes.
"""

import argparse
import dataclasses
import json
import pathlib
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cache
from benchmarks.growth import draw
from benchmarks.tables import Done, append_rows
from tcs.config.coordinates import FitConfig, TargetsConfig
from tcs.config.evaluate import ProbeConfig
from tcs.plain_files import load_table
from tcs.runtime import say
from tcs.splits.held_out import held_out_rows
from tcs.splits.shots import k_shot_split

ROWS, TEST_ROWS = 1_281_167, 50_000
BLOCK_ROWS = 8192
SHOTS = 8  # one hundredth of the rows has 12 of each class
DIMS = 256  # of the heads of `tcs probe` beside the one of all dims
SEED = 0
OUT = pathlib.Path(__file__).parent / "results" / "imagenet-size"
KEY = ("rows", "dims", "classes", "stage")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomRows:
    """Float16 features (N, D) that are drawn when they are read: row i is of class i modulo C, around the centre of its class."""

    rows: int
    dims: int
    classes: int
    part: int

    def __getitem__(self, index: slice) -> NDArray[np.float16]:
        """A block, by the seed of its first row."""
        start, stop, _ = index.indices(self.rows)
        spread_D = np.linspace(2, 0.2, self.dims, dtype=np.float32)
        centres_CD = np.random.default_rng(SEED).standard_normal((self.classes, self.dims), np.float32)
        block_BD = np.random.default_rng((SEED, self.part, start)).standard_normal(
            (stop - start, self.dims), np.float32
        )
        labels_B = np.arange(start, stop) % self.classes
        return (spread_D * (0.4 * centres_CD[labels_B] + block_BD)).astype(np.float16)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """One size of store, and the folder that it lies in."""

    rows: int
    dims: int
    classes: int
    folder: str

    def path(self, name: str) -> str:
        """Of a store or an artefact."""
        return str(pathlib.Path(self.folder) / name)

    def key(self, stage: str) -> tuple[str, ...]:
        """What its row of the table is known by."""
        return (str(self.rows), str(self.dims), str(self.classes), stage)


def write_stores(size: Size) -> None:
    """Both stores, of one teacher; the test store has rows of its own and the same classes."""
    for part, (name, count) in enumerate({"train": size.rows, "test": min(TEST_ROWS, size.rows)}.items()):
        rows = RandomRows(rows=count, dims=size.dims, classes=size.classes, part=part)
        plan = cache.Plan(
            identity={"teacher": "random"},
            readouts=(cache.Readout(name="avg", dims=size.dims, dtype="float16"),),
            keys=tuple(f"{name}/{row:07d}" for row in range(count)),
            labels=tuple((np.arange(count) % size.classes).tolist()),
            classes=tuple(f"class-{label:04d}" for label in range(size.classes)),
            images="none",
            rows_per_shard=BLOCK_ROWS,
            batch_size=BLOCK_ROWS,
        )
        with cache.StoreWriter(size.path(f"{name}.store"), plan, provenance={}) as writer:
            for index in writer.pending():
                writer.write_shard(index, shard_of(plan, index, rows))
            writer.close()


def shard_of(plan: cache.Plan, index: int, rows: RandomRows) -> cache.ShardRows:
    """The rows of a shard, drawn now; the hash of a row is that of its key."""
    positions = plan.positions(index)
    hashes = b"".join(cache.content_hash(plan.keys[position].encode()) for position in positions)
    return cache.ShardRows(
        positions_N=np.arange(positions.start, positions.stop),
        hashes_N16=np.frombuffer(hashes, np.uint8).reshape(-1, 16),
        features={"avg": rows[positions.start : positions.stop]},
    )


def open_store(size: Size) -> cache.Store:
    """The training store, with all that a run asks of it."""
    store = cache.open(size.path("train.store"))
    assert (len(store.keys), len(store.labels_N)) == (size.rows, size.rows)
    return store


def split(size: Size) -> NDArray[np.int64]:
    """A k-shot split of the open store."""
    store = open_store(size)
    return k_shot_split(store.keys, store.labels_N, store.classes, SHOTS, SEED).rows_n


def held_out(size: Size) -> None:
    """Rows to watch a run of few labels on."""
    store, labelled = open_store(size), np.arange(SHOTS * size.classes)
    held_out_rows(store.keys, labelled, labelled, None, SEED)


def write_axes(size: Size) -> None:
    """`tcs fit` without its ceiling: what reads every row."""
    from tcs.artefact import teacher_identity_of
    from tcs.coordinates.build import fit_coordinates
    from tcs.coordinates.system import save_coordinates
    from tcs.coordinates.vectors import row_vectors

    store = open_store(size)
    system = fit_coordinates(
        row_vectors(store, "avg"),
        store_identity=store.identity,
        teacher_identity=teacher_identity_of(store, "avg"),
        readout="avg",
    )
    save_coordinates(size.path("axes.tcs"), system)


def fit_axes(size: Size) -> None:
    """`tcs fit` with its ceiling curve, which reads as many rows of a store of any size."""
    from tcs.coordinates.fit import fit

    fit(FitConfig(store=size.path("train.store"), out=size.path("fit.tcs"), ceiling_shots=(4, SHOTS)))


def make_targets(size: Size) -> None:
    """`tcs targets` of the axes that were written."""
    from tcs.coordinates.targets import fit_targets

    fit_targets(
        TargetsConfig(store=size.path("train.store"), coordinates=size.path("axes.tcs"), out=size.path("targets.h5"))
    )


def probe_rows(size: Size, head: str) -> None:
    """`tcs probe` of all dims, of one split."""
    from tcs.evaluation.probe import measure_compression

    train, test = size.path("train.store"), size.path("test.store")
    config = ProbeConfig(store=train, test=test, head=head, shots=SHOTS, seeds=(0,), dims=(DIMS,), projections=("pca",))
    measure_compression(config)


def frozen_probe(size: Size) -> None:
    """The logistic probe whose logits `kd` distils."""
    from tcs.probes.logistic import fit_logistic

    store, rows_n = open_store(size), split(size)
    fit_logistic(store.features().gather(rows_n), store.labels_N[rows_n], size.classes, SEED)


STAGES: Mapping[str, Callable[[Size], object]] = {
    "start": lambda size: size,  # what an interpreter holds that has imported this file
    "open": open_store,
    "split": split,
    "held-out": held_out,
    "axes": write_axes,
    "targets": make_targets,
    "fit": fit_axes,
    "probe": lambda size: probe_rows(size, "ridge"),
    "transductive probe": lambda size: probe_rows(size, "transductive"),
    "kd probe": frozen_probe,
}


def run_stage(size: Size, stage: str) -> dict[str, Any]:
    """Processor seconds and peak memory of one stage, in this process."""
    started = time.process_time()
    STAGES[stage](size)
    seconds = time.process_time() - started
    return {"seconds": round(seconds, 2), "peak_mib": round(peak_mib())}


def peak_mib() -> float:
    """Of this process. Not ru_maxrss where Linux tells better: that begins with what the parent held when it made this process."""
    status = pathlib.Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def in_a_process(size: Size, stage: str, limit_seconds: float) -> dict[str, Any] | None:
    """The same in a process of its own; None where it was ended because it took longer, by the clock, than `limit_seconds`."""
    command = [sys.executable, "-m", "benchmarks.imagenet_size", "--one", stage, json.dumps(dataclasses.asdict(size))]
    try:
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=limit_seconds)
    except subprocess.TimeoutExpired:
        say(
            f"{stage} of {size.rows:,} rows took longer than {limit_seconds:g} s and was ended; it has no row in the table."
        )
        return None
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(options: argparse.Namespace, done: Done) -> Iterator[dict[str, Any]]:
    """One row for every size and stage; `targets` reads what `axes` writes."""
    for share in options.shares:
        for classes in options.classes:
            size = Size(
                rows=round(share * options.rows),
                dims=options.dims,
                classes=classes,
                folder=str(options.folder / f"{share:g}-{classes}"),
            )
            stages = [stage for stage in ("write", *options.stages) if size.key(stage) not in done]
            yield from measure_size(size, stages, options.limit_seconds)


def measure_size(size: Size, stages: Sequence[str], limit_seconds: float) -> Iterator[dict[str, Any]]:
    """A row for each of `stages`, of stores that are deleted afterwards; nothing is written for "write" alone."""
    if set(stages) <= {"write"}:
        return
    facts = {"rows": size.rows, "dims": size.dims, "classes": size.classes}
    shutil.rmtree(size.folder, ignore_errors=True)  # what a run left that was killed
    started = time.process_time()
    try:
        write_stores(size)
        if "write" in stages:
            yield facts | {"stage": "write", "seconds": round(time.process_time() - started, 2), "peak_mib": ""}
        needed = ["axes"] if "targets" in stages and "axes" not in stages else []  # its row is there, its file is not
        for stage in (*needed, *stages):
            found = None if stage == "write" else in_a_process(size, stage, limit_seconds)
            if found is not None and stage in stages:
                yield facts | {"stage": stage} | found
    finally:
        shutil.rmtree(size.folder, ignore_errors=True)


def main(given: list[str] | None = None) -> None:
    """Measure, and draw all that the table holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.01, 0.1])
    parser.add_argument("--rows", type=int, default=ROWS, help="of share 1")
    parser.add_argument("--dims", type=int, default=768)
    parser.add_argument("--classes", type=int, nargs="+", default=[1000])
    parser.add_argument("--stages", nargs="+", choices=tuple(STAGES), default=list(STAGES))
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("imagenet-size"))
    parser.add_argument("--out", type=pathlib.Path, default=OUT)
    parser.add_argument("--limit-seconds", type=float, default=1800, help="of the clock, for each stage")
    parser.add_argument("--one", nargs=2, metavar=("STAGE", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args(given)
    if options.one is not None:
        print(json.dumps(run_stage(Size(**json.loads(options.one[1])), options.one[0])))
        return
    table = options.out / "imagenet-size.csv"
    append_rows(table, KEY, lambda done: measure(options, done))
    draw(load_table(table), ("write", *STAGES), options.out / "imagenet-size.png")


if __name__ == "__main__":
    main()
