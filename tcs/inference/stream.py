"""Images of any number through a student: read and decoded by threads while the student scores those before them.

Decoders and torch release the interpreter, so threads do, and nothing is copied between processes. What waits is bounded: AHEAD
batches of decoded pixels, 38 MB for 64 images of 224 px each. Batches are cut at fixed positions; a broken image only makes its
batch shorter.

Legend: B batch, b images of a batch that are not broken, S image side in pixels, C classes.
"""

import collections
import concurrent.futures
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

import cache
from tcs.images.decode import BadImageError, Square, quiet_pillow
from tcs.images.stored import THREAD_NAME
from tcs.inference.model import Pixels
from tcs.inference.network import Network
from tcs.inference.sources import NamedImage

AHEAD = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flow:
    """How images flow: a batch's size, how many threads decode, and whether content hashes are wanted."""

    batch_size: int
    workers: int
    hashes: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored:
    """A batch: places of its images among all, their logits, hashes where asked for, and what was done to make pixels of each
    (`tcs.images.told` says it in words); `broken` are (place, reason).

    `seconds` is what the forward pass took.
    """

    places_b: NDArray[np.int64]
    logits_bC: NDArray[np.float32]
    hashes_b16: NDArray[np.uint8] | None
    done_b: tuple[frozenset[str], ...]
    broken: tuple[tuple[int, str], ...]
    seconds: float

    @property
    def images(self) -> int:
        """How many images it stands for, broken ones included."""
        return len(self.places_b) + len(self.broken)


@dataclasses.dataclass(frozen=True)
class _Decoded:
    """What an image shows, or the reason why that is nothing."""

    square: Square | None
    content_hash: bytes
    reason: str = ""


def score_images(images: Sequence[NamedImage], network: Network, pixels: Pixels, flow: Flow) -> Iterator[Scored]:
    """Batches of `images` in order, each with its logits. Whatever ends it, threads end with it."""
    is_over = threading.Event()

    def decode(place: int) -> _Decoded:
        if is_over.is_set():  # nobody waits for it
            return _Decoded(None, b"")
        return _decoded(images[place], pixels, hashes=flow.hashes)

    with quiet_pillow(), concurrent.futures.ThreadPoolExecutor(flow.workers, thread_name_prefix=THREAD_NAME) as pool:
        try:
            for places, decoded in _ahead(len(images), flow.batch_size, lambda place: pool.submit(decode, place)):
                yield _scored(places, decoded, network, flow)
        finally:
            is_over.set()
            pool.shutdown(wait=False, cancel_futures=True)


def _ahead(
    total: int, batch_size: int, submit: Callable[[int], "concurrent.futures.Future[_Decoded]"]
) -> Iterator[tuple[range, list[_Decoded]]]:
    """(places, what is decoded) of each batch, with the batches after it on their way."""
    waiting: collections.deque[tuple[range, list[concurrent.futures.Future[_Decoded]]]] = collections.deque()
    for start in range(0, total, batch_size):
        places = range(start, min(start + batch_size, total))
        waiting.append((places, [submit(place) for place in places]))
        if len(waiting) > AHEAD:
            first, tasks = waiting.popleft()
            yield first, [task.result() for task in tasks]
    while waiting:
        first, tasks = waiting.popleft()
        yield first, [task.result() for task in tasks]


def _decoded(image: NamedImage, pixels: Pixels, *, hashes: bool) -> _Decoded:
    try:
        data = image.read()
    except OSError as error:
        return _Decoded(None, b"", f"cannot be read ({error.strerror or error})")
    try:
        return _Decoded(pixels(data), cache.content_hash(data) if hashes else b"")
    except BadImageError as error:
        return _Decoded(None, b"", str(error))


def _scored(places: range, decoded: Sequence[_Decoded], network: Network, flow: Flow) -> Scored:
    items = list(zip(places, decoded, strict=True))
    good = [(place, item.square, item.content_hash) for place, item in items if item.square is not None]
    broken = tuple((place, item.reason) for place, item in items if item.square is None)
    started = time.perf_counter()
    if good:
        pixels_b = [square.pixels_SS3.transpose(2, 0, 1) for _, square, _ in good]
        logits_bC = network(torch.from_numpy(np.stack(pixels_b)))
    else:
        logits_bC = np.empty((0, 0), np.float32)
    hashes = np.frombuffer(b"".join(content_hash for _, _, content_hash in good), np.uint8).reshape(-1, 16)
    return Scored(
        places_b=np.array([place for place, _, _ in good], np.int64),
        logits_bC=logits_bC,
        hashes_b16=hashes if flow.hashes else None,
        done_b=tuple(square.done for _, square, _ in good),
        broken=broken,
        seconds=time.perf_counter() - started,
    )
