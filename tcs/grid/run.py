"""The stage `tcs fewshot`: one row per run in results.csv, committed as it comes; a rerun goes on where the file ends.

Legend: N rows, C classes.
"""

import dataclasses
import pathlib
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

import cache
from cache.errors import CacheError
from tcs.artefact import teacher_name_of
from tcs.checkpoint import SEEN
from tcs.config.evaluate import EvalConfig, FewshotConfig
from tcs.config.plain import require_config
from tcs.config.train import TrainConfig
from tcs.coordinates.stores import open_stores
from tcs.coordinates.targets import open_targets
from tcs.errors import DataError, TcsError
from tcs.grid.answers import Answers
from tcs.grid.cell_splits import keep_split, pool_of_cell, say_fewer, split_of_cell
from tcs.grid.claims import claimed_cells
from tcs.grid.costs import Costs, online_teacher_seconds
from tcs.grid.ledger import (
    CELL_KEY,
    COLUMNS,
    RESULTS,
    Origin,
    add_row,
    check_folder,
    claim_folder,
    load_results,
    recipe_id,
    row_key,
    settings_of,
)
from tcs.grid.recipe import (
    POOL_REFERENCES,
    STUDENT_REFERENCES,
    TEACHER,
    Cell,
    Grid,
    cell_config,
    choose_part,
    method_of,
    plan_cells,
)
from tcs.grid.recipe_file import load_grid
from tcs.grid.references import answer_reference, answer_transductive, pool_teachers_of
from tcs.grid.same_pixels import train_same_pixels
from tcs.grid.scoring import Scorer
from tcs.images.stored import decode_rows, find_images
from tcs.inference.network import logits_of
from tcs.inference.runs import load_student
from tcs.metrics import known_hashes
from tcs.runtime import environment, pick_device, progress_bar, say
from tcs.splits.shots import Split
from tcs.training.data import POOL_LABELS, RunData, open_data, reads_coordinates, reads_targets
from tcs.training.feed import frame_size
from tcs.training.images import fits
from tcs.training.train import train


@dataclasses.dataclass(kw_only=True)
class Bench:
    """What the cells of a grid share: the stores, what runs read by targets file, test images by size, the environment."""

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
    test_images: dict[int, Tensor] = dataclasses.field(default_factory=dict)

    def data_of(self, targets: str | None) -> RunData:
        """The training store with `targets`; all of them share the images decoded so far."""
        if targets not in self.data:
            self.data[targets] = open_data(self.grid.train, targets, self.grid.data, also=self.grid.also)
            self.data[targets].decoded = next(iter(self.data.values())).decoded
            self.data[targets].pool_labels_folder = self.out / POOL_LABELS
        return self.data[targets]

    def images(self, size: int) -> Tensor:
        """The labelled test images at `size`, uint8 (N, 3, size, size)."""
        if size not in self.test_images:
            read = find_images(self.test, self.grid.test_data)
            self.test_images[size] = decode_rows(self.test, np.flatnonzero(self.test.labels_N >= 0), size, read)
        return self.test_images[size]


def fewshot(config: FewshotConfig) -> int:
    """Run the cells that results.csv lacks and return how many failed. One failed cell does not stop the others.

    Writes recipe.yaml, ledger.json, splits/ (`class key` lines) and runs/ beside results.csv. Raises ConfigError for a bad
    recipe, ArtefactError for a folder of another recipe or of other stores.
    """
    require_config(config, FewshotConfig)
    recipe, out = pathlib.Path(config.recipe), pathlib.Path(config.out)
    grid = load_grid(recipe)
    cells = choose_part(plan_cells(grid), config.cells)
    benches = {name: _open_bench(grid.of(name), out, config.device) for name in grid.datasets}
    origins = [bench.origin for bench in benches.values()]
    check_folder(out, grid, *origins)
    done = _done(out)
    todo = [cell for cell in cells if cell.key not in done]
    _print_plan(grid, cells, todo)
    if config.dry_run:
        return 0
    claim_folder(out, grid, recipe, *origins)
    return _run_cells(benches, out, todo)


