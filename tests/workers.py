"""Workers of a grid that are forked from its command in place of fresh interpreters, which take seconds to import the toolkit."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import types
from typing import Any

import tcs.grid.jobs
from tcs.grid.worker import main


class ForkedPopen:
    """What tcs.grid.jobs asks of subprocess.Popen, with a fork that does what `python -m tcs.grid.worker` does."""

    def __init__(self, command: list[str], *, stderr: Any, env: dict[str, str], **_: Any) -> None:
        assert command[1:] == ["-P", "-m", "tcs.grid.worker"]
        to_child, from_child = os.pipe(), os.pipe()
        self.pid, self._code = os.fork(), None
        if self.pid == 0:
            _be_worker(to_child[0], from_child[1], stderr.fileno(), env)
        os.close(to_child[0])
        os.close(from_child[1])
        self.stdin, self.stdout = os.fdopen(to_child[1], "wb", buffering=0), os.fdopen(from_child[0], "rb")

    def poll(self) -> int | None:
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def wait(self, seconds: float = 60.0) -> int:
        until = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("worker", seconds)
            time.sleep(0.005)
        assert self._code is not None
        return self._code

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def _be_worker(stdin: int, stdout: int, stderr: int, env: dict[str, str]) -> None:
    """Never returns."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    for number, descriptor in enumerate((stdin, stdout, stderr)):
        os.dup2(descriptor, number)
    os.closerange(3, 256)  # what belongs to the command, the pipes of other workers among it
    os.environ.update(env)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    code = 1
    with contextlib.suppress(SystemExit):
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
            if isinstance(ended.code, str):
                print(ended.code, file=sys.stderr)
            raise
    os._exit(code)


def fewshot_with_forks(*arguments: str) -> None:
    """`tcs fewshot` with these arguments, whose workers are forks."""
    tcs.grid.jobs.subprocess = types.SimpleNamespace(  # type: ignore[assignment]
        Popen=ForkedPopen, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired
    )
    from tcs.cli import main as tcs_main

    tcs_main(["fewshot", *arguments])
