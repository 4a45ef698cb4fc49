"""A command in a process of its own, with a limit of memory and of time: how the harnesses of doors run one."""

import contextlib
import importlib
import os
import pathlib
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Sequence

MEMORY_BYTES = 16 << 30
STOPPED = 9


def call(folder: pathlib.Path, arguments: Sequence[str], seconds: int, stops: str = "") -> tuple[int | None, str]:
    """(exit code, stdout and stderr) of a command in a child; None after `seconds`, minus the signal where it was killed.
    `stops`: the function, as module:name, at which the child ends as by a kill."""
    told = folder.parent / f"{folder.name}.told"
    child = os.fork()
    if not child:
        _run(folder, told, arguments, stops)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(status)
            return code, told.read_text(errors="replace")
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None, told.read_text(errors="replace")


def _run(folder: pathlib.Path, told: pathlib.Path, arguments: Sequence[str], stops: str) -> None:
    code = 99
    try:
        os.chdir(folder)
        tempfile.tempdir = str(folder)  # where reports of errors go
        with told.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        from tcs.cli import main

        if stops:
            module, _, name = stops.partition(":")
            vars(importlib.import_module(module))[name] = lambda *_: os._exit(STOPPED)
        with contextlib.suppress(SystemExit):
            try:
                main(list(arguments))
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else 0
                raise
    except BaseException as error:
        sys.stderr.write(f"Traceback: {type(error).__name__}: {error}")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


# What commands import when they run: a child that imported it anew would take longer than its case
PRELOADED = (
    "torch._dynamo",  # of every optimiser, at its first step
    "timm",
    "tcs.training.train",
    "tcs.grid.run",
    "tcs.evaluation.students",
    "tcs.export.stage",
    "tcs.inference.prediction",
    "tcs.inference.latency",
    "tcs.coordinates.targets",
    "tcs.reporting.written",
    "tcs.reporting.run_page",
    "tcs.reporting.probe_page",
    "tcs.verifying.files",
    "tcs.verifying.folders",
    "tcs.verifying.verify",
)


def preload() -> None:
    """Import all that once, here, with one thread."""
    import torch
    from PIL import Image

    torch.set_num_threads(1)
    Image.init()
    for module in PRELOADED:
        __import__(module)
