"""Write the tiny store that tests read as the stored example of the current format version.

Run once per format version, from the repository root, and commit the result; tests never rewrite it:

    python scripts/make_store_fixture.py tests/fixtures/store_v2
    python scripts/make_store_fixture.py tests/fixtures/store_v3 --labels

Five inputs in shards of two: `b/2.png` is without a label, `a/ä 4.png` is in quarantine and leaves the last shard
empty. View v of row i has features avg[i, v, d] = i + v / 2 + d / 4 (float16, D = 3) and map[i, v, h, w, d] = -10 i - v - 2 w - d
(float32, a grid of 1 x 2, D = 2), with i the input's position; its parameters are flip = v and top = i. The one constant
is `projection/map`, ((1, 0), (0, 1)). With `--labels` `b/2.png` is given the class c, and `b/3.png` the class a: version 3.
"""

import sys

import numpy as np

import cache

KEYS = ("a/0.png", "a/1.png", "b/2.png", "b/3.png", "a/ä 4.png")
VIEWS = 2
BAD = cache.Quarantined(position=4, key=KEYS[4], reason="truncated file")


def fixture_plan() -> cache.Plan:
    """The plan of the example."""
    return cache.Plan(
        identity={"teacher": {"name": "example", "weights": "none"}, "semantics": 1},
        readouts=(
            cache.Readout(name="avg", dims=3, dtype="float16"),
            cache.Readout(name="map", dims=2, dtype="float32", grid=(1, 2)),
        ),
        keys=KEYS,
        labels=(0, 0, -1, 1, 0),
        classes=("a", "b"),
        images="original",
        rows_per_shard=2,
        batch_size=2,
        views=cache.Views(count=VIEWS, parameters=("flip", "top")),
        constants={"projection/map": cache.Constant.of(np.eye(2, dtype=np.float32))},
    )


def fixture_rows(plan: cache.Plan, index: int) -> cache.ShardRows:
    """The rows of shard `index`: each image is its key in UTF-8, repeated once more than its position says."""
    positions_N = np.array([i for i in plan.positions(index) if i != BAD.position], dtype=np.int64)
    images = [KEYS[i].encode() * (i + 1) for i in positions_N.tolist()]
    hashes = b"".join(cache.content_hash(image) for image in images)
    row, view, column, dim = positions_N[:, None, None, None], *np.ogrid[:VIEWS, :2, :2]
    avg_NVD = positions_N[:, None, None] + np.arange(VIEWS)[:, None] / 2 + np.arange(3) / 4
    map_NVWD = -10.0 * row - view - 2 * column - dim
    views_NVP = np.stack(np.broadcast_arrays(np.arange(VIEWS), positions_N[:, None]), axis=-1)
    return cache.ShardRows(
        positions_N=positions_N,
        hashes_N16=np.frombuffer(hashes, dtype=np.uint8).reshape(-1, 16),
        features={
            "avg": avg_NVD.astype(np.float32),
            "map": map_NVWD[:, :, None].astype(np.float32),
        },
        images=images,
        quarantine=[BAD] if BAD.position in plan.positions(index) else [],
        views_NVP=views_NVP.astype(np.float32),
    )


def main(path: str, *, with_labels: bool = False) -> None:
    """Write the example to `path`, which must not be there yet, and give it labels if asked."""
    plan = fixture_plan()
    with cache.StoreWriter(path, plan, provenance={"made_by": "scripts/make_store_fixture.py"}) as writer:
        for index in writer.pending():
            writer.write_shard(index, fixture_rows(plan, index))
        writer.close()
    if with_labels:
        cache.set_labels(path, {"b/2.png": "c", "b/3.png": "a"}, source={"file": "labels.csv"})


if __name__ == "__main__":
    main(sys.argv[1], with_labels="--labels" in sys.argv[2:])
