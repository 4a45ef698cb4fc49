"""A process of a grid that another one has started: `python -m tcs.grid.worker`.

It reads one line of JSON on stdin, its options; it ends when stdin does, for then the process that started it is gone. What it
is at goes to stdout, a JSON object a line, and what it says to stderr.
"""

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

from cache.errors import CacheError
from tcs.config.evaluate import FewshotConfig
from tcs.errors import TcsError
from tcs.grid.bench import open_grid
from tcs.grid.cells import CellLedger
from tcs.grid.run import work_of
from tcs.grid.work import run_groups

TELL_SECONDS = 0.5  # between two lines about steps
LEAVE_SECONDS = 30.0  # to save what was begun, once the process is to end


class PipedPlace:
    """Hands what the process is at to the one that shows it; Shown of tcs.grid.picture."""

    def __init__(self, pipe: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._pipe, self._clock, self._told = pipe, clock, float("-inf")

    def begin(self, cells: int, what: str) -> None:
        """As Shown."""
        self._send("begin", cells, what)

    def steps(self, done: int, of: int, images: int, note: str) -> None:
        """As Shown; the last step and one now and then."""
        if done < of and self._clock() - self._told < TELL_SECONDS:
            return
        self._told = self._clock()
        self._send("steps", done, of, images, note)

    def end(self, cell: str, told: str, state: str) -> None:
        """As Shown."""
        self._send("end", cell, told, state)

    def _send(self, *words: object) -> None:
        # Whoever showed it is gone, and stdin says so as well: what was begun is saved then, which an error here would prevent.
        with contextlib.suppress(BrokenPipeError):
            self._pipe.write(json.dumps(words) + "\n")
            self._pipe.flush()


def main() -> None:
    """Read the options, run what is left of the grid."""
    options = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_stdin, name="stdin", daemon=True).start()
    try:
        with os.fdopen(os.dup(sys.stdout.fileno()), "w") as pipe:
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no line of ours
            opened = open_grid(FewshotConfig(**options["config"]))
            cells = CellLedger(opened.out, options["since"])
            run_groups(work_of(opened), opened.groups, cells, PipedPlace(pipe))
    except (TcsError, CacheError) as error:
        sys.exit(f"Error: {error}")
    except BrokenPipeError:  # the process that started this one is gone
        sys.exit(128 + signal.SIGPIPE)


def _end_with_stdin() -> None:
    """Ask this process to end when the one that started it is gone; a training saves its state first."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LEAVE_SECONDS)
    os._exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    main()
