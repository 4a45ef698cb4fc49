"""Which process is at which cell of a grid: several may run one folder at once, and no cell is trained twice."""

import hashlib
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from tcs.grid.recipe import Cell
from tcs.runtime import say

try:
    import fcntl
except ImportError:  # not POSIX: no advisory locks, so one process at a time there
    fcntl = None  # type: ignore[assignment]

CLAIMS = ".cells"


def claimed_cells(
    out: pathlib.Path, cells: Sequence[Cell], is_done: Callable[[Cell], bool], passed: Callable[[], None] = lambda: None
) -> Iterator[Cell]:
    """Each of `cells` that is not done, while this process alone holds it.

    Cells that another process is at come last: they are waited for, and handed out only if they are not done then, as when that
    process was killed. `passed` is called for each cell that is not handed out. A cell is one byte of OUT/.cells, locked by the system,
    which frees it with the process.
    """
    with (out / CLAIMS).open("a+b") as file:
        elsewhere = []
        for cell in cells:
            if not _claim(file, cell, wait=False):
                elsewhere.append(cell)
                continue
            yield from _unless_done(cell, is_done, passed)
            _release(file, cell)
        if elsewhere:
            say(f"Another process is at {len(elsewhere)} of the cells: waiting for it.")
        for cell in elsewhere:
            _claim(file, cell, wait=True)
            yield from _unless_done(cell, is_done, passed)
            _release(file, cell)


def _unless_done(cell: Cell, is_done: Callable[[Cell], bool], passed: Callable[[], None]) -> Iterator[Cell]:
    if is_done(cell):
        passed()
    else:
        yield cell


def _place(cell: Cell) -> int:
    """The byte that stands for a cell: 47 bits of the digest of its key."""
    return int.from_bytes(hashlib.sha256("\n".join(cell.key).encode()).digest()[:6], "little") >> 1


def _claim(file: BinaryIO, cell: Cell, *, wait: bool) -> bool:
    """Whether the cell is ours now; without `wait` it may be another's."""
    if fcntl is None:
        return True
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, _place(cell))
    except BlockingIOError:
        return False
    return True


def _release(file: BinaryIO, cell: Cell) -> None:
    if fcntl is not None:
        fcntl.lockf(file, fcntl.LOCK_UN, 1, _place(cell))
