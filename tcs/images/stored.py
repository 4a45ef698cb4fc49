"""The images of a store that holds none, from the data set that it was made from: each checked against its content hash."""

import concurrent.futures
import os
import pathlib
import threading
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import cache
from tcs.config.extract import DataConfig
from tcs.config.names import finder
from tcs.config.pixels import PixelRules, rules_in
from tcs.errors import ConfigError, DataError
from tcs.images.decode import BadImageError, decode_square, decode_whole, quiet_pillow
from tcs.images.recorded import recorded_data
from tcs.images.sources import find_source, open_images
from tcs.ordinary import open_ordinary
from tcs.runtime import progress_bar

DECODE_CHUNK = 256
THREAD_NAME = "decode"
STORES = (".store", ".h5", ".hdf5")  # by custom; a path that is not there is told by it what it should have been
ReadRow = Callable[[int], bytes]


class Fetched(Protocol):
    """Images that are on their way."""

    def result(self) -> Tensor:
        """uint8 (b, 3, size, size) on the device, waited for."""

    def drop(self) -> None:
        """Give up what was not begun; there will be no result."""


class Images(Protocol):
    """Decoded images of a run by position. `size` is their side in pixels, `is_resident` whether they are in memory.

    `ahead` is how many batches are worth having on their way at once, the one that is waited for included.
    """

    size: int
    is_resident: bool
    ahead: int

    def begin(self, positions_b: Tensor) -> Fetched:
        """Start to get the images at `positions_b` (int64 on the CPU)."""

    def close(self) -> None:
        """End the threads, if there are any."""


def stored_images(store: cache.Store) -> ReadRow:
    """How the bytes of a row are read from a store; DataError where it holds no images."""
    if not store.has_images:
        raise DataError(
            f"store {store.path} holds no images (--images none); give them with --data, or extract again with --images original."
        )
    return store.image_bytes


def rules_of(store: cache.Store) -> PixelRules:
    """How the images of a store become pixels: as the teacher saw them. ArtefactError for rules of a later release."""
    return rules_in(store.manifest.plan.identity, str(store.path))


def decode(
    store: cache.Store, read: ReadRow, row: int, size: int, *, whole: bool = False, scaled: bool = False
) -> NDArray[np.uint8]:
    """The image of a row as uint8 (size, size, 3), its centre or, squashed, the `whole`; DataError names a broken one.

    `scaled` decodes no more of a large JPEG than the frame takes, for students that are trained so.
    """
    rules = rules_of(store).scaled_if(scaled)
    try:
        return decode_whole(read(row), size, rules) if whole else decode_square(read(row), size, rules)
    except BadImageError as error:
        raise DataError(
            f"image '{store.keys[row]}' of {store.path} cannot be decoded: {error}; check the store."
        ) from error


def decode_rows(
    store: cache.Store,
    rows_n: NDArray[np.int64],
    size: int,
    read: ReadRow | None = None,
    *,
    whole: bool = False,
    scaled: bool = False,
) -> Tensor:
    """The images of `rows_n` as one uint8 tensor (n, 3, size, size), decoded in threads. DataError for one that cannot be."""
    read = read or stored_images(store)
    with progress_bar(len(rows_n), "decoding", "images") as bar:
        return decode_quietly(store, rows_n, size, read, bar.advance, whole=whole, scaled=scaled)


def decode_quietly(
    store: cache.Store,
    rows_n: NDArray[np.int64],
    size: int,
    read: ReadRow,
    advance: Callable[[int], None],
    *,
    whole: bool = False,
    scaled: bool = False,
) -> Tensor:
    """The same without a bar; `advance` is told how many images were decoded. Whatever ends it, threads end with it."""
    images_n3HW = np.empty((len(rows_n), 3, size, size), np.uint8)
    chunks = [range(start, min(start + DECODE_CHUNK, len(rows_n))) for start in range(0, len(rows_n), DECODE_CHUNK)]
    is_over = threading.Event()

    def decode_chunk(chunk: range) -> int:
        for at in chunk:
            if is_over.is_set():  # nobody waits for the rest
                break
            frame_HW3 = decode(store, read, int(rows_n[at]), size, whole=whole, scaled=scaled)
            images_n3HW[at] = frame_HW3.transpose(2, 0, 1)
        return len(chunk)

    with quiet_pillow(), concurrent.futures.ThreadPoolExecutor(cores(), thread_name_prefix=THREAD_NAME) as pool:
        try:
            for done in pool.map(decode_chunk, chunks):
                advance(done)
        finally:
            is_over.set()
            pool.shutdown(wait=False, cancel_futures=True)
    return torch.from_numpy(images_n3HW)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    find = finder(images.keys)  # a copy on another system may have its names in another normal form
    missing = sorted(key for key in store.keys if find(key) is None)
    if missing:
        raise DataError(
            f"--data {data} lacks {len(missing):,} images of {store.path}, such as '{missing[0]}'; give the images that the "
            "store was made from."
        )

    def read(row: int) -> bytes:
        key = store.keys[row]
        try:
            found = images.read(find(key) or key)
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
    pools = () if recorded is None else tuple(pool for pool in recorded.unlabelled_data if pathlib.Path(pool).exists())
    if not pathlib.Path(places.get("data_dir") or "").is_dir():  # the data may have moved, and with it its folder
        places["data_dir"] = None
    known = find_source(data).options
    told = {name: value for name, value in places.items() if name in known}
    return DataConfig(data=data, labels="none", unlabelled_data=pools, **told)


def is_store(path: pathlib.Path) -> bool:
    """Whether `path` is a feature store, in a folder or packed: by its name, its manifest, or the first bytes of HDF5."""
    if path.suffix.lower() in STORES or (path / "manifest.json").is_file():
        return True
    try:
        with open_ordinary(path) as file:
            return file.read(8) == b"\x89HDF\r\n\x1a\n"
    except OSError:
        return False
