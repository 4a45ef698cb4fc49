"""Ctrl-C while tcs still imports: one line (or none, before there is a command) and 130, wherever it strikes. 6 s."""

import subprocess
import sys

import pytest

CHILD = """
import builtins, sys
plain = builtins.__import__
def struck(name, *more, **named):
    if name == sys.argv[1]:
        raise KeyboardInterrupt
    return plain(name, *more, **named)
builtins.__import__ = struck
from tcs.cli import main
main(["cache", "info", "nowhere.store"])
"""

LOST = """
import builtins, sys
plain = builtins.__import__
class Callback:
    def __del__(self):
        raise KeyboardInterrupt
def struck(name, *more, **named):
    if name == sys.argv[1]:
        builtins.__import__ = plain
        del [Callback()][0]
    return plain(name, *more, **named)
builtins.__import__ = struck
from tcs.cli import main
main(["cache", "info", "nowhere.store"])
"""


@pytest.mark.parametrize("module", ["click", "tcs.cli.lazy_group"])
def test_ctrl_c_that_python_ignores_while_a_module_is_imported_is_not_lost(module: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LOST, module], capture_output=True, text=True, check=False, timeout=60
    )
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 130, ended.stderr


@pytest.mark.parametrize(
    "module", ["click", "cache.errors", "numpy", "h5py", "tcs.cli.lazy_group", "tcs.maintenance.facts"]
)
def test_ctrl_c_while_a_module_is_imported_is_no_traceback(module: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, module], capture_output=True, text=True, check=False, timeout=60
    )
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 130, ended.stderr
    assert ended.stderr.lstrip("\n") in ("stopped; run the same command again to resume.\n", "")
