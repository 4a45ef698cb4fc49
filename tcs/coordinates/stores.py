"""The stores that coordinates are of: opened, several of the same images as one, and compared with those of a coordinate system."""

from collections.abc import Sequence

import cache
from tcs.artefact import teacher_identity_of, tell_other_rules
from tcs.coordinates.system import CoordinateSystem
from tcs.errors import ArtefactError


def open_stores(store: str, also: Sequence[str] = ()) -> cache.Store:
    """The store at `store`, with the vectors of those at `also` (other teachers' of the same images) beside its own: `cache.join`."""
    first, others = cache.open(store), [cache.open(path) for path in also]
    for other in others:
        tell_other_rules(first, other)
    return cache.join(first, others)


def check_same_store(system: CoordinateSystem, store: cache.Store) -> None:
    """ArtefactError, naming both identities, unless `store` is the fitted one or comes from the same teacher."""
    theirs = teacher_identity_of(store, system.readout)
    teachers, given = (text.count(cache.JOINED_BY) + 1 for text in (system.teacher_identity, theirs))
    if teachers != given:
        raise ArtefactError(
            f"the coordinate system reads the features of {teachers} store(s) side by side ({system.store_identity}), and {given} is"
            f" given ({store.identity}); name the first one, and each of the others with --also, as it was fitted."
        )
    if store.identity != system.store_identity and theirs != system.teacher_identity:
        raise ArtefactError(
            f"the coordinate system was fitted to store {system.store_identity} (teacher {system.teacher_identity}), and"
            f" {store.path} is store {store.identity} (teacher {theirs}); use a store of the same teacher, or fit to this one."
        )
    if system.readout not in store.readouts or store.readouts[system.readout].dims != system.dims:
        held = ", ".join(f"{name} ({readout.dims} dims)" for name, readout in store.readouts.items())
        raise ArtefactError(
            f"the coordinate system reads '{system.readout}' ({system.dims} dims), and {store.path} holds {held};"
            " extract with that --readout, or fit to this store."
        )
