"""Take part of a store: some of its inputs, or of what is kept of each."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cache.derivation import Origins, PathLike, Progress, write_derived
from cache.errors import SchemaError
from cache.fields import require, shortened
from cache.reader import Store
from cache.reader import open as open_store
from cache.schema import FORMAT_VERSION, Plan

_LISTED = 5  # names in an error line


def subset(
    path: PathLike,
    out: PathLike,
    *,
    classes: Iterable[str] | None = None,
    keys: Iterable[str] | None = None,
    readouts: Iterable[str] | None = None,
    images: str | None = None,
    rows_per_shard: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write the inputs of `classes` and `keys` (both given: of both) of the store `path` into the store `out`; returns `out`.

    The order is the store's; classes without an input are left out. `readouts` names those to keep, `images="none"` leaves
    the images out. Features, images and hashes are copied bit for bit, inputs in quarantine stay there. The same call
    resumes. Raises SchemaError naming a class, key or readout that the store lacks, or where nothing is left, and what
    `cache.open` and `StoreWriter` raise.
    """
    for option, given in (("classes", classes), ("keys", keys), ("readouts", readouts)):
        require(not isinstance(given, str), f"{option} is '{given}', a single one; it must be a list, as ['{given}']")
    store = open_store(path)
    position_P = _positions(store, classes, keys)
    plan = _subset_plan(store, position_P.tolist(), readouts, images, rows_per_shard)
    origins = Origins(stores=[store], store_P=np.zeros(len(position_P), dtype=np.int64), position_P=position_P)
    write_derived(Path(out), plan, origins, how="subset", overwrite=overwrite, progress=progress)
    return Path(out)


def _positions(store: Store, classes: Iterable[str] | None, keys: Iterable[str] | None) -> np.ndarray:
    """The chosen input positions of the store's plan, ascending, int64."""
    plan = store.manifest.plan
    is_chosen_P = np.ones(len(plan.keys), dtype=bool)
    if classes is not None:
        labels = [store.classes.index(name) for name in _known(store, "class", classes, store.classes)]
        is_chosen_P &= np.isin(store.manifest.labels, labels)
    if keys is not None:
        position = {key: place for place, key in enumerate(plan.keys)}
        is_named_P = np.zeros(len(plan.keys), dtype=bool)
        is_named_P[[position[key] for key in _known(store, "key", keys, position)]] = True
        is_chosen_P &= is_named_P
    require(bool(is_chosen_P.any()), f"no input of {store.path} is of these classes and keys; nothing to write")
    return np.flatnonzero(is_chosen_P).astype(np.int64)


def _known(store: Store, kind: str, names: Iterable[str], known: Iterable[str]) -> list[str]:
    """The distinct `names`; SchemaError naming those that the store lacks."""
    wanted, there = list(dict.fromkeys(names)), set(known)
    lacking = [name for name in wanted if name not in there]
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        names = list(known)
        some = ", ".join(names[:_LISTED]) + (" ..." if len(names) > _LISTED else "") if names else "none"
        raise SchemaError(f"{store.path} has no {kind} {shortened(lacking[0])}{more}; it has {some}.")
    return wanted


def _subset_plan(
    store: Store,
    positions: list[int],
    readouts: Iterable[str] | None,
    images: str | None,
    rows_per_shard: int | None,
) -> Plan:
    plan = store.manifest.plan
    require(images in (None, "none", plan.images), f"images is {images!r}; a subset keeps {plan.images} or has none")
    kept = list(store.readouts) if readouts is None else _known(store, "readout", readouts, store.readouts)
    labels = [store.manifest.labels[position] for position in positions]
    used = sorted({label for label in labels if label >= 0})
    place = {old: new for new, old in enumerate(used)}
    return dataclasses.replace(
        plan,
        readouts=tuple(readout for readout in plan.readouts if readout.name in kept),
        keys=tuple(plan.keys[position] for position in positions),
        labels=tuple(place.get(label, -1) for label in labels),
        classes=tuple(store.classes[label] for label in used),
        images=plan.images if images is None else images,
        rows_per_shard=plan.rows_per_shard if rows_per_shard is None else rows_per_shard,
        format_version=FORMAT_VERSION,
    )
