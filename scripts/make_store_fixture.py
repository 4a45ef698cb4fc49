"""Write the tiny store that tests read as the stored example of the current format version.

Run once per format version, from the repository root, and commit the result; tests never rewrite it:

    python scripts/make_store_fixture.py tests/fixtures/store_v1

Five inputs in shards of two: `b/2.png` is without a label, `a/ä 4.png` is in quarantine and leaves the last shard
empty. Row i has features avg[i, d] = i + d / 4 (float16, D = 3) and cls[i, d] = -i * 10 - d (float32, D = 2), with i the input's position.
"""

import sys

import numpy as np

import cache

KEYS = ("a/0.png", "a/1.png", "b/2.png", "b/3.png", "a/ä 4.png")
BAD = cache.Quarantined(position=4, key=KEYS[4], reason="truncated file")


def fixture_plan() -> cache.Plan:
    """The plan of the example."""
    return cache.Plan(
        identity={"teacher": {"name": "example", "weights": "none"}, "semantics": 1},
        readouts=(
            cache.Readout(name="avg", dims=3, dtype="float16"),
            cache.Readout(name="cls", dims=2, dtype="float32"),
        ),
        keys=KEYS,
        labels=(0, 0, -1, 1, 0),
        classes=("a", "b"),
        images="original",
        rows_per_shard=2,
        batch_size=2,
    )


def fixture_rows(plan: cache.Plan, index: int) -> cache.ShardRows:
    """The rows of shard `index`: each image is its key in UTF-8, repeated once more than its position says."""
    positions_N = np.array([i for i in plan.positions(index) if i != BAD.position], dtype=np.int64)
    images = [KEYS[i].encode() * (i + 1) for i in positions_N.tolist()]
    hashes = b"".join(cache.content_hash(image) for image in images)
    rows_N1 = positions_N[:, None]
    return cache.ShardRows(
        positions_N=positions_N,
        hashes_N16=np.frombuffer(hashes, dtype=np.uint8).reshape(-1, 16),
        features={
            "avg": (rows_N1 + np.arange(3) / 4).astype(np.float32),
            "cls": (-rows_N1 * 10.0 - np.arange(2)).astype(np.float32),
        },
        images=images,
        quarantine=[BAD] if BAD.position in plan.positions(index) else [],
    )


def main(path: str) -> None:
    """Write the example to `path`, which must not be there yet."""
    plan = fixture_plan()
    with cache.StoreWriter(path, plan, provenance={"made_by": "scripts/make_store_fixture.py"}) as writer:
        for index in writer.pending():
            writer.write_shard(index, fixture_rows(plan, index))
        writer.close()


if __name__ == "__main__":
    main(sys.argv[1])
