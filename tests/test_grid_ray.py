"""A grid on a Ray of two CPUs, a worker of which is killed: the rows of one process. Skipped where Ray is not installed."""

import os
import pathlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from grids import make_stores, results, rows_of, write_recipe

from tcs.config.evaluate import FewshotConfig
from tcs.grid.cells import RUNNING, CellLedger
from tcs.grid.recipe import load_grid, plan_cells
from tcs.grid.run import fewshot

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


def kill_once(out: pathlib.Path, recipe: pathlib.Path, killed: list[int]) -> None:
    """End the first process that is seen to train."""
    until = time.monotonic() + 60
    while time.monotonic() < until and not killed:
        time.sleep(0.02)
        if list(out.rglob("config.json")):
            ledger = CellLedger(out)
            states = [ledger.state(cell) for cell in plan_cells(load_grid(recipe)) if cell.model != "teacher"]
            victims = [int(state.where.rpartition(":")[2]) for state in states if state and state.state == RUNNING]
            for pid in victims[:1]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)


@pytest.mark.usefixtures("cluster")
def test_a_worker_that_is_killed_is_replaced_and_the_rows_are_those_of_one_process(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"img_size": 16, "steps": 150, "batch_size": 16, "checkpoint_every": 20}
    recipe = write_recipe(make_stores(tmp_path), options=options)
    killed: list[int] = []
    killer = threading.Thread(target=kill_once, args=(tmp_path / "ray", recipe, killed))
    killer.start()
    failed = fewshot(FewshotConfig(recipe=str(recipe), out=str(tmp_path / "ray"), engine="ray", jobs=2))
    killer.join()
    assert failed == 0
    assert len(killed) == 1
    assert "[5/5] " in capsys.readouterr().err
    assert {row["status"] for row in rows_of(tmp_path / "ray")} == {"ok"}
    ledger = CellLedger(tmp_path / "ray")
    assert max(ledger.state(cell).attempt for cell in plan_cells(load_grid(recipe))) == 2  # type: ignore[union-attr]
    assert fewshot(FewshotConfig(recipe=str(recipe), out=str(tmp_path / "alone"))) == 0
    assert results(tmp_path / "ray") == results(tmp_path / "alone")
