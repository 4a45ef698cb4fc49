"""Cells that are trained together: students of one method, split and pool whose image sizes agree share one stream of batches.

A student ends up with the weights that it would have alone, bit for bit (tcs.training), so this is about time alone.
"""

import math
from collections.abc import Callable, Sequence

from tcs.grid.recipe import STUDENT_REFERENCES, TEACHER, Cell, Grid
from tcs.students.backbone import parse_student
from tcs.training.jobs import image_size

Group = tuple[Cell, ...]


def group_cells(grid: Grid, cells: Sequence[Cell], jobs: int = 1) -> list[Group]:
    """The cells in groups of one stream each, in the order of their first cells.

    No group holds more than a job's part of the students to train, so that no process is left without work where there are few.
    """
    trained = sum(_shares(cell) for cell in cells)
    most = max(1, math.ceil(trained / jobs))
    groups: dict[tuple[object, ...], list[Cell]] = {}
    for cell in cells:
        key = _stream(grid, cell)
        number = 0
        while len(groups.get((*key, number), ())) >= most:
            number += 1
        groups.setdefault((*key, number), []).append(cell)
    return [tuple(group) for group in groups.values()]


def without(groups: Sequence[Group], is_over: Callable[[Cell], bool]) -> list[Group]:
    """The groups without the cells that are over, and without those that are empty then."""
    left = [tuple(cell for cell in group if not is_over(cell)) for group in groups]
    return [group for group in left if group]


def _shares(cell: Cell) -> bool:
    return cell.model != TEACHER and cell.method.label not in STUDENT_REFERENCES


def _stream(grid: Grid, cell: Cell) -> tuple[object, ...]:
    """What cells of one stream have in common; of the cells that share none all of their key."""
    if not _shares(cell):
        return cell.key
    options = dict(grid.of(cell.dataset).options) | dict(cell.method.options)
    size = options.get("img_size") or image_size(parse_student(cell.model))
    return (cell.key[:-5], *cell.key[-4:], size)
