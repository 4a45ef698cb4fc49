"""What a running grid shows: a line for the grid and one for each place that trains; finished ones are a line that scrolls away.

On a terminal the lines stand at the bottom and change; elsewhere they are written once a minute. A worker of a grid hands what it
does to the process that shows it (tcs.grid.jobs), by the same three calls.
"""

import contextlib
import dataclasses
import datetime
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from tcs.runtime import ResumableBar, place, say
from tcs.training.progress import ShowSteps

EVERY_SECONDS = 60.0  # between the lines of a log


class Shown(Protocol):
    """Where a process that runs cells says what it is at."""

    def begin(self, cells: int, what: str) -> None:
        """It is at `cells` cells now, which `what` names."""

    def steps(self, done: int, of: int, images: int, note: str) -> None:
        """It has made `done` steps of the training it is at, of `images` images each."""

    def end(self, cell: str, told: str, state: str) -> None:
        """A cell (Cell.digest) is over: `told` says how, `state` is done, failed, again (it will be tried again) or passed
        (to another process)."""


@dataclasses.dataclass
class Place:
    """What one process is at."""

    what: str
    cells: int
    since: float
    done: int = 0
    of: int = 0
    images: int = 0
    note: str = ""
    first: tuple[float, int] | None = None  # when steps were first told, and how many

    def told(self, done: int, of: int, images: int, note: str, now: float) -> None:
        """Take what is said of its steps."""
        self.done, self.of, self.images, self.note = done, of, images, note
        if self.first is None or done < self.first[1]:
            self.first = (now, done)

    @property
    def share(self) -> float:
        """How much of its cells is done, from 0 to 1; 0 where it makes no steps."""
        return self.done / self.of if self.of else 0.0

    def steps_per_second(self, now: float) -> float:
        """Since they were first told; 0.0 where that is not known yet."""
        if self.first is None or now <= self.first[0]:
            return 0.0
        return (self.done - self.first[1]) / (now - self.first[0])

    def line(self, now: float) -> str:
        """The line that shows it."""
        if not self.of:
            return f"{self.what}: {_clock_time(now - self.since)} so far"
        speed = self.steps_per_second(now)
        left = f"{_clock_time((self.of - self.done) / speed)} left" if speed else "-:--:-- left"
        told = (f"step {self.done:,} of {self.of:,}", left, self.note)
        return f"{self.what}: {', '.join(filter(None, told))}"


