"""`tcs cache verify`: images against the data set that a store was made from, and every byte of the store.

Loads neither torch nor a teacher.
"""

import dataclasses
import pathlib
from typing import Any

import cache
from tcs.config.extract import DataConfig
from tcs.config.names import finder
from tcs.config.plain import AnyPath, given_path, plain_value
from tcs.errors import listed, number_of
from tcs.images.listing import ImageList
from tcs.images.recorded import recorded_data
from tcs.images.sources import open_images
from tcs.runtime import progress_bar

LISTED = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drift:
    """Keys of images whose bytes are others now, that are gone or cannot be read, that are new; `compared` were hashed.

    Inputs that the store holds in quarantine have no hash to compare with; they count as known.
    """

    data: str
    compared: int
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    new: tuple[str, ...]

    @property
    def is_none(self) -> bool:
        """Whether the data set is still what the store was made from."""
        return not (self.changed or self.missing or self.new)

    def to_json(self) -> dict[str, Any]:
        """The result as JSON types, every key listed."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    def describe(self) -> list[str]:
        """The result in words: one line for each kind of difference, the first few keys named."""
        told = [
            f"{self.data}: {number_of(len(keys), 'image')} {verbs[len(keys) != 1]} {what}: {listed(keys, LISTED)}"
            for keys, verbs, what in (
                (self.changed, ("has", "have"), "changed"),
                (self.missing, ("is", "are"), "missing"),
                (self.new, ("is", "are"), "new"),
            )
            if keys
        ]
        return told or [f"{self.data}: all {self.compared} images are those that the store was made from."]


def measure_drift(store: cache.Store | AnyPath, data: AnyPath) -> Drift:
    """Hash the images of `data` and compare them with the content hashes of the rows, by key; returns the differences.

    `store` is an open one, or the path of one. The other options of the source (split, labels ...) are those that the store records.
    Raises CacheError for a store that cannot be opened, TcsError where `data` cannot be listed.
    """
    if not isinstance(store, cache.Store):
        store = cache.open(given_path("store", store))
    data = str(plain_value("data", data, AnyPath))
    images = open_images(_data_config(store, data))
    known = dict(zip(store.keys, (row.tobytes() for row in store.hashes_N16), strict=True))
    quarantined = {entry.key for entry in store.manifest.quarantine}
    find, there = finder([*known, *quarantined]), finder(images.keys)
    changed, missing = [], [key for key in known if there(key) is None]
    with progress_bar(len(images.keys), "hash images", "images") as bar:
        for key in images.keys:
            own = find(key)
            if own in known:
                found = _hash_of(images, key)
                if found is None:
                    missing.append(own)
                elif found != known[own]:
                    changed.append(own)
            bar.advance(1)
    new = [key for key in images.keys if find(key) is None]
    return Drift(data=data, compared=len(known), changed=tuple(changed), missing=tuple(sorted(missing)), new=tuple(new))


def _data_config(store: cache.Store, data: str) -> DataConfig:
    recorded = recorded_data(store.manifest.provenance)
    return dataclasses.replace(recorded, data=data) if recorded is not None else DataConfig(data=data)


def _hash_of(images: ImageList, key: str) -> bytes | None:
    """The content hash of an image, None where it cannot be read."""
    try:
        return cache.content_hash(images.read(key))
    except OSError:
        return None


def verified(store: str | pathlib.Path) -> cache.Verification:
    """`cache.verify` of the store, with a progress bar on a terminal. Raises CacheError where there is no store."""
    path = pathlib.Path(store)
    files = [path] if path.is_file() else [file for file in path.glob("shard-*.h5") if file.is_file()]
    with progress_bar(sum(file.stat().st_size for file in files), "verify", "bytes") as bar:
        return cache.verify(store, bar.advance)


def result_lines(found: cache.Verification) -> list[str]:
    """The result in words: a line for each problem, then one for the whole."""
    folder = found.path.parent if found.is_packed else found.path
    told = [f"{folder / problem.file}: {problem.what}" for problem in found.problems]
    what = f"{found.shards} of {found.planned} shards, {found.rows:,} rows, {found.bytes / 1e6:,.1f} MB checked"
    if found.is_sound:
        return [f"{found.path} is sound: {what}."]
    if found.pending:
        told.append(f"{found.path} is incomplete: {len(found.pending)} of {found.planned} shards are not written yet.")
    elif found.state == "open":
        told.append(f"{found.path} is incomplete: it was never closed.")
    remedy = f"tcs cache repair {found.path} writes again what is bad or missing"
    if found.is_packed:
        remedy = "a packed store is not repaired: fetch the file again, or pack it anew from its folder"
    return [*told, f"{found.path}: {_problems(len(found.problems))}, {what}; {remedy}."]


def _problems(count: int) -> str:
    return "1 problem" if count == 1 else f"{count} problems"
