"""Which process is at which cell of a grid: several may run one folder at once, and no cell is trained twice."""

import hashlib
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from tcs.grid.recipe import Cell
from tcs.ordinary import require_ordinary
from tcs.runtime import say

try:
    import fcntl
except ImportError:  # not POSIX: no advisory locks, so one process at a time there
    fcntl = None  # type: ignore[assignment]

CLAIMS = ".cells"
POLL_SECONDS = 0.2


def claimed_groups(
    out: pathlib.Path,
    groups: Sequence[Sequence[Cell]],
    is_over: Callable[[Cell], bool],
    passed: Callable[[Cell], None] = lambda _: None,
) -> Iterator[list[Cell]]:
    """Each of `groups`, without those of its cells that are over, while this process alone holds it.

    Groups of which another process holds a cell come last: they are waited for, and handed out only where cells of them are not
    over then, as when that process was killed. `passed` is called for each cell that is not handed out. A cell is one byte of
    OUT/.cells, locked by the system, which frees it with the process.
    """
    require_ordinary(out / CLAIMS)
    with (out / CLAIMS).open("a+b") as file:
        elsewhere: list[Sequence[Cell]] = []
        for group in groups:
            if _claim(file, group):
                yield from _without_those_over(group, is_over, passed)
                _release(file, group)
            else:
                elsewhere.append(group)
        if elsewhere:
            say(f"Another process is at {sum(map(len, elsewhere))} of the cells: waiting for it.")
        while elsewhere:
            group = next((group for group in elsewhere if _claim(file, group)), ())
            if not group:
                time.sleep(POLL_SECONDS)
                continue
            elsewhere.remove(group)
            yield from _without_those_over(group, is_over, passed)
            _release(file, group)


def claimed_by_others(out: pathlib.Path, cells: Sequence[Cell]) -> list[Cell]:
    """Those of `cells` that another process of this machine is at, or of one that shares the locks of its file system."""
    if not (out / CLAIMS).is_file() or fcntl is None:
        return []
    found = []
    with (out / CLAIMS).open("r+b") as file:
        for cell in cells:
            if _claim(file, [cell]):
                _release(file, [cell])
            else:
                found.append(cell)
    return found


def _without_those_over(
    group: Sequence[Cell], is_over: Callable[[Cell], bool], passed: Callable[[Cell], None]
) -> Iterator[list[Cell]]:
    left = []
    for cell in group:
        if is_over(cell):
            passed(cell)
        else:
            left.append(cell)
    if left:
        yield left


def _place(cell: Cell) -> int:
    """The byte that stands for a cell: 47 bits of the digest of its key."""
    return int.from_bytes(hashlib.sha256("\n".join(cell.key).encode()).digest()[:6], "little") >> 1


def _claim(file: BinaryIO, group: Sequence[Cell]) -> bool:
    """Whether all cells of the group are ours now; else none of them is."""
    if fcntl is None:
        return True
    for number, cell in enumerate(group):
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(cell))
        except BlockingIOError:
            _release(file, group[:number])
            return False
    return True


def _release(file: BinaryIO, group: Sequence[Cell]) -> None:
    for cell in group if fcntl is not None else ():
        fcntl.lockf(file, fcntl.LOCK_UN, 1, _place(cell))
