"""How the steps of a run are shown: a bar on a terminal, and elsewhere a line now and then, so that a log says how far it is."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from tcs.runtime import Rate, ResumableBar, progress_bar, say

FIRST_SECONDS, EVERY_SECONDS = 5.0, 10.0


class ShowSteps(Protocol):
    """Shows the steps of one stream of students; a grid, which shows many, brings its own."""

    def __call__(self, steps: int, title: str, images: int) -> AbstractContextManager[ResumableBar]:
        """`images` are seen in a step, by all students of the stream."""


@contextlib.contextmanager
def show_steps(steps: int, title: str, images: int) -> Iterator[ResumableBar]:  # noqa: ARG001 -- the note tells them
    """A bar on stderr; where that is no terminal, a line after 5 s and then every 10 s."""
    if not sys.stderr.isatty():
        yield LineBar(steps, title)
        return
    with progress_bar(steps, title, "steps") as bar:
        yield bar


class LineBar:
    """A line on stderr now and then: steps done, of how many, their rate, the time left, and the note."""

    def __init__(self, steps: int, title: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._steps, self._title, self._clock = steps, title, clock
        self._rate, self._done = Rate(steps, clock), 0
        self._due = clock() + FIRST_SECONDS

    def begin_at(self, done: int) -> None:
        """Count from `done` on, of an earlier process."""
        self._rate.begin_at(done)
        self._done = done

    def advance(self, amount: int, note: str = "") -> None:
        """Count `amount` more steps, and say so where it is time."""
        self._done += amount
        self._rate.advance(amount)
        if self._clock() < self._due:
            return
        self._due = self._clock() + EVERY_SECONDS
        parts = (
            f"step {self._done:,} of {self._steps:,}",
            self._rate.speed("steps"),
            f"{self._rate.left()} left",
            note,
        )
        say(f"{self._title}: {', '.join(filter(None, parts))}")
