"""Grids of several jobs: the rows of one process, whatever is killed when, and no process that outlives its command."""

import os
import pathlib
import random
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from forks import Forked, forked
from grids import make_stores, results, rows_of, write_recipe
from workers import fewshot_with_forks

from tcs.config.evaluate import FewshotConfig
from tcs.grid.cells import RUNNING, CellLedger
from tcs.grid.recipe import plan_cells
from tcs.grid.recipe_file import load_grid
from tcs.grid.run import fewshot

KILLS = 20
LONG = {"img_size": 16, "steps": 120, "batch_size": 16, "checkpoint_every": 20}
GRID: dict[str, Any] = {
    "seeds": [0, 1, 2],
    "options": {"img_size": 16, "steps": 60, "batch_size": 16, "checkpoint_every": 10},
}


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    return make_stores(tmp_path)


def is_alive(pid: int) -> bool:
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def running(out: pathlib.Path, recipe: pathlib.Path) -> set[int]:
    """The processes that the ledger says are at a cell."""
    if not (out / "ledger.json").exists():
        return set()
    ledger = CellLedger(out)
    states = [ledger.state(cell) for cell in plan_cells(load_grid(recipe))]
    return {int(state.where.rpartition(":")[2]) for state in states if state is not None and state.state == RUNNING}


def wait_for(condition: Any, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def command(recipe: pathlib.Path, out: pathlib.Path) -> tuple[str, ...]:
    return (str(recipe), "--out", str(out), "--jobs", "2")


def whole(recipe: pathlib.Path, out: pathlib.Path) -> list[Any]:
    """The rows of an undisturbed run by one process."""
    assert fewshot(FewshotConfig(recipe=str(recipe), out=str(out))) == 0
    return results(out)


def test_two_jobs_make_the_rows_of_one_process(folder: pathlib.Path) -> None:
    """Fresh interpreters, as a user has them."""
    recipe = write_recipe(folder, **GRID)
    assert fewshot(FewshotConfig(recipe=str(recipe), out=str(folder / "jobs"), jobs=2)) == 0
    assert results(folder / "jobs") == whole(recipe, folder / "alone")
    assert sorted(path.name for path in (folder / "jobs" / "logs").iterdir()) == ["job-1.log", "job-2.log"]
    assert any("steps of 16 images" in path.read_text() for path in (folder / "jobs" / "logs").iterdir())


def test_a_worker_that_is_killed_is_told_and_its_cell_is_anothers(folder: pathlib.Path) -> None:
    recipe = write_recipe(folder, options=LONG)
    with forked(folder / "said", fewshot_with_forks, *command(recipe, folder / "grid")) as child:
        child.until(lambda: len(list((folder / "grid" / "runs").rglob("config.json"))) > 0)  # 120 steps are to come
        os.kill(min(running(folder / "grid", recipe)), signal.SIGKILL)
        assert child.ended() == 0
        assert "ended by SIGKILL: " in child.stderr
        assert "Its cell is tried again by another." in child.stderr
    assert {row["status"] for row in rows_of(folder / "grid")} == {"ok"}
    assert results(folder / "grid") == whole(recipe, folder / "alone")


def has_steps(log: pathlib.Path) -> bool:
    return log.stat().st_size > 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_no_worker_outlives_its_command(folder: pathlib.Path, number: int, code: int) -> None:
    recipe = write_recipe(folder, options={**LONG, "steps": 100_000, "checkpoint_every": 10_000, "log_interval": 1})
    with forked(folder / "said", fewshot_with_forks, *command(recipe, folder / "grid")) as child:
        states = folder / "grid" / "runs"
        child.until(lambda: len(list(filter(has_steps, states.rglob("metrics.jsonl")))) == 4)
        workers = running(folder / "grid", recipe)
        assert len(workers) == 2
        os.kill(int(child.process.pid or 0), number)
        assert child.ended() == code
    wait_for(lambda: not any(map(is_alive, workers)))
    assert len(list(states.rglob("resume.pt"))) == 4  # they saved what they had begun


def test_workers_that_cannot_begin_are_an_error_with_what_they_said(folder: pathlib.Path) -> None:
    recipe = write_recipe(folder)
    with forked(folder / "said", fewshot_without_stores, folder, *command(recipe, folder / "grid")) as child:
        assert child.ended() == 1
        assert "Error: no job could begin a cell: Error: " in child.stderr
        assert "job-1.log" in child.stderr


def fewshot_without_stores(folder: pathlib.Path, *arguments: str) -> None:
    """The store is gone when the workers come to open it."""
    import tcs.grid.run as run

    engine = run.run_engine

    def late(*given: Any) -> None:
        (folder / "test.store").rename(folder / "gone.store")
        engine(*given)

    run.run_engine = late
    fewshot_with_forks(*arguments)


class Killer:
    """Runs a grid again and again, and ends its command, a worker, or all of them at moments drawn from a seed."""

    def __init__(self, folder: pathlib.Path, recipe: pathlib.Path) -> None:
        self.folder, self.recipe, self.out = folder, recipe, folder / "grid"
        self.draw, self.kills = random.Random(0), 0

    def run(self) -> int:
        """Run the grid once; its exit code."""
        with forked(self.folder / "said", fewshot_with_forks, *command(self.recipe, self.out)) as child:
            while self.kills < KILLS and child.process.is_alive():
                child.process.join(self.draw.uniform(0.05, 0.8))
                if child.process.is_alive():
                    self.kills += 1
                    if self.kill(child):
                        break
            return child.ended()

    def kill(self, child: Forked) -> bool:
        """Whether the command itself was ended."""
        victims = list(self.workers())
        choice = self.draw.choice(("command", "worker", "all"))
        for pid in victims if choice == "all" else victims[:1] if choice == "worker" else ():
            os.kill(pid, signal.SIGKILL)
        if choice != "worker":
            os.kill(int(child.process.pid or 0), signal.SIGKILL)
        return choice != "worker"

    def workers(self) -> Iterator[int]:
        """Those that are at a cell and live."""
        return filter(is_alive, sorted(running(self.out, self.recipe)))


def test_a_grid_that_is_killed_20_times_has_the_rows_of_an_undisturbed_one(folder: pathlib.Path) -> None:
    recipe = write_recipe(folder, **GRID)
    killer = Killer(folder, recipe)
    for _ in range(3 * KILLS):
        code = killer.run()
        if killer.kills == KILLS and code == 0:
            break
    assert killer.kills == KILLS
    assert results(folder / "grid") == whole(recipe, folder / "alone")
    cells = CellLedger(folder / "grid")
    assert max(cells.state(cell).attempt for cell in plan_cells(load_grid(recipe))) > 1  # type: ignore[union-attr]
