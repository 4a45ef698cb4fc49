"""Writing a store, against writing the same bytes into plain files; and memory over the number of rows.

    python -m benchmarks.writing --rounds 3

Plain files: the bytes of each shard in one call, fsynced, renamed, the folder fsynced: what any safe writer must do. The
store does that, checks every value, and takes two BLAKE2b digests of every byte; `two digests` is the time of those alone.
`behind` writes in two threads. On every folder of `--folders` (a disk and a file system in memory, say), with features
alone and with images of 20 kB. Then peak memory of one process that writes, and of one that opens and reads all blocks.
"""

import argparse
import functools
import itertools
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

import numpy as np

import cache
from benchmarks.turns import Table, per_second, report, seconds_in_turns

IMAGE_BYTES = 20_000


def make_plan(rows: int, dims: int, per_shard: int, images: str) -> cache.Plan:
    """A plan of `rows` inputs without labels."""
    return cache.Plan(
        identity={"made by": "benchmarks/writing.py"},
        readouts=(cache.Readout(name="pool", dims=dims, dtype="float16"),),
        keys=tuple(f"{row:08}.jpg" for row in range(rows)),
        labels=(-1,) * rows,
        classes=(),
        images=images,
        rows_per_shard=per_shard,
        batch_size=64,
    )


def make_rows(plan: cache.Plan, index: int) -> cache.ShardRows:
    """One shard of seeded features, and images of IMAGE_BYTES where the plan keeps any."""
    generator = np.random.default_rng(index)
    positions = plan.positions(index)
    rows, dims = len(positions), plan.readouts[0].dims
    blob = generator.bytes(IMAGE_BYTES)
    return cache.ShardRows(
        positions_N=np.arange(positions.start, positions.stop),
        hashes_N16=np.zeros((rows, 16), dtype=np.uint8),
        features={"pool": generator.standard_normal((rows, dims), np.float32).astype(np.float16)},
        images=None
        if plan.images == "none"
        else [blob[:8] + position.to_bytes(8) + blob[16:] for position in positions],
    )


def write_store(path: pathlib.Path, plan: cache.Plan, shards: list[cache.ShardRows], behind: int) -> None:
    """The store, in turn (0) or with that many shards at a time in the background."""
    with cache.StoreWriter(path, plan, provenance={}) as writer:
        if behind:
            with cache.WriteBehind(writer.write_shard, at_most=behind) as write:
                for index, rows in enumerate(shards):
                    write(index, rows)
        else:
            for index, rows in enumerate(shards):
                writer.write_shard(index, rows)
        writer.close()


