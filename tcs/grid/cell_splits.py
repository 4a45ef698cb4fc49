"""Which rows of the training store a cell reads: with their labels k a class by the seed, those of a file, or all that have one; and its
pool.

Legend: n rows of the store.
"""

import pathlib

import numpy as np
from numpy.typing import NDArray

import cache
from tcs.grid.recipe import ALL_LABELS, UP_TO, Cell, Grid
from tcs.runtime import say
from tcs.splits.counts import counted, rows_of_classes
from tcs.splits.held_out import held_out_rows
from tcs.splits.pool import pool_of
from tcs.splits.shots import Split, all_labelled, k_shot_split, read_split_file, up_to_k_split
from tcs.splits.written_split import suffix_of, write_split_file

SPLITS = "splits"


def split_of_cell(grid: Grid, store: cache.Store, cell: Cell) -> Split:
    """The split of `store`, the training store of the cell's data set. DataError where a class has too few rows, or a file names
    others than the store has."""
    pair = grid.of(cell.dataset).pair
    if cell.shots == ALL_LABELS:
        return all_labelled(store.keys, store.labels_N, store.classes)
    if pair.splits:
        path = pair.splits[cell.shots][grid.seeds.index(cell.seed)]
        return read_split_file(path, store.keys, store.labels_N, store.classes)
    draw = up_to_k_split if grid.shots_policy == UP_TO else k_shot_split
    return draw(store.keys, store.labels_N, store.classes, cell.shots, cell.seed)


def say_fewer(grid: Grid, store: cache.Store) -> None:
    """Say which classes of the training store have fewer labels than the largest number of shots, where the recipe lets them."""
    if grid.shots_policy != UP_TO or grid.pair.splits:
        return
    rows, shots = rows_of_classes(store.labels_N, store.classes), max(grid.shots)
    fewer = {name: count for name, count in rows.items() if count < shots}
    if fewer:
        say(
            f"shots_policy is up-to: {len(fewer)} of {len(rows)} classes have fewer than {shots} labels, and give all they have "
            f"({counted(fewer)})."
        )


def keep_split(out: pathlib.Path, split: Split, store: cache.Store, cell: Cell, form: str) -> None:
    """Write the split into the folder of the grid, once for all its cells; of all labels there is nothing to write."""
    if cell.shots == ALL_LABELS:
        return
    path = out / SPLITS / cell.dataset / f"shots-{cell.shots}-seed-{cell.seed}{suffix_of(form)}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_split_file(path, split, store.keys, store.labels_N, store.classes, form)


def pool_of_cell(grid: Grid, store: cache.Store, split: Split, cell: Cell) -> NDArray[np.int64]:
    """The rows that students of the cell's pool are trained on, with the `held_out` of the grid's options: a method with one
    of its own may be trained on other rows."""
    rows_n = pool_of(store, split.rows_n, cell.unlabelled, cell.seed)
    held_out = grid.options.get("held_out", 0)
    return held_out_rows(store.keys, rows_n, split.rows_n, held_out, cell.seed).kept(rows_n)
