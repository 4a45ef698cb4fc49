"""The stages of a chain as the person at the terminal sees them: which of how many, what it does, and what it took."""

import contextlib
import time
from collections.abc import Iterator

from tcs.runtime import readable_seconds, say


class Stages:
    """Numbers the stages of one command; `seconds` says what each took, in order."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.seconds: dict[str, float] = {}
        self._names = names

    @contextlib.contextmanager
    def stage(self, name: str, what: str) -> Iterator[None]:
        """A line before the stage and one after it; none after one that failed, whose error says more."""
        head = f"[{self._names.index(name) + 1}/{len(self._names)}] {name}"
        say(f"{head}: {what}")
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started
        say(f"{head}: done, {readable_seconds(self.seconds[name])}.")

    def describe(self) -> str:
        """What all of them took, as one line."""
        parts = ", ".join(f"{name} {readable_seconds(seconds)}" for name, seconds in self.seconds.items())
        return f"{readable_seconds(sum(self.seconds.values()))} in all: {parts}."
