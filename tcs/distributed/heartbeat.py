"""Signs of life between processes: a counter that a thread raises, and a watch that sees when one stands still.

torchrun ends the ranks of a machine where one died, but those of other machines would wait for it without end.
"""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Iterator

BEAT_SECONDS = 5.0

SILENT_SECONDS = 60.0

SILENT_LOOKS = 3  # a watcher that was itself held up gives the others time to beat again

FIRST_BEAT_SECONDS = 600.0  # some start late: a cold file system takes minutes to import torch

Add = Callable[[str, int], int]  # (name, amount) -> the sum, seen by all processes


@contextlib.contextmanager
def beating(add: Add, rank: int) -> Iterator[None]:
    """Raise the counter of `rank` every few seconds for the duration; a store that is gone is noticed by others."""
    through = threading.Event()

    def beat() -> None:
        with contextlib.suppress(Exception):
            while True:
                add(_name(rank), 1)
                if through.wait(BEAT_SECONDS):
                    return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        through.set()
        thread.join()


@dataclasses.dataclass
class _Pulse:
    """What was seen of one rank: its count, when that changed last, and how often it has not changed since."""

    changed: float
    count: int = 0
    still: int = 0

    def look(self, count: int, now: float) -> None:
        self.still = self.still + 1 if count == self.count else 0
        if count != self.count:
            self.count, self.changed = count, now

    def is_silent(self, now: float) -> bool:
        patience = SILENT_SECONDS if self.count else FIRST_BEAT_SECONDS
        return self.still >= SILENT_LOOKS and now - self.changed > patience


class Watch:
    """Watches the counters of some ranks, by its own clock."""

    def __init__(self, add: Add, ranks: Iterable[int]) -> None:
        self._add = add
        self._looked = time.monotonic()
        self._pulses = {rank: _Pulse(self._looked) for rank in ranks}

    def silent(self) -> tuple[int, float] | None:
        """A rank that has been silent for too long, and for how many seconds; None where all is well.

        Looks at most every BEAT_SECONDS. A rank that has not begun yet is given FIRST_BEAT_SECONDS.
        """
        now = time.monotonic()
        if now - self._looked < BEAT_SECONDS:
            return None
        self._looked = now
        for rank, pulse in self._pulses.items():
            pulse.look(self._add(_name(rank), 0), now)
            if pulse.is_silent(now):
                return rank, now - pulse.changed
        return None


def _name(rank: int) -> str:
    return f"beat/{rank}"
