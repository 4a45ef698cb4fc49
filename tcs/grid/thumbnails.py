"""Small JPEGs of test images, for the page of a report."""

import io
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

import cache
from cache.errors import CacheError
from tcs.config.pixels import PixelRules
from tcs.errors import TcsError
from tcs.images.decode import BadImageError, decode_square
from tcs.images.recorded import recorded_data
from tcs.images.stored import ReadRow, find_images, given_images, rules_of

SIDE = 72  # pixels
QUALITY = 82  # of the JPEG


def thumbnails(path: pathlib.Path, data: str | None, keys: Sequence[str]) -> Mapping[str, bytes]:
    """Small JPEGs of the images of a store by key, of those that can be read. Images that changed since the teacher saw them are left out.

    `data` is where the images are, where the store holds none and does not say.
    """
    try:
        store = cache.open(path)
        read, rules = _reader(store, data), rules_of(store)
    except (TcsError, CacheError):
        return {}
    rows, found = {key: row for row, key in enumerate(store.keys)}, {}
    for key in keys:
        try:
            found[key] = _jpeg(read(rows[key]), rules)
        except (KeyError, TcsError, CacheError, BadImageError):
            continue
    return found


def _reader(store: cache.Store, data: str | None) -> ReadRow:
    """From the store, from `data`, or from where the store says its images were."""
    recorded = recorded_data(store.manifest.provenance)
    if data is None and not store.has_images and recorded is not None:
        return given_images(store, recorded.data)
    return find_images(store, data)


def _jpeg(data: bytes, rules: PixelRules) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(decode_square(data, SIDE, rules))).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
