"""`tcs fewshot --jobs N`: N worker processes of this machine at one grid, started, shown and ended by the process of the command.

Each has its part of the cores. A worker that ends before its time is told and replaced; its cell is another's. When the command ends,
however it does, so do they: their stdin ends with it.
"""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from typing import BinaryIO

import tcs
from tcs.config.evaluate import FewshotConfig
from tcs.errors import ResourceError
from tcs.grid.picture import Board
from tcs.images.stored import cores
from tcs.ordinary import read_ordinary, require_ordinary
from tcs.runtime import say, stop_requests

LOGS = "logs"
POLL_SECONDS = 0.1
LEAVE_SECONDS = 30.0  # for workers to save what they have begun
THREADS = "OMP_NUM_THREADS"


def threads_of(jobs: int) -> int:
    """Threads of each of `jobs` processes that share the cores; no more than OMP_NUM_THREADS, where it is set."""
    share, given = max(1, cores() // jobs), os.environ.get(THREADS, "")
    return min(share, int(given)) if given.isdecimal() and int(given) else share


def worker_environment(jobs: int) -> dict[str, str]:
    """What a worker needs to know before it imports torch: its threads, and where this very package lies."""
    home = str(pathlib.Path(str(tcs.__file__)).parent.parent)
    path = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH", ""))))
    return {THREADS: str(threads_of(jobs)), "PYTHONPATH": path}


def run_jobs(config: FewshotConfig, since: int, board: Board) -> None:
    """Let `config.jobs` workers run what is left of the grid. ResourceError where they end before they begin a cell.

    `since` is the length of cells.jsonl when the command began. On Ctrl-C and SIGTERM the workers save what they have begun.
    """
    folder = pathlib.Path(config.out) / LOGS
    folder.mkdir(exist_ok=True)
    request = json.dumps({"config": dataclasses.asdict(config), "since": since})
    workers = [_Worker(number, folder, request, config.jobs, board) for number in range(1, config.jobs + 1)]
    try:
        with stop_requests() as stop:
            for worker in workers:
                worker.start()
            while sum(worker.goes_on() for worker in workers):  # all of them are looked at
                if stop.requested:
                    _end(workers)
                    stop.leave()
                time.sleep(POLL_SECONDS)
    finally:
        _end(workers)
    if all(worker.failed for worker in workers):
        raise ResourceError(f"no job could begin a cell: {workers[0].last_line()} ({workers[0].log}).")


def _end(workers: list["_Worker"]) -> None:
    """Ask all workers to end, and end those that do not."""
    for worker in workers:
        worker.ask_to_end()
    until = time.monotonic() + LEAVE_SECONDS
    for worker in workers:
        worker.end(max(0.0, until - time.monotonic()))


class _Worker:
    """One place of the crew: a process, and those that replace it."""

    def __init__(self, number: int, folder: pathlib.Path, request: str, jobs: int, board: Board) -> None:
        self._name, self._request, self._jobs, self._board = f"job {number}", request, jobs, board
        self.log = folder / f"job-{number}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: threading.Thread | None = None
        self._has_begun = False
        self.failed = False

    def start(self) -> None:
        """Start a process that claims cells until none is left."""
        self._has_begun = False
        require_ordinary(self.log)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tcs.grid.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **worker_environment(self._jobs)},
                start_new_session=True,  # Ctrl-C reaches the command alone, which ends the workers in its own way
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{self._request}\n".encode())
        self._process.stdin.flush()
        self._listener = threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True)
        self._listener.start()

    def goes_on(self) -> bool:
        """Whether there is a process that is not done; one that ended before its time is told, and replaced."""
        if self._process is None:
            return False
        code = self._process.poll()
        if code is None:
            return True
        self._close()
        if code == 0:
            return False
        say(f"{self._name} ended {_how(code)}: {self.last_line()} ({self.log}). Its cell is tried again by another.")
        if self._has_begun:
            self.start()
            return True
        self.failed = True
        return False

    def ask_to_end(self) -> None:
        """Ask the process to save what it has begun."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def end(self, seconds: float) -> None:
        """Wait so long for the process to end, then end it."""
        if self._process is None:
            return
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close()

    def last_line(self) -> str:
        """What the process said last."""
        lines = (
            read_ordinary(self.log)[-4000:].decode("utf-8", "replace").strip().splitlines() if self.log.exists() else []
        )
        return lines[-1][:200] if lines else "it said nothing"

    def _close(self) -> None:
        """Let go of a process that has ended."""
        assert self._process is not None
        assert self._listener is not None
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process = None
        self._board.lost(self._name)

    def _listen(self, pipe: BinaryIO) -> None:
        for line in pipe:
            if line.endswith(b"\n"):  # not so where a kill cut it short
                self._take(json.loads(line))

    def _take(self, words: list[object]) -> None:
        """What the process is at."""
        kind, *rest = words
        if kind == "begin":
            self._has_begun = True
            self._board.begin(self._name, *rest)  # type: ignore[arg-type]
        elif kind == "steps":
            self._board.steps(self._name, *rest)  # type: ignore[arg-type]
        else:
            told = self._board.end(self._name, *rest)  # type: ignore[arg-type]
            if told:
                say(told)


def _how(code: int) -> str:
    """How a process ended, in words."""
    return f"with {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
