"""What a stage does when its output is already there: nothing, a refusal by name, or (asked for) an overwrite.

`teacher_identity_of` is what the outputs of two stores of one teacher have in common.
"""

import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from cache import JOINED_BY, Store, atomic_write_bytes, digest_of_bytes, digest_of_json, locked_file
from tcs.config.pixels import other_rules, rules_in
from tcs.errors import ArtefactError
from tcs.ordinary import read_ordinary
from tcs.runtime import say

T = TypeVar("T")


def plain_json(value: Any) -> Any:
    """`value` as JSON gives it back: tuples become lists, so that a stored and a new configuration compare equal."""
    return json.loads(json.dumps(value))


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """`name is X there and Y here` for every entry in which the two differ; of entries inside an entry, those alone."""
    texts = []
    for name in sorted(set(found) | set(wanted)):
        there, here = found.get(name), wanted.get(name)
        if isinstance(there, Mapping) and isinstance(here, Mapping):
            texts += [f"{name}.{text}" for text in differences(there, here)]
        elif there != here:
            texts.append(f"{name} is {_shown(there)} there and {_shown(here)} here")
    return texts


def _shown(value: Any) -> str:
    return f"{len(value)} entries" if isinstance(value, Mapping) else str(value)


def is_finished(path: pathlib.Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """True where the output at `path` was made with the wanted recipe; ArtefactError naming what differs otherwise."""
    different = differences(plain_json(found), plain_json(wanted))
    if different:
        raise ArtefactError(
            f"{path} exists and was made otherwise: {'; '.join(different)};"
            " name another --out, or pass --overwrite to replace it."
        )
    return True


def made_once(out: pathlib.Path, kept: Callable[[], T | None], make: Callable[[], T]) -> T:
    """What `kept` finds at `out`, else what `make` writes there, under a lock on the file: of two commands that are at it together the
    second is refused at once (LockedStoreError), and what was written before the lock was had is found."""
    found = kept()
    if found is not None:
        return found
    with locked_file(out):
        found = kept()
        return make() if found is None else found


def write_same(path: pathlib.Path, data: bytes, *, maker: str, overwrite: bool) -> None:
    """Write an output that is a pure function of its inputs; the same one may be there already. ArtefactError for anything else that is
    there, unless `overwrite`: "exists and is not what `maker`"."""
    if path.exists() and not overwrite:
        if path.is_file() and read_ordinary(path) == data:
            return
        raise ArtefactError(
            f"{path} exists and is not what {maker}; name another --out, or pass --overwrite to replace it."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(path, data)


OWN_FIELDS = ("views", "resized", "projections", "pixels")  # of a store's identity: they leave the teacher what it is


def teacher_identity_of(store: Store, readout: str | None = None) -> str:
    """Digest of what a store records of its teacher and preprocessing: equal for train and test stores of one teacher. Of a joined
    store those of all teachers, in order.

    Views, kept images and pixel rules do not count, and of the projections only that of `readout`, with its arrays: a PCA may differ
    between stores.
    """
    if store.parts:
        return JOINED_BY.join(teacher_identity_of(part, readout) for part in store.parts)
    plan = store.manifest.plan
    identity = {name: value for name, value in plan.identity.items() if name not in OWN_FIELDS} | {"views": 1}
    stored = store.stored_name(readout) if readout in store.readouts else readout
    projection = plan.identity.get("projections", {}).get(stored)
    if projection is not None:
        prefix = f"projection/{stored}/"
        arrays = {name: digest_of_bytes(item.data) for name, item in plan.constants.items() if name.startswith(prefix)}
        identity |= {"projection": projection, "constants": arrays}
    return digest_of_json(identity)


def tell_other_rules(first: Store, other: Store) -> None:
    """Say in one line where two stores that are read together have their pixels by other rules. Only images that are turned,
    transparent or have a colour profile differ by it, and often there are none: so nothing is refused."""
    mine, theirs = (rules_in(store.manifest.plan.identity, str(store.path)) for store in (first, other))
    line = other_rules(mine, theirs, str(first.path), str(other.path))
    if line is not None:
        say(line)


def teacher_name_of(store: Store) -> str:
    """The teacher's name; of a joined store the names of all, in order."""
    parts = store.parts or (store,)
    return JOINED_BY.join(str(part.manifest.plan.identity.get("teacher", "")) for part in parts)
