"""A plan of five images in three shards, its rows, and the writer led over them: a store that can be read with the eye."""

import hashlib

import numpy as np

import cache

KEYS = ("a/0.png", "a/1.png", "b/ä.png", "b/3.png", "b/4.png")


def make_plan(**changes):
    fields = {
        "identity": {"teacher": {"name": "a"}, "mean": [0.5]},
        "readouts": (
            cache.Readout(name="avg", dims=3, dtype="float16"),
            cache.Readout(name="cls", dims=2, dtype="float32"),
        ),
        "keys": KEYS,
        "labels": (0, 0, 1, 1, -1),
        "classes": ("a", "b"),
        "images": "original",
        "rows_per_shard": 2,
        "batch_size": 2,
    }
    return cache.Plan(**{**fields, **changes})


def make_rows(plan, index, bad=(), **changes):
    positions = [i for i in plan.positions(index) if i not in bad]
    images = [plan.keys[i].encode() * 3 for i in positions]
    rng = np.random.default_rng(index)
    hashes = b"".join(hashlib.blake2b(image, digest_size=16).digest() for image in images)
    fields = {
        "positions_N": np.array(positions, dtype=np.int64),
        "hashes_N16": np.frombuffer(hashes, dtype=np.uint8).reshape(-1, 16),
        "features": {item.name: rng.normal(size=(len(positions), item.dims)) for item in plan.readouts},
        "images": None if plan.images == "none" else images,
        "quarantine": [
            cache.Quarantined(position=i, key=plan.keys[i], reason="cut") for i in plan.positions(index) if i in bad
        ],
    }
    return cache.ShardRows(**{**fields, **changes})


def write(path, plan, bad=(), shards=None, **options):
    """Write the pending shards, or those of `shards`; close where all are there. Returns the manifest or None."""
    with cache.StoreWriter(path, plan, provenance={"host": "here"}, **options) as writer:
        for index in writer.pending() if shards is None else shards:
            writer.write_shard(index, make_rows(plan, index, bad))
        return None if writer.pending() else writer.close()
