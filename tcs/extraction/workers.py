"""Processes that decode for the teacher, and how their batches come to it. Whatever ends one of them ends the pass, within seconds.

A batch of tensors goes through shared memory, which is quick, and which a container may have little of (Docker gives 64 MB): a batch that
does not fit is lost in a thread of the worker, and the pass would wait for it for ever. So where there is not room for all that can be on
their way, batches go through the pipe as plain bytes; and a worker whose batch is lost all the same ends, which is seen.
"""

import contextlib
import multiprocessing.queues
import os
import pathlib
import shutil
import sys
import threading
import time
import traceback
import types
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader

from tcs.errors import DataError
from tcs.extraction.decoding import Collate, DecodedBatch, DecodedImage, ImagePositions
from tcs.runtime import say

ExceptHook = Callable[[type[BaseException], BaseException, types.TracebackType | None], Any]

WATCH_SECONDS = 0.2  # between a worker's looks at whether its parent is alive
SHARED = pathlib.Path("/dev/shm")
LOST = "DataLoader worker"  # in what torch says of one that ended
AHEAD = 2  # batches that a worker prepares beyond the one that it gives away: DataLoader's prefetch_factor


class PipedCollate:
    """As `collate`, with the pixels as an array, which multiprocessing pickles, and not as a tensor, which torch shares."""

    def __init__(self, collate: Collate) -> None:
        self._collate = collate

    def __call__(self, items: Sequence[DecodedImage]) -> tuple[Any, DecodedBatch]:
        """The array, and the batch without it."""
        batch = self._collate(items)
        return batch.images_VB3HW.numpy(), batch.without_images()


def decoded_batches(
    images: ImagePositions, batches: Sequence[Sequence[int]], collate: Collate, workers: int
) -> Generator[DecodedBatch, None, None]:
    """The decoded `batches` in order, prepared by `workers` processes (0: in this one). DataError if one of them dies."""
    piped = workers > 0 and not _fits_shared_memory(collate, workers)
    loader = DataLoader(
        images,
        batch_sampler=[list(batch) for batch in batches],
        collate_fn=PipedCollate(collate) if piped else collate,
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        worker_init_fn=_begin_worker if workers else None,
        multiprocessing_context="fork" if workers and hasattr(os, "fork") else None,
    )
    with naming_lost_workers():
        with warnings.catch_warnings():  # Python 3.12 warns of any fork beside threads; workers use no lock of theirs
            warnings.simplefilter("ignore", DeprecationWarning)
            iterator = iter(loader)
        for found in iterator:
            yield found[1].with_images(torch.from_numpy(found[0])) if piped else found


@contextlib.contextmanager
def naming_lost_workers() -> Iterator[None]:
    """DataError where a worker ended: torch raises that wherever this process is, in the teacher's pass as well."""
    try:
        yield
    except RuntimeError as error:
        if LOST not in str(error):
            raise
        raise DataError(
            "a worker process ended unexpectedly (out of memory, or shared memory too small?); run the same command"
            " again to resume, with fewer --workers or a smaller --batch-size for a new store."
        ) from error


def _fits_shared_memory(collate: Collate, workers: int) -> bool:
    """Whether all batches that can be on their way have room in shared memory; said where not. True where it cannot be told."""
    if not SHARED.is_dir():
        return True
    needed, free = collate.batch_bytes * (workers * (AHEAD + 1) + 1), shutil.disk_usage(SHARED).free
    if needed <= free:
        return True
    say(
        f"{SHARED} has {free / 2**20:,.0f} MiB free, and batches on their way may take {needed / 2**20:,.0f}: they go through pipes, which "
        "is slower for a teacher that is fast (in Docker: --shm-size)."
    )
    return False


def _begin_worker(number: int) -> None:
    _end_with_parent(number)
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end_with_lost_batch)  # type: ignore[attr-defined]


def _end_with_lost_batch(error: Exception, _: object) -> None:
    """What a worker does whose thread could not give a batch away: the parent waits for that batch, and sees the end of the worker."""
    if not isinstance(error, EOFError | ConnectionError):  # the parent has gone, and says so itself
        traceback.print_exception(error, limit=1, file=sys.stderr)
    os._exit(1)


def _end_with_parent(_: int) -> None:
    """Leave as soon as the parent is gone: a worker that outlives a killed parent would keep the store locked."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    sys.excepthook = _without_lost_parents(sys.excepthook)


def _without_lost_parents(hook: ExceptHook) -> ExceptHook:
    """`hook`, but silent where the connection to the parent has broken: a parent that was interrupted hangs up in the middle of
    taking a batch, and the thread that gives it away would print that traceback below the parent's own last line."""

    def quiet(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
        if not issubclass(kind, EOFError | ConnectionError):
            hook(kind, error, trace)

    return quiet
