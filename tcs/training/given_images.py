"""The images of a store that holds none, from the data set that it was made from: each checked against its content hash."""

import pathlib

import cache
from tcs.config import DataConfig
from tcs.errors import ConfigError, DataError
from tcs.image_sources import find_source, open_images
from tcs.recorded import recorded_data
from tcs.training.images import ReadRow, stored_images


def find_images(store: cache.Store, data: str | None) -> ReadRow:
    """How the bytes of a row are read: from `data` where it is given, else from the store (DataError where it holds none)."""
    return stored_images(store) if data is None else given_images(store, data)


def given_images(store: cache.Store, data: str) -> ReadRow:
    """How the bytes of a row are read from `data`, by key; the other options of the source are those the store records.

    `data` may be of another kind than what the store was made from, as a tar of the folder, where the keys are the same.
    Raises ConfigError where the store holds images itself, DataError where `data` lacks images of the store, and, on
    reading, for one whose bytes are others than those that the teacher saw: features and pixels would no longer belong
    together.
    """
    if store.has_images:
        raise ConfigError(
            f"--data {data} is for a store without images, and {store.path} holds its own ({store.manifest.plan.images}), "
            "which students see; leave it out."
        )
    images = open_images(_source_options(store, data))
    missing = sorted(set(store.keys) - set(images.keys))
    if missing:
        raise DataError(
            f"--data {data} lacks {len(missing):,} images of {store.path}, such as '{missing[0]}'; give the images that the "
            "store was made from."
        )

    def read(row: int) -> bytes:
        key = store.keys[row]
        try:
            found = images.read(key)
        except OSError as error:
            raise DataError(f"image '{key}' of {data} cannot be read ({error.strerror or error}).") from error
        if cache.content_hash(found) != store.hashes_N16[row].tobytes():
            raise DataError(
                f"image '{key}' of {data} is not the one that the teacher saw (its content hash differs); give the images "
                f"that {store.path} was made from."
            )
        return found

    return read


def _source_options(store: cache.Store, data: str) -> DataConfig:
    """What `data` is read with: of the recorded options those that say where images and their keys are, and mean anything here."""
    recorded = recorded_data(store.manifest.provenance)
    places = {} if recorded is None else {name: getattr(recorded, name) for name in ("data_dir", "split", "input_key")}
    if not pathlib.Path(places.get("data_dir") or "").is_dir():  # the data may have moved, and with it its folder
        places["data_dir"] = None
    known = find_source(data).options
    return DataConfig(data=data, labels="none", **{name: value for name, value in places.items() if name in known})
