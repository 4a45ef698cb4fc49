"""The images of a store that holds none, from the data set that it was made from: each checked against its content hash."""

import dataclasses

import cache
from tcs.config import DataConfig
from tcs.errors import DataError
from tcs.image_sources import open_images
from tcs.recorded import recorded_data
from tcs.training.images import ReadRow


def given_images(store: cache.Store, data: str) -> ReadRow:
    """How the bytes of a row are read from `data`, by key; the other options of the source are those the store records.

    Raises DataError where `data` lacks images of the store, and, on reading, for one whose bytes are others than those
    that the teacher saw: features and pixels would no longer belong together.
    """
    recorded = recorded_data(store.manifest.provenance)
    images = open_images(DataConfig(data=data) if recorded is None else dataclasses.replace(recorded, data=data))
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
