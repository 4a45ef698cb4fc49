"""Merge disjoint stores of one teacher into one store: what one extraction over all their inputs would have given."""

import dataclasses
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cache.comparison import differing_fields
from cache.creation import FEATURES, TEACHER, UNKNOWN
from cache.derivation import Origins, PathLike, Progress, write_derived
from cache.errors import IdentityError, SchemaError
from cache.fields import require, shortened
from cache.fingerprint import digest_of_json
from cache.reader import Store
from cache.reader import open as open_store
from cache.schema import FORMAT_VERSION, Plan

_OWN = ("rows_per_shard", "format_version")  # what stores that are merged need not have in common


def merge(
    paths: Sequence[PathLike],
    out: PathLike,
    *,
    prefix_keys: bool = False,
    rows_per_shard: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write the inputs of all stores, in the order given, into the one store `out`; returns `out`.

    All must be made alike: identity, readouts, views, image policy and constants are compared field by field, except the
    digests of imported features; where these differ, the teacher must be known by name. Classes are
    matched by name, new ones in order of appearance. Keys must differ between the stores; `prefix_keys` puts each store's
    name before its keys. Features, images and hashes are copied bit for bit, inputs in quarantine stay there. The same call
    resumes. `rows_per_shard` is by default that of the first store.

    Raises IdentityError naming a field that differs, SchemaError for a key in two stores or an unknown teacher, and what `cache.open` and
    `StoreWriter` raise.
    """
    require(
        not isinstance(paths, str | os.PathLike),
        f"paths are {paths}, a single one; give two or more, as [{paths}, ...]",
    )
    stores = [open_store(path) for path in paths]
    if len(stores) < 2:
        raise SchemaError(f"{len(stores)} store cannot be merged; name two or more.")
    for store in stores[1:]:
        _require_alike(stores[0], store)
    sizes = [len(store.manifest.plan.keys) for store in stores]
    origins = Origins(
        stores=stores,
        store_P=np.repeat(np.arange(len(stores)), sizes),
        position_P=np.concatenate([np.arange(size) for size in sizes]),
    )
    plan = _merged_plan(stores, prefix_keys, rows_per_shard)
    write_derived(Path(out), plan, origins, how="merge", overwrite=overwrite, progress=progress)
    return Path(out)


def _require_alike(first: Store, other: Store) -> None:
    """Raise IdentityError naming the first field in which two stores differ beyond their inputs."""
    for name, mine, theirs in differing_fields(first.manifest.plan, other.manifest.plan):
        if name in _OWN:
            continue
        if name.startswith(f"{FEATURES}."):  # of imported arrays, which are other rows, so have other digests
            _require_named_teacher(first)
        else:
            raise IdentityError(
                f"{name} is {mine} in {first.path} and {theirs} in {other.path}; only stores made alike can be merged, so "
                "extract one of them again."
            )


def _require_named_teacher(store: Store) -> None:
    """Raise SchemaError for imported features of which nobody told what made them."""
    if store.manifest.plan.identity.get(TEACHER) == UNKNOWN:
        raise SchemaError(
            f"the teacher of {store.path} is unknown, so other features may be of another one; name it with tcs cache import "
            "--teacher, in each of the stores."
        )


def _merged_identity(plans: Sequence[Plan]) -> dict[str, Any]:
    """The identity the stores have in common; digests of imported features that differ become the digest of all."""
    identity = dict(plans[0].identity)
    found: list[Any] = [plan.identity.get(FEATURES) for plan in plans]
    if any(digests != found[0] for digests in found):
        identity[FEATURES] = {
            item.name: digest_of_json([told[item.name] for told in found]) for item in plans[0].readouts
        }
    return identity


def _merged_plan(stores: Sequence[Store], prefix_keys: bool, rows_per_shard: int | None) -> Plan:
    plans = [store.manifest.plan for store in stores]
    classes = tuple(dict.fromkeys(itertools.chain.from_iterable(store.classes for store in stores)))
    place = {name: label for label, name in enumerate(classes)}
    return dataclasses.replace(
        plans[0],
        identity=_merged_identity(plans),
        keys=_merged_keys(stores, prefix_keys),
        labels=tuple(
            -1 if label < 0 else place[store.classes[label]] for store in stores for label in store.manifest.labels
        ),
        classes=classes,
        rows_per_shard=plans[0].rows_per_shard if rows_per_shard is None else rows_per_shard,
        format_version=FORMAT_VERSION,
    )


def _merged_keys(stores: Sequence[Store], prefix_keys: bool) -> tuple[str, ...]:
    """The keys of all stores in order; SchemaError names one that stands in two."""
    prefixes = [f"{store.path.stem}/" if prefix_keys else "" for store in stores]
    holder: dict[str, Store] = {}
    for prefix, store in zip(prefixes, stores, strict=True):
        for key in store.manifest.plan.keys:
            earlier = holder.setdefault(prefix + key, store)
            if earlier is not store:
                remedy = "rename one of them" if prefix_keys else "put the stores' names before them: --prefix-keys"
                raise SchemaError(
                    f"key {shortened(prefix + key)} is in {earlier.path} and in {store.path}; keys must differ, so {remedy}."
                )
    return tuple(holder)
