"""A grid on a Ray of two CPUs whose workers are killed: the rows of one process. Skipped where Ray is not installed.

A worker takes seconds to start, so only a few are killed; TCS_RAY_KILLS=20 in the environment kills so many.
"""

import contextlib
import os
import pathlib
import random
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from grids import make_stores, results, rows_of, write_recipe

from tcs.config.evaluate import FewshotConfig
from tcs.grid.cells import RUNNING, CellLedger
from tcs.grid.recipe import plan_cells
from tcs.grid.recipe_file import load_grid
from tcs.grid.run import fewshot

ray = pytest.importorskip("ray")

KILLS = int(os.environ.get("TCS_RAY_KILLS", "2"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


class Killer(threading.Thread):
    """Ends processes that train, at moments drawn from a seed."""

    def __init__(self, out: pathlib.Path, recipe: pathlib.Path) -> None:
        super().__init__(daemon=True)
        self._out, self._cells = out, plan_cells(load_grid(recipe))
        self.killed: list[int] = []

    def run(self) -> None:
        """Until enough were ended, or no more are seen."""
        draw, until = random.Random(0), time.monotonic() + 15 * KILLS + 60
        while len(self.killed) < KILLS and time.monotonic() < until:
            victims = [pid for pid in self._at_work() if pid not in self.killed]
            time.sleep(draw.uniform(0.02, 0.5))
            for pid in victims[:1]:
                with contextlib.suppress(ProcessLookupError):  # done meanwhile
                    os.kill(pid, signal.SIGKILL)
                    self.killed.append(pid)

    def _at_work(self) -> list[int]:
        if not (self._out / "cells.jsonl").exists():
            return []
        ledger = CellLedger(self._out)
        states = [ledger.state(cell) for cell in self._cells]
        return [int(state.where.rpartition(":")[2]) for state in states if state and state.state == RUNNING]


@pytest.mark.usefixtures("cluster")
def test_workers_that_are_killed_are_replaced_and_the_rows_are_those_of_one_process(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"img_size": 16, "steps": 150, "batch_size": 16, "checkpoint_every": 10}
    recipe = write_recipe(make_stores(tmp_path), seeds=list(range(1 + KILLS // 4)), options=options)
    killer = Killer(tmp_path / "ray", recipe)
    killer.start()
    for _ in range(1 + KILLS):  # a cell that was killed twice by one command is left to the next
        failed = fewshot(FewshotConfig(recipe=str(recipe), out=str(tmp_path / "ray"), engine="ray", jobs=2))
        if not failed:
            break
    assert failed == 0
    assert len(killer.killed) == KILLS, capsys.readouterr().err
    killer.join()
    assert {row["status"] for row in rows_of(tmp_path / "ray")} == {"ok"}
    ledger = CellLedger(tmp_path / "ray")
    assert max(ledger.state(cell).attempt for cell in plan_cells(load_grid(recipe))) > 1  # type: ignore[union-attr]
    assert fewshot(FewshotConfig(recipe=str(recipe), out=str(tmp_path / "alone"))) == 0
    assert results(tmp_path / "ray") == results(tmp_path / "alone")
