"""What a grid would need, looked at before the first cell: students that can be built, shots that there are, methods that fit.

`tcs fewshot --dry-run` looks at all of it, times a few steps of each student, and writes nothing. A run looks at the students and the
shots: an unknown student is refused before anything is trained, and what else will fail is said.
"""

import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cache.errors import CacheError
from tcs.config.train import TrainConfig
from tcs.criteria.losses import check_dims, find_loss
from tcs.criteria.terms import parse_loss
from tcs.errors import ModelError, TcsError
from tcs.grid.bench import Bench, OpenedGrid
from tcs.grid.cell_splits import split_of_cell
from tcs.grid.estimate import Estimate, Timed, bytes_of, estimate, is_timed, timed_as
from tcs.grid.ledger import load_results
from tcs.grid.recipe import STUDENT_REFERENCES, TEACHER, Cell, cell_config, method_of
from tcs.grid.same_pixels import plan_same_pixels
from tcs.grid.streams import Group
from tcs.reporting.rows import RESULTS
from tcs.runtime import readable_seconds, say
from tcs.students.backbone import is_known, parse_student
from tcs.students.student import Student, StudentPlan, build_student
from tcs.training.data import vector_readout
from tcs.training.jobs import image_size, plan_jobs
from tcs.training.train import timed

Problems = dict[str, str]  # what would fail -> why


def say_plan(opened: OpenedGrid, todo: Sequence[Group]) -> None:
    """How many cells there are, and what of them is left."""
    grid, cells = opened.grid, [cell for group in opened.groups for cell in group]
    left = [cell for group in todo for cell in group]
    steps, batch = _shared(opened, "steps", "default"), _shared(opened, "batch_size", 128)
    students = sum(cell.model != TEACHER for cell in left)
    say(
        f"{len(cells)} cells: {len(grid.students)} students x {len(grid.methods)} methods x shots {list(grid.shots)} x seeds "
        f"{list(grid.seeds)} x unlabelled {list(grid.unlabelled)}; {len(cells) - len(left)} done, {len(left)} to go, "
        f"of which {students} train ({steps} steps of {batch}), in {len([group for group in todo if is_timed(group[0])])} streams."
    )


def _shared(opened: OpenedGrid, option: str, default: Any) -> str:
    """The option's values over the data sets, each once."""
    values = (bench.grid.options.get(option, default) for bench in opened.benches.values())
    return " or ".join(dict.fromkeys(str(value) for value in values))


def check_students(opened: OpenedGrid, todo: Sequence[Group]) -> None:
    """Before the first cell: ModelError for a student that timm does not know; what else will fail is said."""
    left = [cell for group in todo for cell in group]
    for what, why in {**_students_that_fail(opened, left), **_shots_that_fail(opened, left)}.items():
        say(f"{what} will fail, and the other cells go on: {why}")


def say_estimate(opened: OpenedGrid, todo: Sequence[Group], jobs: int) -> None:
    """How long the cells that are left will take, where rows that are there say so; of the dear reference always."""
    left = [cell for group in todo for cell in group]
    rows = load_results(opened.out / RESULTS)
    found = estimate(left, rows, lambda cell: opened.bench_of(cell).train)
    _say_references([cell for cell in left if cell.method.label == "ibm2"], found)
    if any(cell.key in found.seconds for cell in left if cell.model != TEACHER):
        say(_in_words(found, len(left), jobs))


def rehearse(opened: OpenedGrid, todo: Sequence[Group], jobs: int) -> int:
    """Look at all that the cells that are left need, and say it; returns how many things would fail. Writes nothing."""
    left = [cell for group in todo for cell in group]
    problems = _students_that_fail(opened, left) | _shots_that_fail(opened, left)
    fit = [cell for cell in left if not _named_in(cell, problems)]
    problems |= _methods_that_fail(opened, fit)
    problems |= _widths_that_fail(opened, [cell for cell in fit if not _named_in(cell, problems)])
    fit = [cell for cell in fit if not _named_in(cell, problems)]
    seconds, parameters, untimed = _timed_students(opened, fit)
    problems |= untimed
    rows = load_results(opened.out / RESULTS)
    found = estimate(left, rows, lambda cell: opened.bench_of(cell).train, seconds)
    _say_costs(left, found, jobs)
    _say_disk(opened, left, parameters)
    for what, why in problems.items():
        say(f"{what} would fail: {why}")
    return len(problems)


