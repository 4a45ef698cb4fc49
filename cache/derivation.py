"""Write a store from the rows of others: same features bit for bit, in a plan of its own. Every byte read is checked first.

Legend: P positions of the new plan, B those of one of its shards, n those of them that have a row.
"""

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.errors import SchemaError
from cache.features import Features
from cache.fingerprint import DIGEST_BYTES
from cache.inspection import verify_shard
from cache.manifest import Quarantined
from cache.packed import inspect_packed, verify_packed_shard
from cache.reader import Store
from cache.schema import Plan, shard_name
from cache.shard import ShardRows
from cache.side_by_side import JoinedFeatures
from cache.writer import StoreWriter

PathLike = str | os.PathLike[str]
Progress = Callable[[int], None]
Int64Array = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origins:
    """Where each input of a new plan comes from: stores[store_P[i]] has it at position_P[i] of its own plan."""

    stores: Sequence[Store]
    store_P: Int64Array
    position_P: Int64Array


def write_derived(
    out: Path, plan: Plan, origins: Origins, *, how: str, overwrite: bool, progress: Progress | None
) -> None:
    """Write the store of `plan` shard by shard, or resume it; inputs in quarantine in their store are so in the new one.

    `how` names the operation in the provenance, beside the stores' identities and provenances. Raises SchemaError where
    `out` is one of the stores, CorruptStoreError for a shard read from that fails its digest, and what StoreWriter raises.
    """
    for store in origins.stores:
        if out.resolve() == store.path.resolve():
            raise SchemaError(f"{out} is read from, so it cannot be written; name another --out.")
    provenance = _provenance(origins.stores, how)
    sources = [DerivedFrom(store) for store in origins.stores]
    with StoreWriter(out, plan, provenance=provenance, overwrite=overwrite) as writer:
        for index in writer.pending():
            positions = writer.plan.positions(index)
            writer.write_shard(index, _shard_rows(writer.plan, positions, origins, sources))
            (progress or _ignore)(len(positions))
        writer.close()


def _provenance(stores: Sequence[Store], how: str) -> dict[str, Any]:
    """How the store came about, and what its parents say of themselves; the teacher's entry is taken over."""
    given = [dict(store.manifest.provenance) for store in stores]
    parents = [
        {"store": store.path.name, "identity": store.identity, "provenance": provenance}
        for store, provenance in zip(stores, given, strict=True)
    ]
    teacher = {"teacher": given[0]["teacher"]} if "teacher" in given[0] else {}
    return {"derived": {"how": how, "parents": parents}, **teacher}


def _shard_rows(plan: Plan, positions: range, origins: Origins, sources: Sequence["DerivedFrom"]) -> ShardRows:
    """The rows of one new shard, gathered from each store that holds some of them."""
    at = slice(positions.start, positions.stop)
    store_B, position_B = origins.store_P[at], origins.position_P[at]
    row_B = np.empty(len(positions), dtype=np.int64)
    for number in np.unique(store_B).tolist():
        mine_B = store_B == number
        row_B[mine_B] = sources[number].rows(position_B[mine_B])
    has_row_B = row_B >= 0
    picked = _Picked(sources=sources, store_n=store_B[has_row_B], row_n=row_B[has_row_B])
    quarantine = [
        Quarantined(
            position=position,
            key=plan.keys[position],
            reason=sources[int(origins.store_P[position])].reasons[int(origins.position_P[position])],
        )
        for position in (positions.start + np.flatnonzero(~has_row_B)).tolist()
    ]
    return _picked_rows(picked, plan, np.arange(positions.start, positions.stop)[has_row_B], quarantine)


def _picked_rows(
    picked: "_Picked", plan: Plan, positions_n: Int64Array, quarantine: Sequence[Quarantined]
) -> ShardRows:
    """What is picked, as rows of the plan."""
    views = plan.views
    return ShardRows(
        positions_N=positions_n,
        hashes_N16=picked.gathered(lambda source: source.store.hashes_N16, (DIGEST_BYTES,), "uint8"),
        features={
            item.name: picked.gathered(_features_of(item.name), plan.row_shape(item), item.dtype)
            for item in plan.readouts
        },
        images=None if plan.images == "none" else picked.images(),
        quarantine=quarantine,
        views_NVP=None
        if views is None
        else picked.gathered(_views_of, (views.count, len(views.parameters)), "float32"),
    )