def _done(out: pathlib.Path) -> set[tuple[str, ...]]:
    return {row_key(row) for row in load_results(out / RESULTS) if row["status"] == "ok"}


def _run_cells(benches: Mapping[str, Bench], out: pathlib.Path, todo: list[Cell]) -> int:
    failed = number = 0
    with progress_bar(len(todo), "few-shot grid", "cells") as bar:
        for cell in claimed_cells(out, todo, lambda cell: cell.key in _done(out), lambda: bar.advance(1)):
            row = run_cell(benches[cell.dataset], cell)
            add_row(out, row)
            failed, number = failed + (row["status"] != "ok"), number + 1
            result = f"top1 {row['top1']:.2f}" if row["status"] == "ok" else f"FAILED: {row['error']}"
            say(f"[{number}/{len(todo)}] {cell.name}: {result}")
            bar.advance(1)
    return failed


def _print_plan(grid: Grid, cells: list[Cell], todo: list[Cell]) -> None:
    steps, batch = grid.options.get("steps", "default"), grid.options.get("batch_size", 128)
    runs = sum(cell.model != TEACHER for cell in todo)
    say(
        f"{len(cells)} cells: {len(grid.students)} students x {len(grid.methods)} methods x shots {list(grid.shots)} x seeds "
        f"{list(grid.seeds)} x unlabelled {list(grid.unlabelled)}; {len(cells) - len(todo)} done, {len(todo)} to go, "
        f"of which {runs} train ({steps} steps of {batch})."
    )
    noisy = sum(cell.method.label == "ibm2" for cell in todo)
    if noisy:
        say(
            f"{noisy} cells fit ibm2 (260 epochs, 200 noisy copies of each labelled row): leave it out with `references`."
        )


def _open_bench(grid: Grid, out: pathlib.Path, device: str) -> Bench:
    pick_device(device)
    train_store, test_store = open_stores(grid.train, grid.also), open_stores(grid.test, grid.test_also)
    say_fewer(grid, train_store)
    if _identities(train_store) & _identities(test_store):
        raise DataError(
            f"train and test are both store {grid.train}; test on images that nothing was trained or fitted on."
        )
    named = {str(row.options.get("targets")) for row in grid.methods if row.options.get("targets")} | (
        {grid.targets} if grid.targets else set()
    )
    targets = {path: open_targets(pathlib.Path(path), train_store.identity).identity for path in sorted(named)}
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


def run_cell(bench: Bench, cell: Cell) -> dict[str, Any]:
    """The row of one cell; a failure becomes a row with status `failed` and its reason."""
    row = dict.fromkeys(COLUMNS, "") | dict(zip(CELL_KEY, cell.key, strict=True))
    reads_targets, teachers = uses_targets(bench.grid, cell), bench.pool_teachers
    digest = recipe_id(bench.settings, cell, reads_targets=reads_targets, pool_teachers=teachers)
    row |= bench.origin.columns() | {"recipe_id": digest}
    row |= {"commit": bench.commit, "teacher": teacher_name_of(bench.train)}
    try:
        split = split_of_cell(bench.grid, bench.train, cell)
        keep_split(bench.out, split, bench.train, cell)
        measure: Callable[..., dict[str, Any]] = _reference if cell.model == TEACHER else _student
        return row | {"split_id": split.digest, "status": "ok"} | measure(bench, cell, split)
    except Exception as error:  # whatever a library raises is of this cell alone; an interrupt or exit is no Exception
        return row | {"status": "failed", "error": _reason(error)}


def uses_targets(grid: Grid, cell: Cell) -> bool:
    """Whether a file of targets has a part in the cell's row: `labels` may be given one, and reads none."""
    if cell.model == TEACHER or cell.method.label in STUDENT_REFERENCES:
        return False
    config = cell_config(grid, cell, out="", device="cpu")
    method = method_of(config)
    return config.targets is not None and (reads_targets(method) or reads_coordinates(method, config))


