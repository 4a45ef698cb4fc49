"""Random rows of a store's features, against np.take on one memory map of the same bytes; and against other formats.

    python -m benchmarks.gather --rows 200000 --rounds 7

Every contestant gathers the same shuffled batches of `--batch` rows of float16 features. Four tables: stores whose pages
are in memory; the other formats (few batches, they are slow; those not installed are left out); a cold page cache,
dropped before every turn; what packing costs. WebDataset has no random access, so its figure is that of a shuffled stream.
Letters: N rows, D dims, B batch.
"""

import argparse
import contextlib
import io
import itertools
import mmap
import os
import pathlib
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

import cache
from benchmarks.turns import Table, per_second, report, seconds_in_turns

SHARDS = (1, 16, 128)
STREAMED_ROWS = 20_000
COLD_BATCHES = 4
Batches = list[NDArray[np.int64]]
Gather = Callable[[Any], object]


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


def pack(store: cache.Store, path: pathlib.Path) -> cache.Store | None:
    """The store as one file; None, with a word, where this version cannot pack."""
    packer = getattr(cache, "pack", None)
    if packer is None:
        print("cache.pack does not exist in this version: the rows of packed stores are left out.")
        return None
    packer(store.path, path)
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
        gathers[f"h5py, {name}"] = _sorted_first(file.create_dataset(name, data=raw_ND, chunks=chunks))
    gathers |= _zarr(folder / "others.zarr", raw_ND)
    runs = {name: all_of(gather, batches) for name, gather in gathers.items()}
    rows = sum(map(len, batches))
    for run in runs.values():
        run()
    speeds = per_second(seconds_in_turns(runs, rounds), rows / 1e3)
    streams = _webdataset(folder / "others.tar", raw_ND[:STREAMED_ROWS])
    speeds |= per_second(seconds_in_turns(streams, rounds), min(STREAMED_ROWS, len(raw_ND)) / 1e3)
    file.close()
    return Table(
        title="the same rows in other formats, in memory", unit="k rows/s", base="np.take, one map", values=speeds
    )


def _sorted_first(dataset: h5py.Dataset) -> Gather:
    """h5py demands ascending rows, so they are sorted and put back."""

    def gather(rows_B: NDArray[np.int64]) -> NDArray[np.float16]:
        order_B = np.argsort(rows_B)
        found_BD = np.empty((len(rows_B), dataset.shape[1]), dtype=np.float16)
        found_BD[order_B] = dataset[rows_B[order_B]]
        return found_BD

    return gather


def _zarr(path: pathlib.Path, raw_ND: NDArray[np.float16]) -> dict[str, Gather]:
    try:
        import zarr
    except ImportError:
        print("zarr is not installed: its row is left out.")
        return {}
    array = zarr.create_array(
        path, shape=raw_ND.shape, dtype="float16", chunks=(1024, raw_ND.shape[1]), compressors=None
    )
    array[:] = raw_ND
    return {"zarr 3, chunks of 1,024 rows": lambda rows_B: array.oindex[rows_B]}


def _webdataset(path: pathlib.Path, raw_MD: NDArray[np.float16]) -> dict[str, Callable[[], object]]:
    """One pass over a tar of one .npy a row, through a shuffle buffer of 1,000 rows."""
    try:
        import webdataset
    except ImportError:
        print("webdataset is not installed: its row is left out.")
        return {}
    with tarfile.open(path, "w") as tar:
        for number, row_D in enumerate(raw_MD):
            buffer = io.BytesIO()
            np.save(buffer, row_D)
            member = tarfile.TarInfo(f"{number:08}.npy")
            member.size = buffer.tell()
            buffer.seek(0)
            tar.addfile(member, buffer)

    def stream() -> int:
        data = webdataset.WebDataset(str(path), shardshuffle=False).shuffle(1000).decode().to_tuple("npy")
        return sum(1 for _ in data)

    return {"WebDataset, shuffled stream": stream}


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


def pack_table(store: cache.Store, folder: pathlib.Path, size_bytes: int, rounds: int) -> Table | None:
    """Packing, against copying the same files."""
    packer = getattr(cache, "pack", None)
    if packer is None:
        return None
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
        packer(store.path, target)
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
    packed = pack(stores[f"store, {count(SHARDS[1])}"], folder / "packed.h5")
    if packed is not None:
        stores["packed store"] = packed
    raw_ND = raw_map(folder / "raw.bin", half_ND)
    batches = shuffled(options.rows, options.batch, options.batches, options.seed)
    tables = [warm_table(raw_ND, stores, batches, options.rounds)]
    few = batches[: max(1, options.batches // 40)]
    tables.append(other_table(folder, raw_ND, stores["store, 1 shard"], few, min(3, options.rounds)))
    del raw_ND
    tables.append(cold_table(folder / "raw.bin", half_ND.shape, stores, batches, options.rounds))
    packing = pack_table(stores[f"store, {count(SHARDS[1])}"], folder, half_ND.nbytes, min(3, options.rounds))
    return tables if packing is None else [*tables, packing]


if __name__ == "__main__":
    main()
