"""Decoded images of a run, resident and streamed: the same pixels, and threads that end. Legend: n rows, b a batch."""

import io
import pathlib
import threading
import time
import warnings
from collections.abc import Callable, Iterator

import artefacts
import h5py
import numpy as np
import pytest
import torch
from artefacts import make_store
from numpy.typing import NDArray
from PIL import Image

import cache
from tcs.config.pixels import PixelRules
from tcs.errors import DataError
from tcs.images import stored as module
from tcs.images.decode import decode_square, quiet_pillow
from tcs.images.stored import THREAD_NAME, decode, decode_quietly, decode_rows, stored_images
from tcs.training.images import ResidentImages, StreamedImages

CPU = torch.device("cpu")
ROWS = 60


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> cache.Store:
    return make_store(tmp_path_factory.mktemp("images") / "train.store", rows=ROWS)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert threads() == []


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(THREAD_NAME)]


def streamed(store: cache.Store, size: int, workers: int, rows_n: NDArray[np.int64] | None = None) -> StreamedImages:
    rows_n = np.arange(len(store)) if rows_n is None else rows_n
    read = stored_images(store)
    return StreamedImages(lambda at: decode(store, read, int(rows_n[at]), size), size, workers, CPU)


def pixels_of(store: cache.Store, row: int, size: int) -> torch.Tensor:
    """The image of a row by Pillow alone: shorter side to `size` (all are square here)."""
    image = Image.open(io.BytesIO(store.image_bytes(row))).convert("RGB")
    image = image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BICUBIC)
    return torch.tensor(np.array(image)).permute(2, 0, 1)


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
@pytest.mark.parametrize("size", [16, 11, 21])
def test_streamed_and_resident_images_are_the_same_for_every_order_and_batch(
    store: cache.Store, workers: int, size: int
) -> None:
    rows_n = np.random.default_rng(0).permutation(ROWS)[:37]
    resident = ResidentImages(decode_rows(store, rows_n, size))
    slow_n3HW = torch.stack([pixels_of(store, int(row), size) for row in rows_n])
    images = streamed(store, size, workers, rows_n)
    generator = torch.Generator().manual_seed(size)
    for length in (1, 2, 7, 37, 0):
        positions_b = torch.randint(0, 37, (length,), generator=generator)
        batch_b3HW = images.begin(positions_b).result()
        assert batch_b3HW.dtype == torch.uint8
        assert batch_b3HW.is_contiguous()
        assert torch.equal(batch_b3HW, resident.begin(positions_b).result())
        assert torch.equal(batch_b3HW, slow_n3HW[positions_b])
    images.close()


def test_without_workers_the_caller_decodes_when_it_asks() -> None:
    seen: list[str] = []

    def decode_row(at: int) -> NDArray[np.uint8]:
        seen.append(threading.current_thread().name)
        return np.full((4, 4, 3), at, np.uint8)

    images = StreamedImages(decode_row, 4, 0, CPU)
    assert images.ahead == 1
    coming = images.begin(torch.tensor([3, 5]))
    assert seen == []
    assert coming.result()[:, 0, 0, 0].tolist() == [3, 5]
    assert seen == [threading.current_thread().name] * 2
    images.close()


def test_closing_drops_what_is_not_begun_and_waits_for_the_rest() -> None:
    begun, go_on = threading.Event(), threading.Event()
    done: list[int] = []

    def decode_row(at: int) -> NDArray[np.uint8]:
        begun.set()
        assert go_on.wait(30)
        done.append(at)
        return np.zeros((4, 4, 3), np.uint8)

    images = StreamedImages(decode_row, 4, 1, CPU)
    images.begin(torch.arange(50))
    assert begun.wait(30)
    closing = threading.Thread(target=images.close)
    closing.start()
    go_on.set()
    closing.join(30)
    assert done == [0]
    images.close()  # a second time changes nothing