class Board:
    """The cells of a grid, counted, and the places where they are trained. Calls may come from several threads."""

    def __init__(self, total: int, to_do: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`total` cells, of which `to_do` are to be done by this command."""
        self._total, self._to_do, self._clock, self._started = total, to_do, clock, clock()
        self._over: dict[str, str] = {}
        self._places: dict[str, Place] = {}
        self._lock = threading.Lock()

    def begin(self, name: str, cells: int, what: str) -> None:
        """The process `name` is at some cells now."""
        with self._lock:
            self._places[name] = Place(what=what, cells=cells, since=self._clock())

    def steps(self, name: str, done: int, of: int, images: int, note: str) -> None:
        """It has made steps."""
        with self._lock:
            if name in self._places:
                self._places[name].told(done, of, images, note, self._clock())

    def end(self, name: str, cell: str, told: str, state: str) -> str:
        """One of its cells is over; returns the line that says so, empty where there is nothing to say. A cell counts once."""
        with self._lock:
            at = self._places.get(name)
            if at is not None and state != "passed":
                at.cells -= 1
                if not at.cells:
                    del self._places[name]
            if state == "again":
                return told
            if state != "passed" or cell not in self._over:
                self._over[cell] = state
            return f"[{len(self._over)}/{self._to_do}] {told}" if told else ""

    def lost(self, name: str) -> None:
        """The process `name` has ended, at whatever it was."""
        with self._lock:
            self._places.pop(name, None)

    def left(self) -> float | None:
        """Seconds that the rest takes at the rate until now; None before anything is done."""
        done = len(self._over) + sum(at.share * at.cells for at in self._places.values())
        seconds = self._clock() - self._started
        return None if done <= 0 else max(0.0, (self._to_do - done) * seconds / done)

    def lines(self) -> list[str]:
        """The line of the grid, and one for each place."""
        with self._lock:
            now, places = self._clock(), dict(sorted(self._places.items()))
            left = self.left()
            images = sum(at.steps_per_second(now) * at.images for at in places.values())
            failed = list(self._over.values()).count("failed")
            parts = (
                f"{self._total - self._to_do + len(self._over) - failed} of {self._total} cells done",
                f"{failed} failed",
                f"{sum(at.cells for at in places.values())} running",
                f"{images:,.0f} images/s" if images else "",
                f"{'-:--:--' if left is None else _clock_time(left)} left",
            )
            grid = f"grid: {', '.join(filter(None, parts))}"
            return [
                grid,
                *(f"  {name}: {at.line(now)}" if name else f"  {at.line(now)}" for name, at in places.items()),
            ]


class OwnPlace:
    """The process that shows the board is at the cells itself."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def begin(self, cells: int, what: str) -> None:
        """As Shown."""
        self._board.begin("", cells, what)

    def steps(self, done: int, of: int, images: int, note: str) -> None:
        """As Shown."""
        self._board.steps("", done, of, images, note)

    def end(self, cell: str, told: str, state: str) -> None:
        """As Shown; says it."""
        line = self._board.end("", cell, told, state)
        if line:
            say(line)


class Kept:
    """Keeps what became of cells, for the answer of a task."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, str, str]] = []

    def begin(self, cells: int, what: str) -> None:
        """As Shown; told by cells.jsonl."""

    def steps(self, done: int, of: int, images: int, note: str) -> None:
        """As Shown; nobody asks a task."""

    def end(self, cell: str, told: str, state: str) -> None:
        """As Shown."""
        self.ended.append((cell, told, state))


class StepBar:
    """Steps of a training, handed on."""

    def __init__(self, shown: Shown, of: int, images: int) -> None:
        self._shown, self._of, self._images, self._done = shown, of, images, 0

    def begin_at(self, done: int) -> None:
        """Go on where an earlier process stopped."""
        self._done = done
        self._shown.steps(done, self._of, self._images, "")

    def advance(self, amount: int, note: str = "") -> None:
        """Count `amount` more."""
        self._done += amount
        self._shown.steps(self._done, self._of, self._images, note)


def steps_of(shown: Shown) -> ShowSteps:
    """What tcs.training shows the steps of a stream by, where a grid trains it."""

    def show(steps: int, title: str, images: int) -> AbstractContextManager[ResumableBar]:
        del title  # the cells of the place say it
        return contextlib.nullcontext(StepBar(shown, steps, images))

    return show


@contextlib.contextmanager
def shown_on_stderr(board: Board) -> Iterator[None]:
    """Show the board while the grid runs: lines that change on a terminal, else lines once a minute. By rank 0 only."""
    if place().rank > 0:
        yield
    elif sys.stderr.isatty():
        with _lines_that_change(board):
            yield
    else:
        with _lines_now_and_then(board):
            yield


@contextlib.contextmanager
def _lines_that_change(board: Board) -> Iterator[None]:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    def drawn() -> Text:
        return Text("\n".join(board.lines()), no_wrap=True, overflow="ellipsis")

    with Live(get_renderable=drawn, console=Console(stderr=True), refresh_per_second=4, transient=True):
        yield


@contextlib.contextmanager
def _lines_now_and_then(board: Board) -> Iterator[None]:
    over = threading.Event()

    def write() -> None:
        while not over.wait(EVERY_SECONDS):
            say("\n".join(board.lines()))

    writer = threading.Thread(target=write, name="picture", daemon=True)
    writer.start()
    try:
        yield
    finally:
        over.set()
        writer.join()


def _clock_time(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
