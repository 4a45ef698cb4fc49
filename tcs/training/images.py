"""The decoded images of a run: all of them resident on the device, or streamed from their files a few steps ahead.

Both give the same pixels. Decoding happens in threads: the decoders release the interpreter, and the stored bytes are
memory-mapped, so that there is neither a process to fork nor an HDF5 handle to carry into it.

Legend: n rows of this run, b rows of a batch.
"""

import concurrent.futures
import contextlib
import functools
import os
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import cache
from tcs.errors import DataError
from tcs.images import BadImageError, decode_square, decode_whole, quiet_pillow
from tcs.runtime import progress_bar
from tcs.training.free_memory import free_bytes

DECODE_CHUNK = 256
# Batches on their way at once, at most. So streaming holds AHEAD x batch size x 3 x size x size bytes of pixels (77 MB for 128
# images of 224 px), and beside them one image a thread that is being decoded.
AHEAD = 4
THREAD_NAME = "decode"
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


def decode(store: cache.Store, read: ReadRow, row: int, size: int, *, whole: bool = False) -> NDArray[np.uint8]:
    """The image of a row as uint8 (size, size, 3), its centre or, squashed, the `whole`; DataError names a broken one."""
    try:
        return decode_whole(read(row), size) if whole else decode_square(read(row), size)
    except BadImageError as error:
        raise DataError(
            f"image '{store.keys[row]}' of {store.path} cannot be decoded: {error}; check the store."
        ) from error


def decode_rows(
    store: cache.Store, rows_n: NDArray[np.int64], size: int, read: ReadRow | None = None, *, whole: bool = False
) -> Tensor:
    """The images of `rows_n` as one uint8 tensor (n, 3, size, size), decoded in threads. DataError for one that cannot be."""
    with progress_bar(len(rows_n), "decoding", "images") as bar:
        return decode_quietly(store, rows_n, size, read or stored_images(store), bar.advance, whole=whole)


def decode_quietly(
    store: cache.Store,
    rows_n: NDArray[np.int64],
    size: int,
    read: ReadRow,
    advance: Callable[[int], None],
    *,
    whole: bool = False,
) -> Tensor:
    """The same without a bar; `advance` is told how many images were decoded. Whatever ends it, threads end with it."""
    images_n3HW = np.empty((len(rows_n), 3, size, size), np.uint8)
    chunks = [range(start, min(start + DECODE_CHUNK, len(rows_n))) for start in range(0, len(rows_n), DECODE_CHUNK)]
    is_over = threading.Event()

    def decode_chunk(chunk: range) -> int:
        for at in chunk:
            if is_over.is_set():  # nobody waits for the rest
                break
            images_n3HW[at] = decode(store, read, int(rows_n[at]), size, whole=whole).transpose(2, 0, 1)
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


def fits(rows: int, size: int, device: torch.device, share: float) -> bool:
    """Whether so many decoded images fit into `share` of the memory that the device has free.

    For a GPU they have to fit into that share of the machine's memory too: they are decoded there, and stay for other runs.
    """
    places = {device, torch.device("cpu")}
    return all(rows * 3 * size * size <= share * free_bytes(place) for place in places)


class _Ready:
    def __init__(self, images: Tensor) -> None:
        self._images = images

    def result(self) -> Tensor:
        """The images, which were there already."""
        return self._images

    def drop(self) -> None:
        """Nothing is on its way."""


class ResidentImages:
    """Images decoded once, uint8 (n, 3, size, size) on the device."""

    is_resident = True
    ahead = 1

    def __init__(self, images_n3HW: Tensor) -> None:
        self.size = images_n3HW.shape[-1]
        self._images_n3HW = images_n3HW

    def begin(self, positions_b: Tensor) -> Fetched:
        """The images at `positions_b`, gathered at once."""
        return _Ready(self._images_n3HW[positions_b.to(self._images_n3HW.device)])

    def close(self) -> None:
        """Nothing to end."""


class StreamedImages:
    """Images decoded when they are asked for, by `workers` threads, each image as one task.

    Without workers the caller decodes them, when it asks for the result, and nothing is decoded ahead.
    """

    is_resident = False

    def __init__(
        self, decode_row: Callable[[int], NDArray[np.uint8]], size: int, workers: int, device: torch.device
    ) -> None:
        """`decode_row` gives the image at a position of the run, uint8 (size, size, 3), to any thread."""
        self.size, self._decode, self._device = size, decode_row, device
        self.ahead = AHEAD if workers else 1
        self._ending = contextlib.ExitStack()
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        if workers:
            self._pool = concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix=THREAD_NAME)
            self._ending.enter_context(quiet_pillow())  # as long as the threads live: they may not change it one by one

    def begin(self, positions_b: Tensor) -> Fetched:
        """Hand the images to the threads."""
        images_b3HW = np.empty((len(positions_b), 3, self.size, self.size), np.uint8)

        def fill(at: int, position: int) -> None:
            images_b3HW[at] = self._decode(position).transpose(2, 0, 1)

        calls = [functools.partial(fill, at, position) for at, position in enumerate(positions_b.tolist())]
        tasks = [_Later(call) if self._pool is None else self._pool.submit(call) for call in calls]
        return _Coming(images_b3HW, tasks, self._device)

    def close(self) -> None:
        """Drop what was not begun, and wait for the images that are being decoded. A second call does nothing."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._ending.close()


class _Task(Protocol):
    def result(self) -> None: ...

    def cancel(self) -> bool: ...


class _Later:
    """A call that is made when its result is asked for."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.result = call

    def cancel(self) -> bool:
        return True


class _Coming:
    def __init__(self, images_b3HW: NDArray[np.uint8], tasks: Sequence[_Task], device: torch.device) -> None:
        self._images_b3HW, self._tasks, self._device = images_b3HW, tasks, device

    def result(self) -> Tensor:
        """The images, waited for. What a thread raised is raised here."""
        for task in self._tasks:
            task.result()
        images_b3HW = torch.from_numpy(self._images_b3HW)
        if self._device.type != "cuda":
            return images_b3HW
        # The pinned copy may be let go of before the transfer is over: torch marks it as in use by this stream, and does
        # not hand it out again until the stream has come past the transfer.
        return images_b3HW.pin_memory().to(self._device, non_blocking=True)

    def drop(self) -> None:
        """Cancel what no thread has begun."""
        for task in self._tasks:
            task.cancel()
