"""What an update takes over from the store that it follows: options, provenance, counts of images."""

import dataclasses
from typing import Any

import numpy as np

import cache
from tcs.config.extract import FITTED_PROJECTIONS, ExtractConfig, as_json
from tcs.config.update import UpdateConfig
from tcs.coordinates.lineage import earlier_rows
from tcs.errors import ArtefactError
from tcs.extraction.counted import Counted
from tcs.extraction.plan import Extraction
from tcs.extraction.seen import SeenImages, look_at
from tcs.images.decode import decode_image
from tcs.images.listing import ImageList
from tcs.images.recorded import recorded_config, require_path
from tcs.images.stored import rules_of
from tcs.images.told import PixelCounts
from tcs.maintenance.changes import StoreChanges
from tcs.runtime import environment, progress_bar
from tcs.store_summary import recorded
from tcs.teacher.source import teacher_to_run


def recorded_options(config: UpdateConfig, store: cache.Store) -> ExtractConfig:
    """The recorded options with those that are given now. ArtefactError where none are recorded; a label file is read apart."""
    provenance = store.manifest.provenance
    if "config" not in provenance:
        raise ArtefactError(
            f"{store.path} does not record the options of a tcs extract run, so nothing can be extracted as its rows were; update the "
            "store that it was made from, and make it again, or extract the new images and use tcs cache merge."
        )
    names = (
        "data",
        "split",
        "data_dir",
        "class_map",
        "unlabelled_data",
        "teacher_checkpoint",
        "device",
        "workers",
        "max_bad",
    )
    options = recorded_config(store.path, provenance, {name: getattr(config, name) for name in names})
    require_path(options.data, "DATA", store.path)
    return dataclasses.replace(options, teacher=teacher_to_run(options.teacher, config.teacher))


def provenance_of(
    config: UpdateConfig,
    options: ExtractConfig,
    store: cache.Store,
    images: ImageList,
    changes: StoreChanges,
    work: Extraction | None,
) -> dict[str, Any]:
    """As of an extraction, and beside it where the rows come from that were not extracted now."""
    before = store.manifest.provenance
    earlier = [{"identity": identity, "rows": rows} for identity, rows in earlier_rows(store).items()]
    return {
        "config": as_json(_recorded(config, options, changes.plan)),
        "data": dict(images.origin),
        "teacher": before.get("teacher", {}) if work is None else dict(work.teacher.provenance),
        "environment": environment(),
        cache.PARENT: {
            "store": store.path.name,
            "identity": store.identity,
            "rows": len(store),
            "inputs": changes.inputs,
            **changes.counts,
            "earlier": earlier,
        },
    }


def _recorded(config: UpdateConfig, options: ExtractConfig, plan: cache.Plan) -> ExtractConfig:
    """The options by which the store can be extracted again: a fitted projection is that of as many images as it was fitted to."""
    if config.label_file is not None and options.label_file is not None:
        options = dataclasses.replace(options, label_file=config.label_file)
    facts = [fact for fact in plan.identity.get("projections", {}).values() if fact["method"] in FITTED_PROJECTIONS]
    if not facts or options.projection_from is not None:
        return options
    return dataclasses.replace(options, projection_images=facts[0]["images"])


def seen_of(store: cache.Store, changes: StoreChanges, counted: Counted) -> dict[str, Any]:
    """What was counted of the images: of those extracted for the update, and of all before, less those that went.

    Of the latter alone where the store keeps the original images, for they have to be looked at again; else, where some went, of those
    extracted now.
    """
    found = SeenImages()
    found.add_counts(counted.seen.to_json())
    before = recorded(store.manifest.provenance)["seen"]
    uses_N = np.bincount(changes.row_P[changes.row_P >= 0], minlength=len(store))
    odd_n = np.flatnonzero(uses_N != 1).tolist()
    if before is None or before["images"] != len(store) or (odd_n and store.manifest.plan.images != "original"):
        return found.to_json()
    found.add_counts(before)
    names = _names_by_row(store, changes)
    with progress_bar(len(odd_n), "count images", "images") as bar:
        for row in odd_n:
            data = store.image_bytes(row)
            seen = look_at(data, decode_image(data, rules_of(store)))
            if uses_N[row]:
                found.add((key, seen) for key in names[row][1:])
            else:
                found.remove([(store.keys[row], seen)])
            bar.advance(1)
    found.rename({store.keys[row]: keys[0] for row, keys in names.items()})
    return found.to_json()


def pixels_of(store: cache.Store, changes: StoreChanges, counted: Counted) -> PixelCounts:
    """What was done to make pixels: of the images extracted for the update, and of all before where each of them is still there once."""
    found = PixelCounts()
    found.take(counted.pixels.to_json())
    before = recorded(store.manifest.provenance)["pixels"]
    uses_N = np.bincount(changes.row_P[changes.row_P >= 0], minlength=len(store))
    if before is not None and before.keys() >= {"images", "counts", "keys"} and (uses_N == 1).all():
        found.take(before)
    return found


def _names_by_row(store: cache.Store, changes: StoreChanges) -> dict[int, list[str]]:
    """The keys that go by the features of a row, its own first, of each row that another key than its own goes by."""
    found: dict[int, list[str]] = {}
    for key, row in zip(changes.plan.keys, changes.row_P.tolist(), strict=True):
        if row >= 0 and key != store.keys[row]:
            found.setdefault(row, []).append(key)
    own = {
        key
        for key, row in zip(changes.plan.keys, changes.row_P.tolist(), strict=True)
        if row in found and key == store.keys[row]
    }
    return {row: [store.keys[row], *keys] if store.keys[row] in own else keys for row, keys in found.items()}
