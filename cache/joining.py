"""Stores of the same images by several teachers, read as one store whose vectors stand side by side. Nothing is written.

Legend: N rows.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cache.errors import IdentityError, SchemaError
from cache.fields import require, shortened
from cache.reader import Store
from cache.schema import Readout

VIEW_ROWS = 65536

SAME_LABELS = "extract both with the same labels, or give them afterwards: tcs cache label STORE --label-file FILE"


def join(first: Store, others: Sequence[Store]) -> Store:
    """One store of the rows of `first`: images, labels, keys and maps are those of `first`, vectors those of all side by side.

    Each store's vectors are scaled to length 1 row by row (float32). A readout of `first` is joined with the one of that name,
    or the only vectors, of each other store; one that has no such partner is left out. Rows are matched by key, whatever their
    order. The identity names those of all stores. Without `others` it is `first` itself.

    Raises SchemaError for the same store twice, other keys, classes or labels, views of one alone, or no vectors to join, and
    IdentityError for a key that stands for other images or views.
    """
    for given in (first, *others):
        require(isinstance(given, Store), f"{given!r} is no open store; give cache.open(PATH)")
    if not others:
        return first
    stores = [part for store in (first, *others) for part in (store.parts or (store,))]
    others = stores[1:]
    for number, store in enumerate(stores):
        if store.identity in [before.identity for before in stores[:number]]:
            raise SchemaError(f"{store.path} is given twice (store {store.identity}); give each store once.")
    orders = [None, *(_order(first, other) for other in others)]
    for other, order_N in zip(others, orders[1:], strict=True):
        _check_rows(first, other.rearranged(order_N, {}))
        _check_views(first, other, order_N)
    names = [name for name in _vectors(first) if all(_partner(other, name) for other in others)]
    if not names:
        raise _no_partner(first, others)
    parts = tuple(
        store.rearranged(order_N, {name: _partner(store, name) for name in names})
        for store, order_N in zip(stores, orders, strict=True)
    )
    return first.joined(parts, _readouts(first, parts, names))


def _readouts(first: Store, parts: Sequence[Store], names: Sequence[str]) -> dict[str, Readout]:
    """The joined vectors, and then the maps of `first`."""
    found = {}
    for name in names:
        dims = sum(part.readouts[name].dims for part in parts)
        found[name] = dataclasses.replace(first.readouts[name], dims=dims, dtype="float32")
    return found | {name: readout for name, readout in first.readouts.items() if readout.grid is not None}


def _vectors(store: Store) -> list[str]:
    return [name for name, readout in store.readouts.items() if readout.grid is None]


def _partner(store: Store, name: str) -> str:
    """The vectors of `store` that go with those called `name`: of that name, or the only ones; an empty text where neither is."""
    vectors = _vectors(store)
    return name if name in vectors else vectors[0] if len(vectors) == 1 else ""


def _no_partner(first: Store, others: Sequence[Store]) -> SchemaError:
    lacking = next((other for other in others if not any(_partner(other, name) for name in _vectors(first))), first)
    return SchemaError(
        f"{first.path} has the vectors {', '.join(_vectors(first)) or 'none'} and {lacking.path} {', '.join(_vectors(lacking)) or 'none'}; "
        "vectors are joined by name, or where there is one kind alone: keep one with tcs cache subset --readout NAME."
    )


def _order(first: Store, other: Store) -> npt.NDArray[np.int64] | None:
    """The rows of `other` in the order of `first`'s keys; None where they stand so."""
    if other.keys == first.keys:
        return None
    row_of = {key: row for row, key in enumerate(other.keys)}
    for store, keys, held in ((other, first.keys, row_of), (first, other.keys, set(first.keys))):
        lacking = [key for key in keys if key not in held]
        if lacking:
            raise SchemaError(
                f"{store.path} lacks the key {shortened(lacking[0])} ({len(lacking):,} keys are in one of {first.path} and "
                f"{other.path} alone); both must hold the same images: cut them with tcs cache subset --keys FILE."
            )
    return np.array([row_of[key] for key in first.keys], np.int64)


def _check_rows(first: Store, other: Store) -> None:
    """`other` has its rows in the order of `first`."""
    differ_N = (first.hashes_N16 != other.hashes_N16).any(axis=1)
    if differ_N.any():
        raise IdentityError(
            f"{shortened(first.keys[int(differ_N.argmax())])} is another image in {other.path} than in {first.path} "
            f"({int(differ_N.sum()):,} of {len(first):,} rows); extract both from the same images."
        )
    if set(first.classes) != set(other.classes):
        name = sorted(set(first.classes) ^ set(other.classes))[0]
        raise SchemaError(f"class {shortened(name)} is in one of {first.path} and {other.path} alone; {SAME_LABELS}.")
    numbers = np.array([*(first.classes.index(name) for name in other.classes), -1], np.int64)
    differ_N = numbers[other.labels_N] != first.labels_N
    if differ_N.any():
        raise SchemaError(
            f"{shortened(first.keys[int(differ_N.argmax())])} has another label in {other.path} than in {first.path} "
            f"({int(differ_N.sum()):,} of {len(first):,} rows); {SAME_LABELS}."
        )


def _check_views(first: Store, other: Store, order_N: npt.NDArray[np.int64] | None) -> None:
    """Both hold clean views, or both the same views of each image."""
    views = [store.manifest.plan.views for store in (first, other)]
    if views[0] != views[1]:
        counts = ["the clean view" if item is None else f"{item.count} views" for item in views]
        raise SchemaError(
            f"{first.path} holds {counts[0]} of each image and {other.path} {counts[1]} (by other parameters, where the counts are "
            "equal); extract both with the same --views."
        )
    if views[0] is None:
        return
    ours, theirs = first.view_parameters(0), other.rearranged(order_N, {}).view_parameters(0)
    for start, block in ours.blocks(VIEW_ROWS):
        differ_B = (block != theirs[start : start + len(block)]).any(axis=(1, 2))
        if differ_B.any():
            key = shortened(first.keys[start + int(differ_B.argmax())])
            raise IdentityError(
                f"the views of {key} in {other.path} are not those in {first.path}; extract both with the same --views, options "
                "and --seed."
            )