def _named_in(cell: Cell, problems: Problems) -> bool:
    return any(
        name in problems for name in (_student_name(cell), _shots_name(cell), _method_name(cell), _pair_name(cell))
    )


def _student_name(cell: Cell) -> str:
    return f"student {cell.model}{_data_set(cell)}"


def _shots_name(cell: Cell) -> str:
    return f"shots {cell.shots}{_data_set(cell)}"


def _method_name(cell: Cell) -> str:
    return f"method {cell.method.label} with unlabelled {cell.unlabelled}{_data_set(cell)}"


def _pair_name(cell: Cell) -> str:
    return f"{_student_name(cell)} by {cell.method.label}"


def _data_set(cell: Cell) -> str:
    return f" of {cell.dataset}" if cell.dataset else ""


def _one_each(cells: Sequence[Cell], name_of: Callable[[Cell], str]) -> dict[str, Cell]:
    """The first of the cells of each name."""
    return {name_of(cell): cell for cell in reversed(cells)}


def _students_that_fail(opened: OpenedGrid, cells: Sequence[Cell]) -> Problems:
    """Each student built once, as its cells build it, but for the weights that it starts from. ModelError for an unknown one."""
    problems: Problems = {}
    for name, cell in _one_each([cell for cell in cells if cell.model != TEACHER], _student_name).items():
        try:
            _build(opened.bench_of(cell), cell)
        except ModelError as error:
            if not is_known(parse_student(cell.model)):
                raise
            problems[name] = str(error)
    return problems


def _build(bench: Bench, cell: Cell) -> Student:
    config = cell_config(bench.grid, cell, out="", device=bench.device)
    spec = parse_student(cell.model)
    plan = StudentPlan(
        spec=spec,
        n_classes=len(bench.train.classes),
        components=None,
        reads_coordinates=False,
        image_size=config.img_size or image_size(spec),
        pretrained=False,
        seed=config.seed,
    )
    return build_student(plan)


def _shots_that_fail(opened: OpenedGrid, cells: Sequence[Cell]) -> Problems:
    """Each number of shots drawn once."""
    problems: Problems = {}
    for name, cell in _one_each(cells, _shots_name).items():
        bench = opened.bench_of(cell)
        try:
            split_of_cell(bench.grid, bench.train, cell)
        except (TcsError, CacheError) as error:
            problems[name] = str(error)
    return problems


def _methods_that_fail(opened: OpenedGrid, cells: Sequence[Cell]) -> Problems:
    """What each method reads, with each pool, on one of its cells: stores, targets, readouts, pool, and options that go together."""
    problems: Problems = {}
    for name, cell in _one_each([cell for cell in cells if cell.model != TEACHER], _method_name).items():
        bench = opened.bench_of(cell)
        config = _dry_config(bench, cell)
        try:
            if cell.method.label in STUDENT_REFERENCES:
                plan_same_pixels(config, bench.data_of(None))
            else:
                plan_jobs(config, bench.data_of(config.targets))
        except (TcsError, CacheError) as error:
            problems[name] = str(error)
    return problems


