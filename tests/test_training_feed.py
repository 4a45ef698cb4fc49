"""The stream of batches: a pure function of the step, bounded, and its waiting counted. Legend: n rows, m labelled ones."""

import threading
import time

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tcs.augmentation.mixing import MixPolicy
from tcs.config.augment import AugmentConfig
from tcs.images.stored import Images
from tcs.training.batches import BatchPlan, batch_positions
from tcs.training.feed import Batch, Feed, Showing
from tcs.training.images import AHEAD, ResidentImages, StreamedImages

CPU = torch.device("cpu")
N, M, SIZE, FRAME = 40, 12, 8, 10
PIXELS_NHW3 = np.random.default_rng(0).integers(0, 256, (N, FRAME, FRAME, 3), dtype=np.uint8)
WARM_UP = BatchPlan(labelled=4, pool=0, labelled_rows=M, pool_rows=N, seed=5)
MAIN = BatchPlan(labelled=3, pool=6, labelled_rows=M, pool_rows=N, seed=5)
STAGES = [(4, WARM_UP), (11, MAIN)]
AUGMENT = AugmentConfig(scale=(0.3, 1.0), hflip=0.5, color_jitter=0.3, reprob=0.3)


def decode_row(at: int) -> NDArray[np.uint8]:
    return PIXELS_NHW3[at]


def resident() -> ResidentImages:
    return ResidentImages(torch.from_numpy(PIXELS_NHW3.transpose(0, 3, 1, 2).copy()))


def feed(images: Images, *, mixing: MixPolicy | None = None, clean_pool: bool = False, seed: int = 5) -> Feed:
    showing = Showing(size=SIZE, augment=AUGMENT, mixing=mixing, clean_pool=clean_pool, seed=seed)
    return Feed(images, torch.arange(M) * 2, STAGES, showing)


def same(one: Batch, other: Batch) -> bool:
    mixes = (one.mix is None and other.mix is None) or repr(one.mix) == repr(other.mix)
    return mixes and torch.equal(one.positions_B, other.positions_B) and torch.equal(one.shown_b3HW, other.shown_b3HW)


@pytest.mark.parametrize("workers", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("options", [{}, {"clean_pool": True}, {"mixing": MixPolicy(mixup=0.5, cutmix=1.0)}])
def test_streamed_batches_are_those_of_resident_images(workers: int, options: dict[str, object]) -> None:
    images = StreamedImages(decode_row, FRAME, workers, CPU)
    one, other = feed(resident(), **options), feed(images, **options)  # type: ignore[arg-type]
    for step in range(one.steps):
        batch = other.batch(step)
        assert same(one.batch(step), batch)
        assert batch.shown_b3HW.shape == (4 if step < 4 else 9, 3, SIZE, SIZE)
    assert torch.equal(one.clean(torch.tensor([3, 1])), other.clean(torch.tensor([3, 1])))
    images.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_in_any_order_and_after_a_restart(workers: int) -> None:
    expected = [feed(resident()).batch(step) for step in range(11)]
    images = StreamedImages(decode_row, FRAME, workers, CPU)
    one = feed(images)
    for step in (0, 1, 7, 8, 2, 10, 10, 3, 9, 0, 5):
        assert same(one.batch(step), expected[step])
    resumed = feed(images)
    assert same(resumed.batch(6), expected[6])
    assert not torch.equal(feed(images, seed=6).batch(6).shown_b3HW, expected[6].shown_b3HW)
    images.close()


def test_rows_are_those_of_the_plan_labelled_ones_first() -> None:
    for step, plan in ((2, WARM_UP), (9, MAIN)):
        batch = feed(resident()).batch(step)
        labelled, pool = batch_positions(plan, torch.arange(M) * 2, step)
        assert batch.labelled == len(labelled)
        assert batch.positions_B.tolist() == [*labelled.tolist(), *pool.tolist()]


class Counting:
    """Images that count the batches on their way."""

    size, is_resident, ahead = FRAME, False, AHEAD

    def __init__(self) -> None:
        self.coming, self.most, self.dropped = 0, 0, 0

    def begin(self, positions_b: torch.Tensor) -> "Counting.Coming":
        self.coming += 1
        self.most = max(self.most, self.coming)
        return Counting.Coming(self, positions_b)

    def close(self) -> None: ...

    class Coming:
        def __init__(self, owner: "Counting", positions_b: torch.Tensor) -> None:
            self.owner, self.positions_b = owner, positions_b

        def result(self) -> torch.Tensor:
            self.owner.coming -= 1
            return resident().begin(self.positions_b).result()

        def drop(self) -> None:
            self.owner.coming -= 1
            self.owner.dropped += 1


def test_no_more_batches_are_on_their_way_than_stated() -> None:
    images = Counting()
    stream = feed(images)
    for step in range(stream.steps):
        stream.batch(step)
        assert images.coming == min(AHEAD, stream.steps - step) - 1
    assert (images.most, images.dropped) == (AHEAD, 0)
    for step in (9, 7, 5, 3, 1, 10, 0):
        stream.batch(step)
    assert images.most == AHEAD
    assert images.dropped > 0


def test_dropped_batches_are_not_decoded() -> None:
    gate, decoded = threading.Event(), []

    def decode_later(at: int) -> NDArray[np.uint8]:
        assert gate.wait(30)
        decoded.append(at)
        return PIXELS_NHW3[at]

    images = StreamedImages(decode_later, FRAME, 1, CPU)
    coming = images.begin(torch.arange(20))
    coming.drop()
    gate.set()
    assert len(images.begin(torch.tensor([30])).result()) == 1
    images.close()
    assert decoded in ([30], [0, 30])


def test_waiting_is_counted_where_decoding_is_slow_and_augmentation_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(at: int) -> NDArray[np.uint8]:
        time.sleep(0.01)
        return PIXELS_NHW3[at]

    shares = {}
    images = {"resident": resident(), "streamed": StreamedImages(slow, FRAME, 1, CPU)}
    show = Feed._show
    monkeypatch.setattr(Feed, "_show", lambda *arguments: (time.sleep(0.01), show(*arguments))[1])
    for name, source in images.items():
        stream, started = feed(source), time.perf_counter()
        for step in range(stream.steps):
            stream.batch(step)
        shares[name] = stream.wait_seconds / (time.perf_counter() - started)
        source.close()
    assert 0 <= shares["resident"] < 0.4
    assert 0.5 < shares["streamed"] <= 1


def test_decoding_beside_the_steps_hides_behind_them() -> None:
    def slow(at: int) -> NDArray[np.uint8]:
        time.sleep(0.002)
        return PIXELS_NHW3[at]

    waits = {}
    for workers in (0, 4):
        images = StreamedImages(slow, FRAME, workers, CPU)
        stream = feed(images)
        stream.batch(0)
        before = stream.wait_seconds
        for step in range(1, stream.steps):
            time.sleep(0.03)
            stream.batch(step)
        waits[workers] = stream.wait_seconds - before
        images.close()
    assert waits[0] >= 0.002 * (3 * 4 + 7 * 9)
    assert waits[4] < 0.5 * waits[0]
