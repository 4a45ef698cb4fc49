"""The operations that write stores, small enough to be killed hundreds of times: what `fault_harness.py` disturbs.

Each runs in the current folder, makes or resumes `out` there, and does nothing where that is done. A new operation is a
function and a line in the table.
"""

import dataclasses
import pathlib
import time
from collections.abc import Callable

import numpy as np

import cache

SHARDS, ROWS = 12, 4
IMAGE_BYTES = 20_000


def plan(name: str) -> cache.Plan:
    """The plan of a small store whose keys begin with its name."""
    keys = tuple(f"{name}/{i}" for i in range(SHARDS * ROWS))
    return cache.Plan(
        identity={"teacher": "a"},
        readouts=(cache.Readout(name="avg", dims=8, dtype="float16"),),
        keys=keys,
        labels=(-1,) * len(keys),
        classes=(),
        images="original",
        rows_per_shard=ROWS,
        batch_size=ROWS,
    )


def rows(of: cache.Plan, index: int) -> cache.ShardRows:
    """The rows of a shard, a function of the plan and the index."""
    rng = np.random.default_rng([index, *of.keys[0].encode()])
    images = [rng.bytes(IMAGE_BYTES) for _ in range(ROWS)]
    hashes = b"".join(cache.content_hash(image) for image in images)
    return cache.ShardRows(
        positions_N=np.array(of.positions(index)),
        hashes_N16=np.frombuffer(hashes, np.uint8).reshape(-1, 16),
        features={"avg": rng.normal(size=(ROWS, 8))},
        images=images,
    )


def write(name: str = "out", close: bool = True, slow_seconds: float = 0) -> None:
    """Write a store, or what is left of it."""
    with cache.StoreWriter(name, plan(name), provenance={}) as writer:
        for index in writer.pending():
            time.sleep(slow_seconds)
            writer.write_shard(index, rows(writer.plan, index))
        if close:
            writer.close()


def write_two() -> None:
    """What merge, subset and pack read."""
    write("a")
    write("b")


def create() -> None:
    """What `tcs cache import` does."""
    of = plan("out")
    images = [image for index in range(SHARDS) for image in rows(of, index).images or ()]
    cache.create(
        "out", {"avg": np.arange(len(images) * 8.0).reshape(-1, 8)}, keys=of.keys, images=images, rows_per_shard=ROWS
    )


def write_packed() -> None:
    """What unpack reads."""
    write("a")
    cache.pack("a", "a.h5")


def label() -> None:
    """What `tcs cache label` does."""
    cache.set_labels("out", {key: "ab"[i % 2] for i, key in enumerate(plan("out").keys[:30])}, source={"file": "a.csv"})


def damage() -> None:
    """A closed store with a missing shard and a bad one."""
    write()
    pathlib.Path("out/shard-00003.h5").unlink()
    with pathlib.Path("out/shard-00007.h5").open("r+b") as file:
        file.seek(5000)
        file.write(b"damage")


def mend() -> None:
    """What `tcs cache repair` does, with made-up rows in place of a teacher."""
    found = cache.verify("out")
    if not found.is_sound:
        cache.discard_shards("out", found.bad_shards, plan("out"))
        write()


def grow() -> None:
    """What `tcs cache update` does, with made-up rows in place of a teacher: the next state of `out` has the rows of `b` as well."""
    with cache.Replacement("out") as replacement:
        before, other = cache.open("out"), cache.open("b")
        if "parent" not in before.manifest.provenance:
            keys = (*before.keys, *other.keys)
            of = dataclasses.replace(before.manifest.plan, keys=keys, labels=(-1,) * len(keys))
            source = {True: cache.DerivedFrom(before), False: cache.DerivedFrom(other)}
            with cache.StoreWriter(replacement.new, of, provenance={"parent": {"identity": before.identity}}) as writer:
                for index in writer.pending():
                    positions_N = np.array(of.positions(index))
                    is_old = bool(positions_N[0] < len(before))
                    rows_N = positions_N - (0 if is_old else len(before))
                    writer.write_shard(index, cache.carried_rows(source[is_old], of, positions_N, rows_N))
                writer.close()
            replacement.commit()
    assert cache.open("out.old").keys == cache.open("out").keys[: SHARDS * ROWS]