def carried_rows(source: "DerivedFrom", plan: Plan, positions_n: Int64Array, row_n: Int64Array) -> ShardRows:
    """The rows `row_n` of a store as they stand at `positions_n` (ascending) of another plan, of the same readouts, views and images.

    They are part of a shard, so that other rows join them: `joined_rows`. Raises CorruptStoreError.
    """
    source.rows(source.store.positions_N[row_n])  # every byte of their shards is checked
    picked = _Picked(sources=[source], store_n=np.zeros(len(row_n), np.int64), row_n=row_n)
    return _picked_rows(picked, plan, positions_n, ())


def joined_rows(parts: Sequence[ShardRows]) -> ShardRows:
    """The rows of one shard from parts that hold some each, in the order of their positions."""
    order_N = np.argsort(np.concatenate([part.positions_N for part in parts]), kind="stable")
    images = [image for part in parts for image in part.images or ()]
    views = [part.views_NVP for part in parts if part.views_NVP is not None]
    return ShardRows(
        positions_N=np.concatenate([part.positions_N for part in parts])[order_N],
        hashes_N16=np.concatenate([part.hashes_N16 for part in parts])[order_N],
        features={name: np.concatenate([part.features[name] for part in parts])[order_N] for name in parts[0].features},
        images=None if parts[0].images is None else [images[row] for row in order_N.tolist()],
        quarantine=[entry for part in parts for entry in part.quarantine],
        views_NVP=np.concatenate(views)[order_N] if views else None,
    )


class DerivedFrom:
    """A store that is read from; each of its shards is verified before any row of it is used."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.reasons = {entry.position: entry.reason for entry in store.manifest.quarantine}
        self._packed = inspect_packed(store.path) if store.is_packed else None
        self._verified: set[int] = set()
        self._features: dict[str, Features | JoinedFeatures] = {}

    def rows(self, position_n: Int64Array) -> Int64Array:
        """The rows that hold these inputs of the store's plan; -1 for one in quarantine."""
        shards = np.unique(position_n // self.store.manifest.plan.rows_per_shard).tolist()
        for index in sorted(set(shards) - self._verified):
            self.verify(index)
        row_n = np.searchsorted(self.store.positions_N, position_n)
        is_there_n = np.append(self.store.positions_N, -1)[row_n] == position_n
        return np.where(is_there_n, row_n, -1)

    def features(self, name: str) -> Features | JoinedFeatures:
        """The features of a readout, mapped once."""
        if name not in self._features:
            self._features[name] = self.store.features(name, resident_bytes=0)
        return self._features[name]

    def blocks(self) -> Iterator[slice]:
        """The rows of the whole store, a verified shard at a time; shards without rows are verified as well."""
        plan = self.store.manifest.plan
        cuts = np.searchsorted(self.store.positions_N, np.arange(plan.shard_count + 1) * plan.rows_per_shard)
        for index, (start, stop) in enumerate(itertools.pairwise(cuts.tolist())):
            self.verify(index)
            yield slice(start, stop)

    def verify(self, index: int) -> None:
        """Check every byte of a shard; raises CorruptStoreError."""
        if self._packed is not None:
            verify_packed_shard(self._packed, index)
        else:
            verify_shard(self.store.path / shard_name(index), self.store.manifest.plan, index)
        self._verified.add(index)


Rows = Callable[[DerivedFrom], Any]  # one entry a row of the store, to be indexed by row numbers


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Picked:
    """Row row_n[i] of the store store_n[i], for each row of the new shard."""

    sources: Sequence[DerivedFrom]
    store_n: Int64Array
    row_n: Int64Array

    def gathered(self, rows: Rows, row_shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
        """The picked rows of one kind, (n, *row_shape)."""
        found_n = np.empty((len(self.row_n), *row_shape), dtype)
        for number in np.unique(self.store_n).tolist():
            mine_n = self.store_n == number
            found_n[mine_n] = rows(self.sources[number])[self.row_n[mine_n]]
        return found_n

    def images(self) -> list[bytes]:
        """The stored image of each picked row."""
        pairs = zip(self.store_n.tolist(), self.row_n.tolist(), strict=True)
        return [self.sources[number].store.image_bytes(row) for number, row in pairs]


def _features_of(name: str) -> Rows:
    return lambda source: source.features(name)


def _views_of(source: DerivedFrom) -> Any:
    return source.store.view_parameters(resident_bytes=0)


def _ignore(_: int) -> None:
    """The progress of a call that asks for none."""
