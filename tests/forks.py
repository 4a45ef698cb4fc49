"""Processes forked from one that has imported the toolkit already and has no threads, in place of fresh interpreters.

A fresh interpreter spends seconds of a core on importing torch and timm before it does what it is started for.
"""

import contextlib
import multiprocessing
import os
import pathlib
import resource
import signal
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any

import disk
import strictness

PRELOADED = ["timm.optim", "torch.distributed", "tcs.cli.train", "tcs.training.train", "tcs.extraction.extract"]


def fork_context() -> ForkServerContext:
    """The one fork server of this test process; what it has imported is the same for whoever asks first."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def begin() -> None:
    """What every forked process does first: one thread, no waiting for the disk, and the warnings of the tests."""
    import torch

    torch.set_num_threads(1)
    disk.wait_for_nothing()
    strictness.apply()


def in_process(work: Callable[..., Any], *arguments: Any) -> tuple[int, Any]:
    """(exit code, what `work` returned or None) of `work` in a process of its own, which may be killed."""
    context = fork_context()
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer, args=(theirs, work, arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        answer = ours.recv() if ours.poll(60) else None
    except EOFError:
        answer = None
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode, answer


def _answer(pipe: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    begin()
    pipe.send(work(*arguments))


class Forked:
    """A process that does `work(*arguments)` in a session of its own, and what it says."""

    def __init__(self, folder: pathlib.Path, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._said = folder
        (folder / "stderr.txt").unlink(missing_ok=True)
        self.process = fork_context().Process(target=_run, args=(folder, work, arguments))
        self.process.start()
        self.until((folder / "stderr.txt").exists)  # from here on signals reach it

    def until(self, done: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until `done()`; AssertionError where the process ends before, or the time does."""
        for _ in range(int(seconds / 0.005)):
            if done():
                return
            self.process.join(0.005)
            assert self.process.is_alive() or done(), f"ended with {self.process.exitcode}: {self.stderr}"
        raise AssertionError(f"nothing came in {seconds} s: {self.stderr}")

    def send(self, number: int) -> None:
        """A signal to the process and to all it has started, as a terminal sends it."""
        assert self.process.pid is not None
        assert self.process.is_alive(), f"ended with {self.process.exitcode} before the signal: {self.stderr}"
        os.killpg(self.process.pid, number)

    def ended(self, seconds: float = 60) -> int:
        """The exit code, negative where a signal was the end."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, f"still there after {seconds} s: {self.stderr}"
        return self.process.exitcode

    @property
    def stdout(self) -> str:
        """What was said on stdout until now."""
        return self._heard("stdout.txt")

    @property
    def stderr(self) -> str:
        """What was said on stderr until now."""
        return self._heard("stderr.txt")

    def _heard(self, name: str) -> str:
        path = self._said / name
        return path.read_text() if path.exists() else ""


@contextlib.contextmanager
def forked(folder: pathlib.Path, work: Callable[..., Any], *arguments: Any) -> Iterator[Forked]:
    """A process that does `work(*arguments)`; its stdout and stderr are files of `folder`. None is left behind."""
    folder.mkdir(parents=True, exist_ok=True)
    child = Forked(folder, work, arguments)
    try:
        yield child
    finally:
        if child.process.is_alive():
            child.send(signal.SIGKILL)
            child.process.join(60)
        child.process.close()


def tcs_command(*arguments: str) -> None:
    """`tcs` with these arguments, to be the work of a process."""
    from tcs.cli import main

    main(list(arguments))


def refusal_with_files_of(most_bytes: int, work: Callable[..., Any], *arguments: Any) -> str:
    """What `work(*arguments)` raises, in a process whose files cannot become larger: the nearest thing to a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))
    try:
        work(*arguments)
    except Exception as error:
        return "".join(traceback.format_exception_only(error))
    return "nothing"


def _run(folder: pathlib.Path, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # runs in the background of a shell ignore it
    for number, name in ((1, "stdout.txt"), (2, "stderr.txt")):
        with (folder / name).open("wb") as file:
            os.dup2(file.fileno(), number)
    begin()
    work(*arguments)
