"""Which stores a store grew from, by what its updates record, so that what was made of an earlier state is told apart from a stranger."""

from collections.abc import Mapping
from typing import Any

import cache


def earlier_rows(store: cache.Store) -> dict[str, int]:
    """Identity -> rows of each state that `store` is an update of, the last one first. Of a joined store those of all its parts
    together, where each is as it was or an update of it."""
    if not store.parts:
        return _recorded(store.manifest.provenance.get(cache.PARENT))
    found: dict[str, int] = {store.parts[0].identity: len(store)} | earlier_rows(store.parts[0])
    for part in store.parts[1:]:
        own = {part.identity: len(store)} | earlier_rows(part)
        found = {
            f"{first}{cache.JOINED_BY}{second}": rows
            for first, rows in found.items()
            for second, others in own.items()
            if rows == others
        }
    return {identity: rows for identity, rows in found.items() if identity != store.identity}


def _recorded(parent: Any) -> dict[str, int]:
    """The states in an entry of provenance; none where it is not as updates write it."""
    if not isinstance(parent, Mapping):
        return {}
    earlier = parent.get("earlier")
    states = [parent, *(earlier if isinstance(earlier, list) else [])]
    return {
        state["identity"]: state["rows"]
        for state in states
        if isinstance(state, Mapping) and type(state.get("identity")) is str and type(state.get("rows")) is int
    }


def grown_since(store: cache.Store, identity: str) -> str | None:
    """What to say of something that was made when `store` was the one of this identity: how many rows it had, and has now.

    None where it is no earlier state of it.
    """
    rows = earlier_rows(store).get(identity)
    if rows is None:
        return None
    more = len(store) - rows
    what = f"{abs(more):,} {'more' if more > 0 else 'fewer'}" if more else "as many, of which some are others"
    return f"made from a store of {rows:,} rows; {store.path} is an update of it and has {what}"
