"""What an update takes over from the store that it follows: options, provenance, counts of images.

Legend: N rows of the store, n some of them, P inputs of the new plan.
"""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cache
from tcs.config.extract import FITTED_PROJECTIONS, ExtractConfig, as_json
from tcs.config.update import UpdateConfig
from tcs.coordinates.lineage import earlier_rows
from tcs.errors import ArtefactError
from tcs.extraction.counted import Counted, counted_in
from tcs.extraction.plan import Extraction
from tcs.extraction.seen import SeenImages, look_at
from tcs.images.decode import BadImageError, decode_told
from tcs.images.listing import ImageList
from tcs.images.recorded import recorded_config, require_path
from tcs.images.stored import rules_of
from tcs.images.told import PixelCounts
from tcs.maintenance.changes import StoreChanges
from tcs.runtime import environment, progress_bar
from tcs.splits.followed import Followed
from tcs.store_summary import PIXELS, SEEN
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
    followed: Followed,
    options: ExtractConfig,
    store: cache.Store,
    images: ImageList,
    changes: StoreChanges,
    work: Extraction | None,
) -> dict[str, Any]:
    """As of an extraction, and beside it where the rows come from that were not extracted now."""
    before = store.manifest.provenance
    earlier = [{"identity": identity, "rows": rows} for identity, rows in earlier_rows(store).items()]
    recorded = {"config": as_json(_recorded(options, changes.plan))}
    return {
        **recorded,
        **followed.entries(recorded),
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


def _recorded(options: ExtractConfig, plan: cache.Plan) -> ExtractConfig:
    """The options by which the store can be extracted again: a fitted projection is that of as many images as it was fitted to."""
    facts = [fact for fact in plan.identity.get("projections", {}).values() if fact["method"] in FITTED_PROJECTIONS]
    if not facts or options.projection_from is not None:
        return options
    return dataclasses.replace(options, projection_images=facts[0]["images"])


def counts_of(store: cache.Store, changes: StoreChanges, counted: Counted) -> dict[str, Any]:
    """What was counted of the images, as entries of the provenance: of those extracted now, and of all before, less those that went.

    Rows that went, or go by several names now, are looked at again, for which the store has to keep the original images, and all of
    them have to be counted. Else the counts are of those extracted now alone; they say of how many images they are.
    """
    uses_N = np.bincount(changes.row_P[changes.row_P >= 0], minlength=len(store))
    odd_n = np.flatnonzero(uses_N != 1).tolist()
    before, found = counted_in([store.manifest.provenance]), Counted()
    keeps = store.manifest.plan.images == "original"
    known = [part for part in (before.seen, before.pixels) if not odd_n or (keeps and part.images == len(store))]
    facts = _looked_at(store, odd_n) if known else None
    if facts is not None:
        names = _names_by_row(store, changes)
        for part in known:
            _follow(part, store, uses_N, names, facts[type(part)])
            found.take({SEEN if part is before.seen else PIXELS: part.to_json()})
    found.take(counted.to_json())
    return found.to_json()


def _looked_at(store: cache.Store, rows_n: list[int]) -> dict[type, dict[int, Any]] | None:
    """What `SeenImages` and `PixelCounts` count of these rows; None where one of them cannot be decoded (any more)."""
    seen, done = {}, {}
    with progress_bar(len(rows_n), "count images", "images") as bar:
        for row in rows_n:
            data = store.image_bytes(row)
            try:
                decoded = decode_told(data, rules_of(store))
            except BadImageError:
                return None
            seen[row], done[row] = look_at(data, decoded.image), decoded.done
            bar.advance(1)
    return {SeenImages: seen, PixelCounts: done}


def _follow(
    part: SeenImages | PixelCounts,
    store: cache.Store,
    uses_N: NDArray[np.int64],
    names: dict[int, list[str]],
    facts: dict[int, Any],
) -> None:
    """Take what went out of counts of all rows, name the rest as it is named now, and add rows that go by more names than one."""
    part.remove((store.keys[row], fact) for row, fact in facts.items() if not uses_N[row])
    part.rename({store.keys[row]: keys[0] for row, keys in names.items()})
    part.add((key, fact) for row, fact in facts.items() for key in names.get(row, ())[1:])


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
