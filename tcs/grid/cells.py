"""cells.jsonl of a grid: what became of each cell, attempt by attempt; appended to by every process that is at the grid.

A line is a JSON object: `cell` (digest of the key), `key` (data set, model, method, shots, seed, pool), `state` (running, done or
failed), `attempt` (from 1), `seconds`, `error`, `predictions` (a path in the folder, or empty), `at` (UTC) and `where` (host:pid). The
last line of a cell is its state. One that is `running` while nobody holds its lock (tcs.grid.claims) belongs to a process that was
killed, and the attempt counts. Rows of results.csv stay what says whether a cell is done: this file says how it came to that.
"""

import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from tcs.errors import ArtefactError
from tcs.grid.ledger import locked
from tcs.grid.recipe import Cell
from tcs.ordinary import open_ordinary, read_ordinary
from tcs.reporting.rows import CELLS
from tcs.runtime import say
from tcs.schemas.check import broken_rule
from tcs.schemas.grids import CellLine
from tcs.training.metrics import AppendedFile

RUNNING, DONE, FAILED = "running", "done", "failed"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellState:
    """The last line of a cell."""

    state: str
    attempt: int
    error: str
    where: str


class CellLedger:
    """The file of the folder `out`, read up to its last whole line whenever it is asked, and appended to under the folder's lock.

    `since` is the length of the file, in bytes, when the command began: `tries` counts the attempts since then. A line that a kill
    cut short at the end of the file was no record: it is told and goes with the next append. ArtefactError, with the line, for
    anything else that is no record.
    """

    def __init__(self, out: pathlib.Path, since: int | None = None) -> None:
        self._out, self._path = out, out / CELLS
        self._read, self._line = 0, 0
        self._states: dict[str, CellState] = {}
        self._began: dict[str, int] = {}
        self.since = self._refreshed(since)

    def state(self, cell: Cell) -> CellState | None:
        """The last line of a cell; None where it was never begun."""
        self._refresh()
        return self._states.get(cell.digest)

    def tries(self, cell: Cell) -> int:
        """How often the cell was begun since the command began."""
        now = self.state(cell)
        return 0 if now is None else now.attempt - self._began.get(cell.digest, 0)

    def begin(self, cells: Sequence[Cell]) -> None:
        """Note that this process is at `cells`: an attempt more for each. Their locks are to be held."""
        attempts = [1 if (now := self.state(cell)) is None else now.attempt + 1 for cell in cells]
        self._append([_line(cell, RUNNING, attempt) for cell, attempt in zip(cells, attempts, strict=True)])

    def end(self, cell: Cell, *, seconds: float, error: str = "", predictions: str = "") -> None:
        """Note that the attempt at `cell` is done, or what it failed with."""
        now = self.state(cell)
        state, attempt = FAILED if error else DONE, 1 if now is None else now.attempt
        line = _line(cell, state, attempt) | {"seconds": round(seconds, 2), "error": error, "predictions": predictions}
        self._append([line])

    def _refreshed(self, since: int | None) -> int:
        """Read the file up to the end of its first `since` bytes, which says what was there; returns that length."""
        with locked(self._out):
            data = read_ordinary(self._path) if self._path.exists() else b""
            whole = data.rfind(b"\n") + 1
            if whole < len(data):
                say(f"{self._path} ends in a line that was cut short, as by a kill: that attempt is not counted.")
        self._take(data[: whole if since is None else min(since, whole)])
        self._began = {identity: state.attempt for identity, state in self._states.items()}
        began_at = self._read
        self._take(data[self._read : whole])
        return began_at

    def _refresh(self) -> None:
        """Read what was appended since the last look, up to the last whole line."""
        if not self._path.exists() or self._path.stat().st_size <= self._read:
            return
        with open_ordinary(self._path) as file:
            file.seek(self._read)
            data = file.read()
        self._take(data[: data.rfind(b"\n") + 1])

    def _take(self, data: bytes) -> None:
        for line in data.splitlines():
            self._line += 1
            record = _parsed(line, f"{self._path} line {self._line}")
            self._states[record["cell"]] = CellState(
                **{field.name: record[field.name] for field in dataclasses.fields(CellState)}
            )
        self._read += len(data)

    def _append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        piece = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        with locked(self._out):
            _cut_to_whole_lines(self._path)
            with contextlib.closing(AppendedFile(self._path)) as file:
                file.write(piece)


def _cut_to_whole_lines(path: pathlib.Path) -> None:
    """Drop what a process that was killed left of its last line. Under the lock nobody else is writing."""
    if not path.exists() or not path.stat().st_size:
        return
    with open_ordinary(path) as file:
        file.seek(-1, os.SEEK_END)
        if file.read() == b"\n":
            return
    os.truncate(path, read_ordinary(path).rfind(b"\n") + 1)


def _line(cell: Cell, state: str, attempt: int) -> dict[str, Any]:
    return {
        "cell": cell.digest,
        "key": list(cell.key),
        "state": state,
        "attempt": attempt,
        "seconds": None,
        "error": "",
        "predictions": "",
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "where": f"{socket.gethostname()}:{os.getpid()}",
    }


def _parsed(line: bytes, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or broken_rule(record, CellLine) is not None:
        found = line[:60].decode("utf-8", "backslashreplace")
        raise ArtefactError(f"{where} is no record of a cell ({found!r}); delete that line: rows are in results.csv.")
    return record