def _widths_that_fail(opened: OpenedGrid, cells: Sequence[Cell]) -> Problems:
    """Each student with each method whose losses cannot be built for every width of a student and a teacher."""
    problems: Problems = {}
    widths: dict[str, int] = {}
    for name, cell in _one_each([cell for cell in cells if is_timed(cell)], _pair_name).items():
        bench = opened.bench_of(cell)
        config = _dry_config(bench, cell)
        method = method_of(config)
        terms = [term for text in (method.warm_up, method.loss) if text for term in parse_loss(text)]
        if all(find_loss(term.name).check_dims is None for term in terms):
            continue
        student, store = _student_name(cell), bench.data_of(config.targets).store
        if student not in widths:
            widths[student] = _build(bench, cell).width
        try:
            check_dims(terms, widths[student], store.readouts[vector_readout(store, config.readout)].dims)
        except TcsError as error:
            problems[name] = str(error)
    return problems


def _dry_config(bench: Bench, cell: Cell) -> TrainConfig:
    """The cell's options, for a folder that is not there and is not made."""
    config = cell_config(bench.grid, cell, out=str(bench.out / "rehearsal"), device=bench.device)
    return dataclasses.replace(config, dry_run=True)


def _timed_students(opened: OpenedGrid, cells: Sequence[Cell]) -> tuple[dict[Timed, float], dict[str, float], Problems]:
    """(seconds of a training, parameters by student, what failed), by a few steps of one of the cells that take about as long."""
    seconds: dict[Timed, float] = {}
    parameters: dict[str, float] = {}
    problems: Problems = {}
    tried = _one_each([cell for cell in cells if is_timed(cell)], _pair_name).values()
    for cell in reversed(tried):  # in the order of the cells
        kind = timed_as(cell)
        if kind in seconds:
            continue
        bench, model = opened.bench_of(cell), cell.model
        config = _dry_config(bench, cell)
        try:
            (row,) = timed(config, bench.data_of(config.targets))
        except (TcsError, CacheError) as error:
            problems[_pair_name(cell)] = str(error)
            continue
        seconds[kind], parameters[model] = float(row["seconds"]), float(row["parameters"])
        say(
            f"{_pair_name(cell)}: {row['parameters'] / 1e6:.2f} M parameters, "
            f"{row['images_per_s']:,.0f} images/s, about {readable_seconds(row['seconds'])} a training."
        )
    return seconds, parameters, problems


def _say_costs(left: Sequence[Cell], found: Estimate, jobs: int) -> None:
    """What the references and the whole of the cells take."""
    _say_references([cell for cell in left if cell.model == TEACHER], found)
    say(_in_words(found, len(left), jobs))


def _say_references(references: Sequence[Cell], found: Estimate) -> None:
    for label in dict.fromkeys(cell.method.label for cell in references):
        own = [cell for cell in references if cell.method.label == label]
        dear = " (260 epochs, 200 noisy copies of each labelled row: leave it out with `references`)"
        say(
            f"reference {label}: {len(own)} cells, about {readable_seconds(found.of(own))}"
            f"{dear if label == 'ibm2' else ''}."
        )


def _in_words(found: Estimate, cells: int, jobs: int) -> str:
    by = f", {readable_seconds(found.total / jobs)} by {jobs} jobs where there are cores for them" if jobs > 1 else ""
    unknown = f"; of {found.unknown} cells nothing is known yet" if found.unknown else ""
    return f"{cells} cells take about {readable_seconds(found.total)}{by}{unknown}."


def _say_disk(opened: OpenedGrid, left: Sequence[Cell], parameters: Mapping[str, float]) -> None:
    """What the files take, and what is free where they go."""
    scored = {name: int(np.count_nonzero(bench.test.labels_N >= 0)) for name, bench in opened.benches.items()}
    runs, predictions = bytes_of(left, parameters, lambda cell: scored[cell.dataset])
    out = opened.out.resolve()
    there = next(path for path in (out, *out.parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    short = "; that is too little" if runs + predictions > free else ""
    say(
        f"disk: runs {runs / 2**20:,.0f} MiB, predictions up to {predictions / 2**20:,.1f} MiB; {free / 2**30:,.1f} GiB are "
        f"free{short}."
    )