def _reason(error: Exception) -> str:
    """The error in one line; of those that are not written for users the type as well, for a KeyError's text is a bare key."""
    kind = "" if isinstance(error, TcsError | CacheError) else f"{type(error).__name__}: "
    return f"{kind}{' '.join(str(error).split())}"[:300]


def run_name(cell: Cell) -> str:
    """The folder of a cell's run, one for each method, shots, seed and pool: readable, and told apart by a digest where a character
    of the label cannot stand in a path."""
    parts = [*filter(None, [cell.dataset]), *cell.key[-4:]]
    written = "_".join(parts)
    name = re.sub(r"[^A-Za-z0-9_.]+", "-", written).strip("-")
    return name if name == written else f"{name}-{cache.digest_of_json(parts)[:8]}"


def _student(bench: Bench, cell: Cell, split: Split) -> dict[str, Any]:
    """Train, then score the folded timm model on the test store."""
    config = cell_config(bench.grid, cell, str(bench.out / "runs" / run_name(cell)), bench.device)
    without_teacher = cell.method.label in STUDENT_REFERENCES
    data = bench.data_of(None if without_teacher else config.targets)
    _decode_once(data, config)
    folder = train_same_pixels(config, data, split) if without_teacher else train(config, data, split)[0]
    student = load_student(folder)
    details, cost = student.record["student"], student.record["cost"]
    scoring = EvalConfig(run=str(folder.parent), store=bench.grid.test, device=bench.device)
    logits_NC = logits_of(
        student.model,
        bench.images(details["image_size"]),
        details["mean"],
        details["std"],
        pick_device(bench.device),
        scoring.batch_size,
    )
    answers = Answers.of_logits(logits_NC, (student.record.get("calibration") or {}).get("temperature"))
    online = online_teacher_seconds(bench.train, cost["images_seen"])
    return {
        **bench.scorer.score(cell, answers, known_hashes(folder / SEEN)),
        **bench.costs.of(student),
        "params_m": round(details["parameters"] / 1e6, 4),
        "steps": student.record["recipe"]["steps"],
        "images_seen": cost["images_seen"],
        "wall_s": round(cost["wall_seconds"], 2),
        "images_per_s": round(cost["images_seen"] / max(cost["wall_seconds"], 1e-9), 1),
        "peak_mem_mb": round(cost["peak_mib"], 1),
        "online_teacher_s": "" if without_teacher or online is None else online,
        "targets_id": data.targets.identity if data.targets and uses_targets(bench.grid, cell) else "",
    }


def _decode_once(data: RunData, config: TrainConfig) -> None:
    """Decode every training image before the first cell, where they fit: cells draw other rows, but from the same store."""
    if config.img_size is None:
        return
    whole, rows = data.has_views, len(data.store)
    size = frame_size(config.augment, config.img_size, views=whole)
    if (size, whole) not in data.decoded and fits(rows, size, pick_device("cpu"), config.resident_share):
        data.resident(np.arange(rows), size, whole=whole)


def _reference(bench: Bench, cell: Cell, split: Split) -> dict[str, Any]:
    """A head on the frozen teacher's cached features, fitted on the k shots (and the pool's features): no student."""
    started = time.perf_counter()
    train, seen_n = bench.train, split.rows_n
    if cell.method.label in POOL_REFERENCES:
        seen_n = pool_of_cell(bench.grid, train, split, cell)
        answers = answer_transductive(
            train, bench.test, split.rows_n, seen_n, cell.seed, bench.device, bench.pool_teachers
        )
    else:
        answers = answer_reference(cell.method.label, train, bench.test, split.rows_n, cell.seed, bench.device)
    seconds = round(time.perf_counter() - started, 2)
    return {**bench.scorer.score(cell, answers, train.hashes_N16[seen_n]), "wall_s": seconds}
