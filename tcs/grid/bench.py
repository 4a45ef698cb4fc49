"""What the cells of a grid share: its stores, opened once, the images decoded so far, and whose rows they make.

Legend: N rows.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

import cache
from tcs.artefact import tell_other_rules
from tcs.config.evaluate import FewshotConfig
from tcs.coordinates.stores import open_stores
from tcs.coordinates.targets import targets_of
from tcs.errors import DataError
from tcs.grid.cell_splits import say_fewer
from tcs.grid.costs import Costs
from tcs.grid.ledger import Origin, check_folder, settings_of
from tcs.grid.recipe import Cell, Grid, choose_part, plan_cells
from tcs.grid.recipe_file import load_grid
from tcs.grid.references import pool_teachers_of
from tcs.grid.scoring import Scorer
from tcs.grid.streams import Group, group_cells
from tcs.images.stored import decode_rows, find_images
from tcs.runtime import environment, pick_device
from tcs.splits.shots import Split
from tcs.training.data import POOL_LABELS, RunData, open_data


@dataclasses.dataclass(kw_only=True)
class Bench:
    """What the cells of a grid share: the stores, what runs read by targets file, test images by size and decoding, splits by (data set,
    shots, seed), the environment."""

    grid: Grid
    out: pathlib.Path
    device: str
    train: cache.Store
    test: cache.Store
    commit: str
    origin: Origin
    settings: dict[str, Any]
    pool_teachers: str
    scorer: Scorer
    costs: Costs
    data: dict[str | None, RunData] = dataclasses.field(default_factory=dict)
    test_images: dict[tuple[int, bool], Tensor] = dataclasses.field(default_factory=dict)
    splits: dict[tuple[str, int, int], Split] = dataclasses.field(default_factory=dict)

    def data_of(self, targets: str | None) -> RunData:
        """The training store with `targets`; all of them share the images decoded so far."""
        if targets not in self.data:
            self.data[targets] = open_data(self.grid.train, targets, self.grid.data, also=self.grid.also)
            self.data[targets].decoded = next(iter(self.data.values())).decoded
            self.data[targets].pool_labels_folder = self.out / POOL_LABELS
        return self.data[targets]

    def images(self, size: int, *, scaled: bool = False) -> Tensor:
        """The labelled test images at `size`, uint8 (N, 3, size, size), decoded as the student was trained."""
        if (size, scaled) not in self.test_images:
            read, rows_N = find_images(self.test, self.grid.test_data), np.flatnonzero(self.test.labels_N >= 0)
            self.test_images[size, scaled] = decode_rows(self.test, rows_N, size, read, scaled=scaled)
        return self.test_images[size, scaled]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpenedGrid:
    """A recipe with the stores of each data set, and the groups of cells of the part that is to be run, done or not."""

    grid: Grid
    out: pathlib.Path
    benches: Mapping[str, Bench]
    groups: list[Group]

    def bench_of(self, cell: Cell) -> Bench:
        """What the cells of its data set share."""
        return self.benches[cell.dataset]


def open_grid(config: FewshotConfig) -> OpenedGrid:
    """What `config` names, read and checked against the folder. Writes nothing."""
    recipe, out = pathlib.Path(config.recipe), pathlib.Path(config.out)
    grid = load_grid(recipe)
    groups = choose_part(group_cells(grid, plan_cells(grid), config.jobs), config.cells)
    benches = {name: open_bench(grid.of(name), out, config.device) for name in grid.datasets}
    check_folder(out, grid, *(bench.origin for bench in benches.values()))
    return OpenedGrid(grid=grid, out=out, benches=benches, groups=groups)


def open_bench(grid: Grid, out: pathlib.Path, device: str) -> Bench:
    """The stores and targets of a grid of one pair, opened. DataError where train and test are one store."""
    pick_device(device)
    train_store, test_store = open_stores(grid.train, grid.also), open_stores(grid.test, grid.test_also)
    tell_other_rules(train_store, test_store)
    say_fewer(grid, train_store)
    if _identities(train_store) & _identities(test_store):
        raise DataError(
            f"train and test are both store {grid.train}; test on images that nothing was trained or fitted on."
        )
    named = {str(row.options.get("targets")) for row in grid.methods if row.options.get("targets")} | (
        {grid.targets} if grid.targets else set()
    )
    targets = {path: targets_of(path, train_store).identity for path in sorted(named)}
    origin = Origin(
        train=train_store.labelled_identity,
        test=test_store.labelled_identity,
        targets=targets,
        dataset=grid.pair.name,
    )
    commit = str(environment()["commit"] or "")
    scorer = Scorer(out, train_store, test_store, grid.near_copies)
    scorer.say_copies()
    return Bench(
        grid=grid,
        out=out,
        device=device,
        train=train_store,
        test=test_store,
        commit=commit,
        origin=origin,
        settings=settings_of(grid, origin),
        pool_teachers=pool_teachers_of(grid),
        scorer=scorer,
        costs=Costs(out=out, with_latency=grid.latency),
    )


def _identities(store: cache.Store) -> set[str]:
    return {part.identity for part in store.parts or (store,)}
