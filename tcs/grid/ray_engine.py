"""`tcs fewshot --engine ray`: one task of Ray for each group of cells, on one machine or a cluster that shares the folder's disk.

Ray runs a task again whose worker was killed; the cells then count as tried, as with the other engines (tcs.grid.work).
"""

import dataclasses
import importlib
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tcs.config.evaluate import FewshotConfig
from tcs.errors import ConfigError
from tcs.grid.cells import RUNNING, CellLedger
from tcs.grid.jobs import threads_of, worker_environment
from tcs.grid.picture import Board
from tcs.grid.streams import Group
from tcs.grid.work import named
from tcs.runtime import say

RETRIES = 4  # of a task whose worker is killed: more than a cell may be tried, so that its row is written in the end
LOOK_SECONDS = 1.0

Task = Callable[[str, Mapping[str, Any], Sequence[str], int], list[tuple[str, str, str]]]  # tcs.grid.run.run_task


def run_ray(config: FewshotConfig, task: Task, todo: Sequence[Group], cells: CellLedger, board: Board) -> None:
    """Run the groups as tasks: on the cluster of RAY_ADDRESS, or one of this machine. ConfigError without Ray.

    A task asks for the threads that one of `config.jobs` processes of this machine has, and for a GPU on --device cuda.
    """
    ray = _ray()
    resources = {"num_cpus": threads_of(config.jobs), "num_gpus": int(config.device.startswith("cuda"))}
    variables = {"env_vars": worker_environment(config.jobs)}
    with _cluster(ray):
        remote = ray.remote(**resources, max_retries=RETRIES, runtime_env=variables)(task)
        given = (str(pathlib.Path.cwd()), dataclasses.asdict(config))
        running = {remote.remote(*given, [cell.digest for cell in group], cells.since): group for group in todo}
        names: dict[tuple[str, ...], str] = {}  # of the process that is at a group, by its first cell
        while running:
            ready, _ = ray.wait(list(running), timeout=LOOK_SECONDS)
            _show_begun(running.values(), names, cells, board)
            for reference in ready:
                _take(ray, reference, names.get(running.pop(reference)[0].key, ""), board)


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(
            f'--engine ray needs the package ray ({error}); pip install "tcs-distill[ray]", or use --engine local.'
        ) from error


@contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """The cluster that this process is connected to, if it is; else one for the duration."""
    if ray.is_initialized():
        yield
        return
    ray.init(log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def _show_begun(groups: Iterable[Group], names: dict[tuple[str, ...], str], cells: CellLedger, board: Board) -> None:
    """Show the groups that a task is at, by the process that cells.jsonl names."""
    for group in groups:
        state, key = cells.state(group[0]), group[0].key
        if state is not None and state.state == RUNNING and names.get(key) != state.where:
            board.lost(names.get(key, ""))
            names[key] = state.where
            board.begin(state.where, len(group), named(group))


def _take(ray: Any, reference: Any, name: str, board: Board) -> None:
    """Say what became of the cells of a task."""
    try:
        ended = ray.get(reference)
    except ray.exceptions.RayError as error:
        board.lost(name)
        say(f"A task was lost ({' '.join(str(error).split())[:200]}); run the same command again for its cells.")
        return
    for words in ended:
        told = board.end(name, *words)
        if told:
            say(told)
