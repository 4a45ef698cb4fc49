"""A call in a child that is killed at the moment when it gives a file its name."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest


def kill_at_rename(before: int, call: Callable[[], object]) -> None:
    """Make `call` in a child that ends by SIGKILL when it has renamed so many files and is about to rename another."""
    child = os.fork()
    if child:
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        return
    renamed, replace = [], Path.replace

    def struck(path: Path, target: Path) -> Path:
        if len(renamed) == before:
            os.kill(os.getpid(), signal.SIGKILL)
        renamed.append(path)
        return replace(path, target)

    try:
        with mock.patch.object(Path, "replace", struck):
            call()
    finally:
        os._exit(1)


def kill_while(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, before: int, command: Callable[[], object]
) -> None:
    """Run `command` up to its call of the function `module.name`, which is killed as `kill_at_rename` does. A child of its own for that
    part alone: threads of numerical libraries do not live on in a child."""
    write = getattr(module, name)

    def killed(*given: object, **named: object) -> None:
        kill_at_rename(before, lambda: write(*given, **named))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, name, killed)
        with pytest.raises(KeyboardInterrupt):
            command()