def grow_by_renames() -> None:
    """The same where folders cannot change places in one step."""
    from cache import replacement

    replacement.exchanged = lambda one, other: False  # noqa: ARG005
    grow()


def write_and_more() -> None:
    """What an update begins with."""
    write()
    write("b")


def make_images() -> None:
    """24 images, and the weights of a tiny teacher."""
    import timm
    import torch
    from PIL import Image
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), "w.safetensors")
    pathlib.Path("data").mkdir(exist_ok=True)
    for i in range(24):
        pixels_HW3 = np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels_HW3).save(f"data/{i}.png")


def extract(workers: int = 0) -> None:
    """`tcs extract`."""
    import torch

    from tcs.config.extract import ExtractConfig
    from tcs.extraction.extract import extract

    torch.set_num_threads(1)
    extract(
        ExtractConfig(
            data="data",
            out="out",
            teacher="test_resnet",
            teacher_checkpoint="w.safetensors",
            img_size=32,
            rows_per_shard=2,
            batch_size=8,
            workers=workers,
        )
    )


def damage_extraction() -> None:
    """An extracted store with a missing shard and a bad one."""
    make_images()
    extract()
    pathlib.Path("out/shard-00002.h5").unlink()
    data = bytearray(pathlib.Path("out/shard-00005.h5").read_bytes())
    data[-1] ^= 1
    pathlib.Path("out/shard-00005.h5").write_bytes(data)


def make_more_images() -> None:
    """An extracted store, and then an image more, one less and another one."""
    make_images()
    extract()
    pathlib.Path("data/3.png").unlink()
    pathlib.Path("data/5.png").write_bytes(pathlib.Path("data/6.png").read_bytes())
    pathlib.Path("data/7.png").rename("data/70.png")
    from PIL import Image

    Image.new("RGB", (40, 30), (9, 8, 7)).save("data/50.png")


def update() -> None:
    """`tcs cache update`."""
    import torch

    from tcs.config.update import UpdateConfig
    from tcs.maintenance.update import update

    torch.set_num_threads(1)
    update(UpdateConfig(store="out"))


def repair() -> None:
    """`tcs cache repair`."""
    from tcs.config.extract import RepairConfig
    from tcs.maintenance.repair import repair

    repair(RepairConfig(store="out"))


@dataclasses.dataclass(frozen=True)
class Operation:
    """`run` makes or resumes `out` from what `prepare` made; one that `mends` begins with bad shards, one that `replaces` with a store
    that has its name until the new one is whole (`at_once`: at every moment one of both has it)."""

    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None
    out: str = "out"
    mends: bool = False
    replaces: bool = False
    at_once: bool = False


OPERATIONS: dict[str, Operation] = {
    "write": Operation(write),
    "close": Operation(write, lambda: write(close=False)),
    "record a gate": Operation(lambda: cache.set_gate("out", {"knn": 50.0}), write),
    "label": Operation(label, write),
    "mend": Operation(mend, damage, mends=True),
    "merge": Operation(lambda: cache.merge(["a", "b"], "out"), write_two),
    "subset": Operation(lambda: cache.subset("a", "out", keys=plan("a").keys[:30]), write_two),
    "pack": Operation(lambda: cache.pack("a", "out.h5"), write_two, "out.h5"),
    "unpack": Operation(lambda: cache.unpack("a.h5", "out"), write_packed),
    "create": Operation(create),
    "update": Operation(grow, write_and_more, replaces=True, at_once=True),
    "update by renames": Operation(grow_by_renames, write_and_more, replaces=True),
}
# These load torch
WITH_TEACHER: dict[str, Operation] = {
    "tcs extract": Operation(extract, make_images),
    "tcs cache repair": Operation(repair, damage_extraction, mends=True),
    "tcs cache update": Operation(update, make_more_images, replaces=True, at_once=True),
}
