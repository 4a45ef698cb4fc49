"""Random rows of a store's features, against np.take on one memory map of the same bytes; and against other formats.

    python -m benchmarks.gather --rows 200000 --rounds 7

Every contestant gathers the same shuffled batches of `--batch` rows of float16 features. Four tables: stores whose pages
are in memory; the other formats (few batches, they are slow; those not installed are left out); a cold page cache,
dropped before every turn; what packing costs. WebDataset has no random access, so its figure is that of a shuffled stream.
Letters: N rows, D dims, B batch.
"""

import argparse
import contextlib
import itertools
import mmap
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

import h5py
import numpy as np
from numpy.typing import NDArray

import cache
from benchmarks.other_formats import Gather, sorted_first, webdataset_stream, zarr_rows
from benchmarks.turns import Table, per_second, report, seconds_in_turns

SHARDS = (1, 16, 128)
STREAMED_ROWS = 20_000
COLD_BATCHES = 4
Batches = list[NDArray[np.int64]]


def make_store(path: pathlib.Path, features_ND: NDArray[np.float16], shards: int) -> cache.Store:
    """A closed store of these features in `shards` files, without images."""
    rows, dims = features_ND.shape
    plan = cache.Plan(
        identity={"made by": "benchmarks/gather.py"},
        readouts=(cache.Readout(name="pool", dims=dims, dtype="float16"),),
        keys=tuple(f"{row:08}.jpg" for row in range(rows)),
        labels=(-1,) * rows,
        classes=(),
        images="none",
        rows_per_shard=-(-rows // shards),
        batch_size=256,
    )
    with cache.StoreWriter(path, plan, provenance={}) as writer:
        for index in writer.pending():
            positions = plan.positions(index)
            writer.write_shard(
                index,
                cache.ShardRows(
                    positions_N=np.arange(positions.start, positions.stop),
                    hashes_N16=np.zeros((len(positions), 16), dtype=np.uint8),
                    features={"pool": features_ND[positions.start : positions.stop]},
                ),
            )
        writer.close()
    return cache.open(path)


def count(shards: int) -> str:
    """The number, with its noun."""
    return f"{shards} shard" if shards == 1 else f"{shards} shards"


def raw_map(path: pathlib.Path, features_ND: NDArray[np.float16]) -> NDArray[np.float16]:
    """One memory map of the bare bytes: what everything is measured against."""
    features_ND.tofile(path)
    return np.memmap(path, dtype=np.float16, mode="r", shape=features_ND.shape)


def shuffled(rows: int, size: int, count: int, seed: int) -> Batches:
    """`count` batches of `size` rows, each drawn without replacement."""
    generator = np.random.default_rng(seed)
    orders = itertools.chain.from_iterable(generator.permutation(rows) for _ in itertools.count())
    return [np.fromiter(itertools.islice(orders, size), np.int64, size) for _ in range(count)]


def all_of(gather: Gather, batches: Batches) -> Callable[[], None]:
    """The contestant that gathers every batch."""

    def run() -> None:
        for rows_B in batches:
            gather(rows_B)

    return run


def pack(store: cache.Store, path: pathlib.Path) -> cache.Store:
    """The store as one file."""
    cache.pack(store.path, path)
    return cache.open(path)


def warm_table(raw_ND: NDArray[np.float16], stores: dict[str, cache.Store], batches: Batches, rounds: int) -> Table:
    """Everything in memory already."""
    gathers: dict[str, Gather] = {"np.take, one map": lambda rows_B: np.take(raw_ND, rows_B, axis=0)}
    gathers |= {name: store.features(resident_bytes=0).gather for name, store in stores.items()}
    last = list(stores.values())[-1]
    gathers["resident (any layout)"] = last.features().gather
    for gather in gathers.values():  # touches every page of every map
        all_of(gather, [np.arange(len(raw_ND))])()
    seconds = seconds_in_turns({name: all_of(gather, batches) for name, gather in gathers.items()}, rounds)
    rows = sum(map(len, batches)) / 1e3
    title = f"random batches of {len(batches[0])} from {raw_ND.shape[0]:,} x {raw_ND.shape[1]} float16, in memory"
    return Table(title=title, unit="k rows/s", base="np.take, one map", values=per_second(seconds, rows))


def other_table(
    folder: pathlib.Path, raw_ND: NDArray[np.float16], store: cache.Store, batches: Batches, rounds: int
) -> Table:
    """Formats that people keep features in, for the record."""
    gathers: dict[str, Gather] = {
        "np.take, one map": lambda rows_B: np.take(raw_ND, rows_B, axis=0),
        "store, 1 shard": store.features(resident_bytes=0).gather,
    }
    file = h5py.File(folder / "others.h5", "w")
    for name, chunks in {"contiguous": None, "chunks of 64 rows": (64, raw_ND.shape[1])}.items():
        gathers[f"h5py, {name}"] = sorted_first(file.create_dataset(name, data=raw_ND, chunks=chunks))
    gathers |= zarr_rows(folder / "others.zarr", raw_ND)
    runs = {name: all_of(gather, batches) for name, gather in gathers.items()}
    rows = sum(map(len, batches))
    for run in runs.values():
        run()
    speeds = per_second(seconds_in_turns(runs, rounds), rows / 1e3)
    streams = webdataset_stream(folder / "others.tar", raw_ND[:STREAMED_ROWS])
    speeds |= per_second(seconds_in_turns(streams, rounds), min(STREAMED_ROWS, len(raw_ND)) / 1e3)
    file.close()
    return Table(
        title="the same rows in other formats, in memory", unit="k rows/s", base="np.take, one map", values=speeds
    )


def cold_table(
    raw: pathlib.Path, shape: tuple[int, ...], stores: dict[str, cache.Store], batches: Batches, rounds: int
) -> Table:
    """Each batch meets a fresh map and a file of which nothing is in memory, as in a store far larger than memory."""

    def mapped(advice: int | None = None) -> NDArray[np.float16]:
        with raw.open("rb") as file:
            buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if advice is not None:
            buffer.madvise(advice)
        return np.frombuffer(buffer, dtype=np.float16).reshape(shape)

    gathers: dict[str, Callable[[], Gather]] = {
        "np.take, one map": lambda: _take_of(mapped()),
        "np.take, one map, MADV_RANDOM": lambda: _take_of(mapped(mmap.MADV_RANDOM)),
    }
    gathers |= {name: _opener(store) for name, store in stores.items()}
    files = [raw, *itertools.chain.from_iterable(_files(store) for store in stores.values())]
    turns = itertools.cycle(batches)
    speeds: dict[str, list[float]] = {name: [] for name in gathers}
    for _ in range(rounds):
        for name, opened in gathers.items():
            speeds[name].append(_cold_speed(opened, list(itertools.islice(turns, COLD_BATCHES)), files))
    title = f"the same with a cold page cache; the disk reads ahead {_read_ahead(raw)}"
    return Table(title=title, unit="k rows/s", base="np.take, one map", values=speeds)


def _cold_speed(opened: Callable[[], Gather], batches: Batches, files: Sequence[pathlib.Path]) -> float:
    """k rows/s over batches, each gathered by a gather of its own after dropping the pages of all files."""
    seconds = 0.0
    for rows_B in batches:
        drop_pages(files)
        gather = opened()
        start = time.perf_counter()
        gather(rows_B)
        seconds += time.perf_counter() - start
    return sum(map(len, batches)) / seconds / 1e3


def _read_ahead(path: pathlib.Path) -> str:
    """How much the system reads around a page it misses."""
    device = path.stat().st_dev
    queue = pathlib.Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    for folder in (queue, queue.resolve().parent):
        with contextlib.suppress(OSError):
            return f"{int((folder / 'queue' / 'read_ahead_kb').read_text()):,} kB"
    return "an unknown amount"


def _take_of(map_ND: NDArray[np.float16]) -> Gather:
    return lambda rows_B: np.take(map_ND, rows_B, axis=0)


def _opener(store: cache.Store) -> Callable[[], Gather]:
    def opened() -> Gather:
        gather = store.features(resident_bytes=0).gather
        gather([])  # makes the maps, and reads nothing
        return gather

    return opened


def _files(store: cache.Store) -> Sequence[pathlib.Path]:
    return [store.path] if store.path.is_file() else sorted(store.path.glob("*.h5"))


def drop_pages(files: Sequence[pathlib.Path]) -> None:
    """Ask the system to forget what it holds of these files; needs no rights, works where no map of them is left."""
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def pack_table(store: cache.Store, folder: pathlib.Path, size_bytes: int, rounds: int) -> Table:
    """Packing, against copying the same files."""
    fresh: Iterator[pathlib.Path] = (folder / f"packed-{number}.h5" for number in itertools.count())

    def copy() -> None:
        target = next(fresh)
        with target.open("wb") as out:
            for path in _files(store):
                out.write(path.read_bytes())
            os.fsync(out.fileno())
        target.unlink()

    def run() -> None:
        target = next(fresh)
        cache.pack(store.path, target)
        target.unlink()

    seconds = seconds_in_turns({"copy of the shards, fsync": copy, "cache.pack": run}, rounds)
    return Table(
        title="packing", unit="MB/s", base="copy of the shards, fsync", values=per_second(seconds, size_bytes / 1e6)
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dims", type=int, default=768)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--batches", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="gather")
    options = parser.parse_args(arguments)
    features_ND = np.random.default_rng(options.seed).standard_normal((options.rows, options.dims), np.float32)
    half_ND = features_ND.astype(np.float16)
    del features_ND
    with tempfile.TemporaryDirectory() as name:
        tables = measure(pathlib.Path(name), half_ND, options)
    report(options.name, tables, "benchmarks.gather", arguments)


def measure(folder: pathlib.Path, half_ND: NDArray[np.float16], options: argparse.Namespace) -> list[Table]:
    """All tables."""
    stores = {f"store, {count(shards)}": make_store(folder / f"{shards}.store", half_ND, shards) for shards in SHARDS}
    stores["packed store"] = pack(stores[f"store, {count(SHARDS[1])}"], folder / "packed.h5")
    raw_ND = raw_map(folder / "raw.bin", half_ND)
    batches = shuffled(options.rows, options.batch, options.batches, options.seed)
    tables = [warm_table(raw_ND, stores, batches, options.rounds)]
    few = batches[: max(1, options.batches // 40)]
    tables.append(other_table(folder, raw_ND, stores["store, 1 shard"], few, min(3, options.rounds)))
    del raw_ND
    tables.append(cold_table(folder / "raw.bin", half_ND.shape, stores, batches, options.rounds))
    tables.append(pack_table(stores[f"store, {count(SHARDS[1])}"], folder, half_ND.nbytes, min(3, options.rounds)))
    return tables


if __name__ == "__main__":
    main()
