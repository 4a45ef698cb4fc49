"""The decoded images of a run: all of them resident on the device, or streamed from their files a few steps ahead.

Both give the same pixels. Decoding happens in threads: the decoders release the interpreter, and the stored bytes are
memory-mapped, so that there is neither a process to fork nor an HDF5 handle to carry into it.

Legend: n rows of this run, b rows of a batch.
"""

import concurrent.futures
import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcs.images.decode import quiet_pillow
from tcs.images.stored import THREAD_NAME, Fetched
from tcs.memory import free_bytes

# Batches on their way at once, at most. So streaming holds AHEAD x batch size x 3 x size x size bytes of pixels (77 MB for 128
# images of 224 px), and beside them one image a thread that is being decoded.
AHEAD = 4


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
