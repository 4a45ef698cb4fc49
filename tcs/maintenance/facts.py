"""What a store holds and where it comes from, as JSON types. Loads neither torch nor a teacher."""

import pathlib
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

import cache
from cache.errors import IncompleteStoreError
from tcs.config.plain import AnyPath, given_path
from tcs.store_summary import recorded, summary_of


def store_facts(path: AnyPath) -> dict[str, Any]:
    """The facts of a store, always under the same keys; of an open one identity, rows and sizes are null.

    Rows are inputs that have features; an input in quarantine has none. Raises CacheError where there is no store, or a
    closed one is damaged.
    """
    path = given_path("path", path)
    try:
        store = cache.open(path)
    except IncompleteStoreError:
        return _open_facts(path)
    manifest, size_bytes = store.manifest, store.size_bytes
    total = path.stat().st_size if store.is_packed else sum(entry.bytes for entry in manifest.shards)
    return {
        **_planned(store.path, manifest, store.labels_N.tolist()),
        "packed": store.is_packed,
        "identity": store.identity,
        "rows": len(store),
        "shards_written": len(manifest.shards),
        "bytes": total,
        "feature_bytes": size_bytes["features"],
        "image_bytes": size_bytes["images"],
        **summary_of(store),
    }


def _open_facts(folder: pathlib.Path) -> dict[str, Any]:
    """What the manifest of an open store says, and how far it is; labels are counted over all inputs."""
    manifest = cache.read_manifest(folder)
    written = [path for path in folder.glob("shard-*.h5") if path.is_file() and not path.is_symlink()]
    return {
        **_planned(folder, manifest, manifest.labels),
        "packed": False,
        "identity": None,
        "rows": None,
        "shards_written": len(written),
        "bytes": sum(path.stat().st_size for path in written),
        "feature_bytes": None,
        "image_bytes": None,
        "duplicates": None,
        "quarantine": _as_json(cache.standing_quarantine(folder)),
        **recorded(manifest.provenance),
    }


def _planned(path: pathlib.Path, manifest: cache.Manifest, labels: Sequence[int]) -> dict[str, Any]:
    """What the manifest says of open and closed stores alike."""
    plan = manifest.plan
    counts = Counter(labels)
    by_class = [counts[label] for label in range(len(manifest.classes))]
    sizes = by_class or [0]
    return {
        "store": str(path),
        "state": manifest.state,
        "format_version": manifest.format_version,
        "inputs": len(plan.keys),
        "labelled": len(labels) - counts[-1],
        "unlabelled": counts[-1],
        "classes": list(manifest.classes),
        "rows_per_class": {"min": min(sizes), "median": statistics.median(sizes), "max": max(sizes)},
        "rows_of_class": dict(zip(manifest.classes, by_class, strict=True)),
        "labelled_later": []
        if manifest.later_labels is None
        else [dict(item) for item in manifest.later_labels.history],
        "readouts": {
            item.name: {
                "dims": item.dims,
                "dtype": item.dtype,
                "grid": None if item.grid is None else list(item.grid),
                "shape": list(plan.row_shape(item)),
            }
            for item in plan.readouts
        },
        "views": None if plan.views is None else {"count": plan.views.count, "parameters": list(plan.views.parameters)},
        "constants": {name: list(item.shape) for name, item in plan.constants.items()},
        "images": plan.images,
        "shards": plan.shard_count,
        "made_from": dict(plan.identity),
        "gate": manifest.gate,
        "quarantine": _as_json(manifest.quarantine),
        "provenance": dict(manifest.provenance),
    }


def _as_json(quarantine: Sequence[cache.Quarantined]) -> list[dict[str, str]]:
    return [{"key": entry.key, "reason": entry.reason} for entry in quarantine]