def broken_store(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, bad: int) -> cache.Store:
    made: list[bytes] = []

    def png(pixels_HW3: NDArray[np.uint8]) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(pixels_HW3).save(buffer, "PNG")
        made.append(buffer.getvalue() if len(made) != bad else b"no image")
        return made[-1]

    monkeypatch.setattr(artefacts, "png", png)
    return make_store(folder / "broken.store", rows=ROWS)


@pytest.mark.parametrize("workers", [0, 3])
def test_a_broken_image_is_named_and_the_threads_end(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    store = broken_store(tmp_path, monkeypatch, bad=7)
    message = f"^image '{store.keys[7]}' of .* cannot be decoded: not an image file; check the store.$"
    images = streamed(store, 16, workers)
    assert len(images.begin(torch.tensor([6, 8])).result()) == 2
    with pytest.raises(DataError, match=message):
        images.begin(torch.arange(ROWS)).result()
    images.close()
    monkeypatch.setattr(module, "DECODE_CHUNK", 4)
    with pytest.raises(DataError, match=message):
        decode_rows(store, np.arange(ROWS), 16)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_decoding_ahead_of_a_run_ends_at_once_when_it_is_interrupted(
    store: cache.Store, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    monkeypatch.setattr(module, "DECODE_CHUNK", 20)
    monkeypatch.setattr(module, "cores", lambda: 1)
    read: list[int] = []

    def slowly(row: int) -> bytes:
        read.append(row)
        if row >= 20:
            time.sleep(0.1)
        return store.image_bytes(row)

    def interrupt(_: int) -> None:
        raise error

    with pytest.raises(error):
        decode_quietly(store, np.arange(ROWS), 16, slowly, interrupt)
    assert 20 <= len(read) < 40  # what was begun of the second of three chunks, no more


@pytest.mark.parametrize("packed", [False, True])
def test_images_are_read_without_hdf5(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, store: cache.Store, packed: bool
) -> None:
    path = store.path
    if packed:
        path = tmp_path / "packed.h5"
        cache.pack(store.path, path)
    opened = cache.open(path)
    assert opened.is_packed == packed

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("HDF5 is called")

    expected_n3HW = torch.stack([pixels_of(store, row, 16) for row in range(ROWS)])
    for owner, name in ((h5py.File, "__init__"), (h5py.Dataset, "__getitem__"), (h5py.Group, "__getitem__")):
        monkeypatch.setattr(owner, name, refuse)
    images = streamed(opened, 16, 3)
    assert torch.equal(images.begin(torch.arange(ROWS)).result(), expected_n3HW)
    images.close()
    assert torch.equal(decode_rows(opened, np.arange(ROWS), 16), expected_n3HW)


def odd_png() -> bytes:
    """A palette image with transparency as bytes: Pillow warns of its conversion unless told otherwise."""
    buffer = io.BytesIO()
    image = Image.new("P", (8, 8))
    image.save(buffer, "PNG", transparency=bytes(range(256)))
    return buffer.getvalue()


def run_in_threads(call: Callable[[], object], count: int = 8) -> list[BaseException]:
    failed: list[BaseException] = []

    def attempt() -> None:
        try:
            for _ in range(50):
                call()
        except BaseException as error:
            failed.append(error)

    workers = [threading.Thread(target=attempt) for _ in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    return failed


def test_threads_that_decode_leave_the_warning_filters_as_they_were() -> None:
    before = list(warnings.filters)
    data = odd_png()
    assert run_in_threads(lambda: decode_square(data, 8, PixelRules())) == []
    assert list(warnings.filters) == before
    with quiet_pillow():
        warnings.warn_explicit("odd EXIF", UserWarning, "image.py", 1, module="PIL.Image")
        assert run_in_threads(lambda: decode_square(data, 8, PixelRules())) == []
        with pytest.warns(UserWarning, match="of another"):
            warnings.warn("of another", stacklevel=1)
    assert list(warnings.filters) == before
