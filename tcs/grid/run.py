"""The stage `tcs fewshot`: one row per run in results.csv, committed as it comes; a rerun goes on where the file ends.

Legend: N rows, C classes.
"""

import dataclasses
import functools
import os
import pathlib
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import cache
from cache.errors import CacheError
from tcs.artefact import teacher_name_of
from tcs.config.evaluate import FewshotConfig
from tcs.config.pixels import student_rules_in
from tcs.config.train import TrainConfig
from tcs.errors import DivergedError, TcsError
from tcs.grid.answers import Answers
from tcs.grid.bench import Bench, OpenedGrid, open_grid
from tcs.grid.cell_splits import keep_split, pool_of_cell, split_of_cell
from tcs.grid.cells import CellLedger
from tcs.grid.costs import online_teacher_seconds
from tcs.grid.engines import Crew, run_engine
from tcs.grid.ledger import COLUMNS, claim_folder, load_results, recipe_id, row_key
from tcs.grid.picture import Kept
from tcs.grid.recipe import (
    POOL_REFERENCES,
    STUDENT_REFERENCES,
    TEACHER,
    Cell,
    Grid,
    cell_config,
    method_of,
)
from tcs.grid.references import answer_reference, answer_transductive
from tcs.grid.rehearsal import check_students, rehearse, say_estimate, say_plan
from tcs.grid.same_pixels import train_same_pixels
from tcs.grid.streams import without
from tcs.grid.work import Work, done_keys, run_groups
from tcs.inference.network import logits_of, scored_at_once
from tcs.inference.runs import load_student
from tcs.metrics import known_hashes
from tcs.plain_files import SEEN, load_record
from tcs.reporting.rows import CELL_KEY, RESULTS
from tcs.runtime import pick_device, say
from tcs.splits.shots import Split
from tcs.students.backbone import parse_student
from tcs.training.data import RunData, reads_coordinates, reads_targets
from tcs.training.feed import frame_size
from tcs.training.images import fits
from tcs.training.progress import ShowSteps
from tcs.training.record import FAILED
from tcs.training.train import train_opened

LONGEST_REASON = 300  # characters of an error in a row


def fewshot(config: FewshotConfig) -> int:
    """Run the cells that results.csv lacks and return how many failed. One failed cell does not stop the others.

    Writes recipe.yaml, ledger.json, cells.jsonl, splits/ (`class key` lines), runs/ and, with several jobs, logs/ beside results.csv.
    With `dry_run` it writes nothing, and returns how many things of the recipe would fail, each told in a line. Raises ConfigError
    for a bad recipe, ModelError for a student that timm does not know, ArtefactError for a folder of another recipe or of other
    stores.
    """
    opened = open_grid(config)
    done = done_keys(opened.out)
    todo = without(opened.groups, lambda cell: cell.key in done)
    say_plan(opened, todo)
    if config.dry_run:
        return rehearse(opened, todo, config.jobs)
    check_students(opened, todo)
    say_estimate(opened, todo, config.jobs)
    origins = [bench.origin for bench in opened.benches.values()]
    claim_folder(opened.out, opened.grid, pathlib.Path(config.recipe), *origins)
    run_engine(config, opened, todo, Crew(work=work_of(opened), task=run_task, part=fewshot))
    keys = {cell.key for group in opened.groups for cell in group}
    failed = [row for row in load_results(opened.out / RESULTS) if row["status"] != "ok" and row_key(row) in keys]
    return len(failed)


def work_of(opened: OpenedGrid) -> Work:
    """How the cells of a grid are trained and scored."""
    return Work(
        out=opened.out,
        train_together=lambda cells, show: train_together(opened.bench_of(cells[0]), cells, show),
        row=lambda cell, show, ended: run_cell(opened.bench_of(cell), cell, show, ended),
    )


def run_task(folder: str, options: Mapping[str, Any], ids: Sequence[str], since: int) -> list[tuple[str, str, str]]:
    """Run the cells of one group, named by `ids`, in the working folder `folder`; returns (cell, what is told, state) of each.

    Its process may run many groups of a grid, whose stores and images it keeps.
    """
    os.chdir(folder)  # paths of a recipe are relative to where the command was given
    opened, kept = _opened(tuple(options.items())), Kept()
    groups = [tuple(cell for cell in group if cell.digest in ids) for group in opened.groups]
    cells = CellLedger(opened.out, since)
    run_groups(work_of(opened), [group for group in groups if group], cells, kept)
    return kept.ended


@functools.lru_cache(maxsize=1)
def _opened(options: tuple[tuple[str, Any], ...]) -> OpenedGrid:
    return open_grid(FewshotConfig(**dict(options)))


def train_together(bench: Bench, cells: Sequence[Cell], show: ShowSteps) -> dict[tuple[str, ...], str]:
    """Train the students of cells that differ in their models alone on one stream of images, and leave them in their folders.

    Returns, by key, why a student's training ended before the others', empty where it is done. Where the stream as a whole fails this
    is said, and the students are left to be trained one by one.
    """
    try:
        config = _config_of(bench, cells[0])
        data = bench.data_of(config.targets)
        _decode_once(data, config)
        models = tuple(cell.model for cell in cells)
        train_opened(dataclasses.replace(config, models=models), data, _split_of(bench, cells[0]), show)
    except DivergedError:
        return {cell.key: _what_ended(config, cell.model) for cell in cells}
    except Exception as error:  # of a student that cannot be built, of memory that is too small for all of them
        say(f"{len(cells)} students on one stream fail ({_reason(error)}): they are trained one by one.")
        return {}
    return {cell.key: "" for cell in cells}


