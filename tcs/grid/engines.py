"""Who runs the cells of a grid: this process, workers on this machine, a Ray cluster, or an array of SLURM jobs.

All of them do the same to the folder (tcs.grid.work), so a grid may be begun by one engine and finished by another.
"""

import dataclasses
from collections.abc import Callable, Sequence

from tcs.config.evaluate import RAY, SUBMITIT, FewshotConfig
from tcs.grid.bench import OpenedGrid
from tcs.grid.cells import CellLedger
from tcs.grid.jobs import run_jobs
from tcs.grid.picture import Board, OwnPlace, shown_on_stderr
from tcs.grid.ray_engine import Task, run_ray
from tcs.grid.streams import Group
from tcs.grid.submitit_engine import run_array
from tcs.grid.work import Work, run_groups


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crew:
    """What the engines are made of: the work of this process, of a task on another machine, and of a command there."""

    work: Work
    task: Task
    part: Callable[[FewshotConfig], int]


def run_engine(config: FewshotConfig, opened: OpenedGrid, todo: Sequence[Group], crew: Crew) -> None:
    """Run the cells that are left, and show it. Raises what the engine raises where it cannot be started."""
    left = sum(map(len, todo))
    if not left:
        return
    if config.engine == SUBMITIT:
        run_array(config, crew.part)
        return
    cells = CellLedger(crew.work.out)
    board = Board(sum(map(len, opened.groups)), left)
    with shown_on_stderr(board):
        if config.engine == RAY:
            run_ray(config, crew.task, todo, cells, board)
        elif config.jobs > 1:
            run_jobs(config, cells.since, board)
        else:
            run_groups(crew.work, todo, cells, OwnPlace(board))