def write_plain(path: pathlib.Path, blobs: list[bytes]) -> None:
    """The bytes of the shards into files that appear whole, fsynced."""
    path.mkdir()
    for index, blob in enumerate(blobs):
        partial = path / f"{index}.partial"
        with partial.open("xb", buffering=0) as file:
            file.write(blob)
            os.fsync(file.fileno())
        partial.replace(path / f"{index}.bin")
        folder = os.open(path, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def writing_table(folder: pathlib.Path, plan: cache.Plan, rounds: int, title: str) -> Table:
    """MB/s of the contestants in `folder`; what one wrote is removed before the next."""
    shards = [make_rows(plan, index) for index in range(plan.shard_count)]
    write_store(folder / "model", plan, shards, 0)
    blobs = [path.read_bytes() for path in sorted((folder / "model").glob("*.h5"))]
    fresh: Iterator[pathlib.Path] = (folder / str(number) for number in itertools.count())
    contestants: dict[str, Callable[[], object]] = {
        "plain files": lambda: write_plain(next(fresh), blobs),
        "store": lambda: write_store(next(fresh), plan, shards, 0),
        "store, behind": lambda: write_store(next(fresh), plan, shards, 2),
        "two digests, nothing written": lambda: [
            (cache.content_hash(blob), cache.content_hash(blob)) for blob in blobs
        ],
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            seconds[name] += seconds_in_turns({name: contestant}, 1)[name]
            _remove(path for path in folder.iterdir() if path.name != "model")
    _remove(folder.iterdir())
    return Table(title=title, unit="MB/s", base="plain files", values=per_second(seconds, sum(map(len, blobs)) / 1e6))


def _remove(folders: Iterator[pathlib.Path]) -> None:
    for folder in list(folders):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def memory_table(folder: pathlib.Path, rows: int, dims: int) -> Table:
    """Peak memory in processes of their own, at `rows` and ten times as many; and the bytes that each further row takes."""
    values: dict[str, list[float]] = {}
    for what in ("write", "read"):
        peaks = [_peak_mb(what, folder / f"{count}.store", count, dims) for count in (rows, 10 * rows)]
        values |= {f"{what} {count:,} rows": [peak] for count, peak in zip((rows, 10 * rows), peaks, strict=True)}
        print(f"{what}: {1e6 * (peaks[1] - peaks[0]) / (9 * rows):.0f} bytes of memory for each further row.")
    return Table(title=f"peak memory, {dims} float16 features", unit="MB", base=f"write {rows:,} rows", values=values)


def _peak_mb(what: str, store: pathlib.Path, rows: int, dims: int) -> float:
    arguments = [what, str(store), str(rows), str(dims)]
    command = [sys.executable, "-m", "benchmarks.writing", "--alone", *arguments]
    run = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return float(run.stdout) / 1e6


def alone(what: str, store: str, rows: int, dims: int) -> None:
    """Write a store and print the most bytes this process held; or open one, read all blocks, and print its own share.

    Pages of the files that a reader has mapped are not counted: the system takes them back when it needs memory.
    """
    if what == "write":
        plan = make_plan(rows, dims, 2048, "none")
        with cache.StoreWriter(store, plan, provenance={}) as writer:
            with cache.WriteBehind(writer.write_shard) as write:
                for index in writer.pending():
                    write(index, make_rows(plan, index))
            writer.close()
        print(held_bytes("VmHWM"))
    else:
        opened = cache.open(store)
        print(max(held_bytes("RssAnon") for _ in opened.features(resident_bytes=0).blocks()))


def held_bytes(kind: str) -> int:
    """Memory of this process, by its name in /proc/self/status; the most it ever had where the system has no such file."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():  # ru_maxrss of Linux begins with that of the process that started this one
        return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(kind))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=64 * 2048)
    parser.add_argument("--image-rows", type=int, default=6 * 2048)
    parser.add_argument("--dims", type=int, default=768)
    parser.add_argument("--per-shard", type=int, default=8192, help="with images a quarter of it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folders", type=pathlib.Path, nargs="+", default=[pathlib.Path(tempfile.gettempdir())])
    parser.add_argument("--memory-rows", type=int, default=20_480)
    parser.add_argument("--name", default="writing")
    parser.add_argument("--alone", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.alone:
        alone(*options.alone[:2], *map(int, options.alone[2:]))
        return
    plans = {
        f"{options.rows:,} x {options.dims} float16": make_plan(options.rows, options.dims, options.per_shard, "none"),
        f"{options.image_rows:,} x {options.dims} float16 and 20 kB images": make_plan(
            options.image_rows, options.dims, max(1, options.per_shard // 4), "original"
        ),
    }
    tables = []
    for root, (title, plan) in itertools.product(options.folders, plans.items()):
        with tempfile.TemporaryDirectory(dir=root) as name:
            tables.append(writing_table(pathlib.Path(name), plan, options.rounds, f"{title}, {file_system(root)}"))
    with tempfile.TemporaryDirectory(dir=options.folders[0]) as name:
        tables.append(memory_table(pathlib.Path(name), options.memory_rows, options.dims))
    report(options.name, tables, "benchmarks.writing", arguments)


@functools.cache
def file_system(folder: pathlib.Path) -> str:
    """The kind of file system that `folder` is on, where the system says so."""
    mounts = pathlib.Path("/proc/mounts")
    if not mounts.exists():
        return sys.platform
    found = [line.split()[1:3] for line in mounts.read_text().splitlines()]
    inside = [(len(place), kind) for place, kind in found if folder.resolve().is_relative_to(place)]
    return max(inside)[1]


if __name__ == "__main__":
    main()
