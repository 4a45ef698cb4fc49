"""The decoded images of a run: all of them resident on the device, or streamed from their files a few steps ahead.

Both give the same pixels. Decoding happens in threads: the decoders release the interpreter, and the stored bytes are
memory-mapped, so that there is neither a process to fork nor an HDF5 handle to carry into it.

Legend: n rows of this run, b rows of a batch.
"""

import concurrent.futures
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import cache
from tcs.errors import DataError
from tcs.images import BadImageError, decode_square
from tcs.runtime import progress_bar

DECODE_CHUNK = 256
RESIDENT_SHARE = 0.25
ReadRow = Callable[[int], bytes]


class Fetched(Protocol):
    """Images that are on their way."""

    def result(self) -> Tensor:
        """uint8 (b, 3, size, size) on the device, waited for."""


class Images(Protocol):
    """Decoded images of a run by position. `size` is their side in pixels, `is_resident` whether they are in memory."""

    size: int
    is_resident: bool

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


def decode(store: cache.Store, read: ReadRow, row: int, size: int) -> NDArray[np.uint8]:
    """The image of a row as uint8 (size, size, 3); DataError names one that cannot be decoded."""
    try:
        return decode_square(read(row), size)
    except BadImageError as error:
        raise DataError(
            f"image '{store.keys[row]}' of {store.path} cannot be decoded: {error}; check the store."
        ) from error


def decode_rows(store: cache.Store, rows_n: NDArray[np.int64], size: int, read: ReadRow | None = None) -> Tensor:
    """The images of `rows_n` as one uint8 tensor (n, 3, size, size), decoded in threads. DataError for one that cannot be."""
    read = read or stored_images(store)
    images = np.empty((len(rows_n), size, size, 3), np.uint8)
    chunks = [range(start, min(start + DECODE_CHUNK, len(rows_n))) for start in range(0, len(rows_n), DECODE_CHUNK)]

    def decode_chunk(chunk: range) -> int:
        for at in chunk:
            images[at] = decode(store, read, int(rows_n[at]), size)
        return len(chunk)

    with (
        concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool,
        progress_bar(len(rows_n), "decoding", "images") as bar,
    ):
        for done in pool.map(decode_chunk, chunks):
            bar.advance(done)
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def fits(rows: int, size: int, device: torch.device, share: float) -> bool:
    """Whether so many decoded images fit into `share` of the memory that the device has free."""
    return rows * 3 * size * size <= share * free_bytes(device)


def free_bytes(device: torch.device) -> int:
    """Bytes that can be had on a device now; on a CPU what the system calls available."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) * 1024
    except OSError:  # not Linux
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


class _Ready:
    def __init__(self, images: Tensor) -> None:
        self._images = images

    def result(self) -> Tensor:
        """The images, which were there already."""
        return self._images


class ResidentImages:
    """Images decoded once, uint8 (n, 3, size, size) on the device."""

    is_resident = True

    def __init__(self, images_n3HW: Tensor) -> None:
        self.size = images_n3HW.shape[-1]
        self._images_n3HW = images_n3HW

    def begin(self, positions_b: Tensor) -> Fetched:
        """The images at `positions_b`, gathered at once."""
        return _Ready(self._images_n3HW[positions_b.to(self._images_n3HW.device)])

    def close(self) -> None:
        """Nothing to end."""


class StreamedImages:
    """Images decoded when they are asked for, by `workers` threads, each as one task."""

    is_resident = False

    def __init__(
        self, decode_row: Callable[[int], NDArray[np.uint8]], size: int, workers: int, device: torch.device
    ) -> None:
        """`decode_row` gives the image at a position of the run, uint8 (size, size, 3)."""
        self.size, self._decode, self._device = size, decode_row, device
        self._pool = concurrent.futures.ThreadPoolExecutor(max(1, workers), thread_name_prefix="decode")

    def begin(self, positions_b: Tensor) -> Fetched:
        """Hand the images to the threads."""
        images = np.empty((len(positions_b), self.size, self.size, 3), np.uint8)

        def fill(at: int, position: int) -> None:
            images[at] = self._decode(position)

        tasks = [self._pool.submit(fill, at, position) for at, position in enumerate(positions_b.tolist())]
        return _Coming(images, tasks, self._device)

    def close(self) -> None:
        """Drop what was not begun, and wait for the rest."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class _Coming:
    def __init__(
        self, images_bHW3: NDArray[np.uint8], tasks: Sequence[concurrent.futures.Future[None]], device: torch.device
    ) -> None:
        self._images_bHW3, self._tasks, self._device = images_bHW3, tasks, device

    def result(self) -> Tensor:
        """The images, waited for. What a thread raised is raised here."""
        for task in self._tasks:
            task.result()
        images_bHW3 = torch.from_numpy(self._images_bHW3)
        if self._device.type == "cuda":
            images_bHW3 = images_bHW3.pin_memory().to(self._device, non_blocking=True)
        return images_bHW3.permute(0, 3, 1, 2).contiguous()
