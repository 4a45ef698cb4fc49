"""Signs of life on a clock of the test's own: who is silent, who is late, and who was held up."""

import threading
import time

import pytest

from tcs.distributed.heartbeat import BEAT_SECONDS, FIRST_BEAT_SECONDS, SILENT_SECONDS, Watch, beating


class Counters:
    """Counters of one process, as a store has them."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def add(self, name: str, amount: int) -> int:
        self.counts[name] = self.counts.get(name, 0) + amount
        return self.counts[name]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, to be set."""
    now = [1000.0]
    monkeypatch.setattr("tcs.distributed.heartbeat.time.monotonic", lambda: now[0])
    return now


def look(watch: Watch, clock: list[float], seconds: float) -> list[tuple[int, float]]:
    """What the watch says while `seconds` go by, looked at as often as may be."""
    said = []
    for _ in range(int(seconds / BEAT_SECONDS)):
        clock[0] += BEAT_SECONDS
        said += [found for found in [watch.silent()] if found]
    return said


def test_only_the_rank_that_stands_still_is_silent(clock: list[float]) -> None:
    counters = Counters()
    watch = Watch(counters.add, [1, 2])
    for _ in range(100):
        counters.add("beat/1", 1)
        counters.add("beat/2", 1)
        assert look(watch, clock, BEAT_SECONDS) == []
    for _ in range(int(SILENT_SECONDS / BEAT_SECONDS)):
        counters.add("beat/1", 1)
        assert look(watch, clock, BEAT_SECONDS) == []
    counters.add("beat/1", 1)
    assert look(watch, clock, BEAT_SECONDS) == [(2, SILENT_SECONDS + BEAT_SECONDS)]


def test_a_rank_may_begin_late_but_not_never(clock: list[float]) -> None:
    watch = Watch(Counters().add, [1])
    assert look(watch, clock, FIRST_BEAT_SECONDS) == []
    assert look(watch, clock, BEAT_SECONDS) == [(1, FIRST_BEAT_SECONDS + BEAT_SECONDS)]


def test_a_watcher_that_was_held_up_blames_nobody(clock: list[float]) -> None:
    counters = Counters()
    watch = Watch(counters.add, [1])
    counters.add("beat/1", 1)
    assert look(watch, clock, BEAT_SECONDS) == []
    clock[0] += 10 * SILENT_SECONDS  # both were stopped, and both go on now
    assert watch.silent() is None
    counters.add("beat/1", 1)
    assert look(watch, clock, BEAT_SECONDS) == []
    assert look(watch, clock, SILENT_SECONDS) == []
    assert look(watch, clock, BEAT_SECONDS) == [(1, SILENT_SECONDS + BEAT_SECONDS)]


def test_the_store_is_not_asked_at_every_call(clock: list[float]) -> None:
    asked: list[str] = []

    def add(name: str, amount: int) -> int:
        asked.append(name)
        return 1

    watch = Watch(add, [1])
    for _ in range(100):
        clock[0] += BEAT_SECONDS / 10
        watch.silent()
    assert len(asked) == pytest.approx(10, abs=1)


def test_beats_come_while_the_work_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tcs.distributed.heartbeat.BEAT_SECONDS", 0.01)
    counters = Counters()
    with beating(counters.add, 3):
        deadline = time.monotonic() + 10
        while counters.counts.get("beat/3", 0) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    count = counters.counts["beat/3"]
    assert count >= 3
    time.sleep(0.05)
    assert counters.counts["beat/3"] == count


def test_a_store_that_is_gone_ends_the_beats_only() -> None:
    def gone(name: str, amount: int) -> int:
        raise RuntimeError("Connection reset by peer")

    before = threading.active_count()
    with beating(gone, 0):
        time.sleep(0.02)
    assert threading.active_count() == before
