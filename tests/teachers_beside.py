"""A second teacher's store of the images of another store, written with plain arrays. Legend: N rows, V views, D dims, C classes."""

import pathlib
from typing import Any

import numpy as np

import cache


def write_beside(
    path: pathlib.Path,
    first: cache.Store,
    *,
    dims: int = 10,
    seed: int = 7,
    readouts: tuple[str | cache.Readout, ...] = ("avg",),
    shape: tuple[int, ...] | None = None,
    order: np.ndarray | None = None,
    noise: float = 1.0,
    **changes: Any,
) -> cache.Store:
    """Rows of `first` (in the `order` of their numbers), features around other class centres; `changes` are fields of its plan.

    A vector of `shape` (that of the views of `first`) is there for each row;
    `hashes` and `views_NVP` among the changes stand for those of `first`.
    """
    rows_N = np.arange(len(first)) if order is None else order
    plan = first.manifest.plan
    held = [
        cache.Readout(name=item, dims=dims, dtype="float32") if isinstance(item, str) else item for item in readouts
    ]
    shape = (() if plan.views is None else (plan.views.count,)) if shape is None else shape
    rng, labels_N = np.random.default_rng(seed), first.labels_N[rows_N]
    centres_CD = 50 * rng.standard_normal((len(first.classes) + 1, dims))
    features = centres_CD[labels_N].reshape(len(rows_N), *(1 for _ in shape), dims) + 50 * noise * rng.standard_normal(
        (len(rows_N), *shape, dims)
    )
    hashes_N16 = changes.pop("hashes", first.hashes_N16)[rows_N]
    views_NVP = changes.pop("views_NVP", None if plan.views is None else first.view_parameters()[:])
    fields: dict[str, Any] = {
        "identity": {**plan.identity, "teacher": f"other {seed}"},
        "readouts": tuple(held),
        "keys": tuple(first.keys[row] for row in rows_N),
        "labels": tuple(labels_N.tolist()),
        "classes": first.classes,
        "images": "none",
        "rows_per_shard": len(rows_N),
        "batch_size": 8,
        "views": plan.views,
    }
    with cache.StoreWriter(path, cache.Plan(**fields | changes), provenance={}) as writer:
        rows = cache.ShardRows(
            positions_N=np.arange(len(rows_N)),
            hashes_N16=hashes_N16,
            features={item.name: features.astype(np.float32) for item in held},
            images=None,
            views_NVP=None if views_NVP is None else views_NVP[rows_N],
        )
        writer.write_shard(0, rows)
        writer.close()
    return cache.open(path)


def unit(x_ND: np.ndarray) -> np.ndarray:
    """Rows of length 1, float64."""
    x_ND = np.asarray(x_ND, np.float64)
    return x_ND / np.linalg.norm(x_ND, axis=-1, keepdims=True)