def _what_ended(config: TrainConfig, model: str) -> str:
    """What the record of a student says that its training failed with; empty where it did not."""
    record = load_record(_folder_of(config, model))
    return str(record["error"]) if record["state"] == FAILED else ""


def _folder_of(config: TrainConfig, model: str) -> pathlib.Path:
    """Where the files of a student go."""
    return pathlib.Path(config.out) / parse_student(model).folder


def _config_of(bench: Bench, cell: Cell) -> TrainConfig:
    return cell_config(bench.grid, cell, str(bench.out / "runs" / run_name(cell)), bench.device)


def _split_of(bench: Bench, cell: Cell) -> Split:
    """The split of a cell, drawn and written down beside the rows once for all cells of its shots and seed."""
    drawn = (cell.dataset, cell.shots, cell.seed)
    if drawn not in bench.splits:
        bench.splits[drawn] = split_of_cell(bench.grid, bench.train, cell)
        keep_split(bench.out, bench.splits[drawn], bench.train, cell, bench.grid.splits_as)
    return bench.splits[drawn]


def run_cell(bench: Bench, cell: Cell, show: ShowSteps, ended: str | None = None) -> dict[str, Any]:
    """The row of one cell; a failure becomes a row with status `failed` and its reason. `ended` is what a training that has ended
    failed with, empty where it is done."""
    row = dict.fromkeys(COLUMNS, "") | dict(zip(CELL_KEY, cell.key, strict=True))
    reads_targets, teachers = uses_targets(bench.grid, cell), bench.pool_teachers
    digest = recipe_id(bench.settings, cell, reads_targets=reads_targets, pool_teachers=teachers)
    row |= bench.origin.columns() | {"recipe_id": digest}
    row |= {"commit": bench.commit, "teacher": teacher_name_of(bench.train)}
    if ended:
        return row | {"status": "failed", "error": ended[:LONGEST_REASON]}
    try:
        split = _split_of(bench, cell)
        if cell.model == TEACHER:
            measured = _reference(bench, cell, split)
        else:
            measured = _student(bench, cell, split, None if ended is not None else show)
        return row | {"split_id": split.digest, "status": "ok"} | measured
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
    return f"{kind}{' '.join(str(error).split())}"[:LONGEST_REASON]


def run_name(cell: Cell) -> str:
    """The folder of a cell's run, one for each method, shots, seed and pool: readable, and told apart by a digest where a character
    of the label cannot stand in a path."""
    parts = [*filter(None, [cell.dataset]), *cell.key[-4:]]
    written = "_".join(parts)
    name = re.sub(r"[^A-Za-z0-9_.]+", "-", written).strip("-")
    return name if name == written else f"{name}-{cache.digest_of_json(parts)[:8]}"


def _student(bench: Bench, cell: Cell, split: Split, show: ShowSteps | None) -> dict[str, Any]:
    """Train (where that is done there is nothing to `show`), then score the folded timm model on the test store."""
    config = _config_of(bench, cell)
    without_teacher = cell.method.label in STUDENT_REFERENCES
    data = bench.data_of(None if without_teacher else config.targets)
    folder = _folder_of(config, cell.model)
    if show is not None:
        _decode_once(data, config)
        _ = train_same_pixels(config, data, split, show) if without_teacher else train_opened(config, data, split, show)
    student = load_student(folder)
    details, cost = student.record["student"], student.record["cost"]
    seconds = cost.get("share_seconds", cost["wall_seconds"])  # runs of earlier releases had streams of their own
    scaled = student_rules_in(details, str(folder)).scaled
    images_N3SS, device = bench.images(details["image_size"], scaled=scaled), pick_device(bench.device)
    batch_size = scored_at_once(details["image_size"], device)
    logits_NC = logits_of(student.model, images_N3SS, details["mean"], details["std"], device, batch_size)
    temperature = (student.record.get("calibration") or {}).get("temperature")
    answers = Answers.of_logits(logits_NC, temperature, batch_size)
    online = online_teacher_seconds(bench.train, cost["images_seen"])
    return {
        **bench.scorer.score(cell, answers, known_hashes(folder / SEEN)),
        **bench.costs.of(student),
        "params_m": round(details["parameters"] / 1e6, 4),
        "steps": student.record["recipe"]["steps"],
        "images_seen": cost["images_seen"],
        "wall_s": round(seconds, 2),
        "stream_students": cost.get("students", 1),
        "images_per_s": round(cost["images_seen"] / max(seconds, 1e-9), 1),
        "peak_mem_mb": round(cost["peak_mib"], 1),
        "online_teacher_s": "" if without_teacher or online is None else online,
        "targets_id": data.targets.identity if data.targets and uses_targets(bench.grid, cell) else "",
    }


def _decode_once(data: RunData, config: TrainConfig) -> None:
    """Decode every training image before the first cell, where they fit: cells draw other rows, but from the same store."""
    if config.img_size is None:
        return
    whole, scaled, rows = data.has_views, config.augment.scaled_decoding, len(data.store)
    size = frame_size(config.augment, config.img_size, views=whole)
    if (size, whole, scaled) not in data.decoded and fits(rows, size, pick_device("cpu"), config.resident_share):
        data.resident(np.arange(rows), size, whole=whole, scaled=scaled)


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
