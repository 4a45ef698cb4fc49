"""The plan of `tcs fewshot`: a recipe file and the cells of its grid. Trains nothing.

A recipe is YAML: `train` and `test` stores, `targets`, lists `students`, `methods`, `shots`, `seeds`, `unlabelled`, and any
option of `tcs train` for all cells under `options`. A method is a name, or a mapping with `method` (or `head` and `loss`), a
`label` for its rows, and options of its own. `references` are rows of the frozen teacher, one per shots and seed
(`teacher-transductive`: and per pool with pixels, whose rows it reads), and `same-pixels` (tcs.grid.same_pixels), one per student,
shots, seed and pool with pixels; without the key all of them that the pools allow. `data` and `test_data` are the images of
stores that hold none; `also` and `test_also` list the stores of other teachers of the same images. `primary: [a, b]` names the one
comparison fixed beforehand; `note` is printed.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, TypeVar

from tcs.config.train import TrainConfig, option_defaults
from tcs.criteria.losses import mimics, parse_loss
from tcs.errors import ConfigError, did_you_mean
from tcs.grid.recipe_values import (
    checked_keys,
    checked_options,
    entries,
    load_mapping,
    pools,
    primary_of,
    text,
    texts,
    typed,
    whole_numbers,
)
from tcs.methods.named import HEADLESS, METHODS, Method, find_method, resolve_method, without_pool

RECIPE_KEYS = (
    *("train", "test", "targets", "students", "methods", "shots", "seeds", "unlabelled"),
    *("options", "references", "primary", "note", "data", "test_data", "also", "test_also"),
)

TEACHER = "teacher"  # the model of a reference row without a student
NO_PIXELS = ("none", "0")
TEACHER_REFERENCES = ("teacher-probe", "teacher-knn", "ibm2")
POOL_REFERENCES = ("teacher-transductive",)  # of the teacher, and of the pool's rows
STUDENT_REFERENCES = ("same-pixels",)
NEED_POOL = POOL_REFERENCES + STUDENT_REFERENCES
REFERENCES = TEACHER_REFERENCES + NEED_POOL

# Options of `tcs train` that the grid sets itself, cell by cell.
CELL_OPTIONS = (
    *("store", "also", "data", "out", "models", "method", "shots", "split_file", "seed", "split_seed", "unlabelled"),
    *("device", "overwrite", "dry_run"),
)

Part = TypeVar("Part")

METHOD_KEYS = ("method", "head", "loss", "label")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodRow:
    """A method of the grid: its label in the table, and the options of `tcs train` that make it."""

    label: str
    options: Mapping[str, Any]
    uses_pool: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """A recipe file, checked."""

    train: str
    test: str
    targets: str | None
    students: tuple[str, ...]
    methods: tuple[MethodRow, ...]
    shots: tuple[int, ...]
    seeds: tuple[int, ...]
    unlabelled: tuple[str, ...]
    references: tuple[str, ...]
    options: Mapping[str, Any]
    primary: tuple[str, str] | None = None
    data: str | None = None
    test_data: str | None = None
    also: tuple[str, ...] = ()
    test_also: tuple[str, ...] = ()

    @property
    def pixel_pools(self) -> tuple[str, ...]:
        """The pools that hold unlabelled pixels."""
        return tuple(pool for pool in self.unlabelled if pool not in NO_PIXELS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One training run, or one reference row of the teacher (model `teacher`)."""

    model: str
    method: MethodRow
    shots: int
    seed: int
    unlabelled: str

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """What tells its row in results.csv from the others."""
        return (self.model, self.method.label, str(self.shots), str(self.seed), self.unlabelled)


def load_grid(path: pathlib.Path) -> Grid:
    """The checked recipe of a file. ConfigError for unknown keys, missing ones, values of another type than the key takes, empty
    lists, unknown methods, and options that no run of a method could be made with."""
    recipe, where = load_mapping(path, RECIPE_KEYS, ("train", "test", "students", "methods", "shots")), f"recipe {path}"
    options = checked_keys(recipe.get("options"), _train_options(), f"options of {where}")
    unlabelled = pools(recipe.get("unlabelled", ["none"]), "unlabelled", where)
    named = {key: typed(recipe.get(key), str | None, key, where) for key in ("targets", "data", "test_data")}
    grid = Grid(
        train=text(recipe["train"], "train", where),
        test=text(recipe["test"], "test", where),
        students=texts(recipe["students"], "students", where),
        methods=tuple(_method_row(entry, where) for entry in entries(recipe["methods"], "methods", where)),
        shots=whole_numbers(recipe["shots"], "shots", where),
        seeds=whole_numbers(recipe.get("seeds", [0, 1, 2]), "seeds", where),
        unlabelled=unlabelled,
        references=_references(recipe.get("references"), unlabelled, where),
        options=checked_options(options, f"options of {where}"),
        primary=primary_of(recipe.get("primary"), where),
        also=texts(recipe.get("also") or [], "also", where),
        test_also=texts(recipe.get("test_also") or [], "test_also", where),
        **named,
    )
    _check_grid(grid, path)
    _check_runs(grid, where)
    return grid


def _references(named: Any, unlabelled: tuple[str, ...], where: str) -> tuple[str, ...]:
    """Those that the recipe names; else all that its pools allow."""
    if named is not None:
        return texts(named, "references", where)
    return REFERENCES if set(unlabelled) - set(NO_PIXELS) else TEACHER_REFERENCES


def _train_options() -> tuple[str, ...]:
    return tuple(name for name in option_defaults() if name not in CELL_OPTIONS)


def _method_row(entry: Any, where: str) -> MethodRow:
    given = {"method": entry} if isinstance(entry, str) else entry
    options = checked_keys(given, METHOD_KEYS + _train_options(), f"a method of {where}")
    label = str(options.pop("label", options.get("method") or options.get("loss")))
    options = checked_options(options, f"{where}, method '{label}',")
    if options.get("method") in REFERENCES:
        raise ConfigError(
            f"{where}: '{options['method']}' is a reference row and no method; name it under references, and not here."
        )
    if options.get("method") is not None:
        uses_pool = find_method(options["method"]).uses_pool
    elif options.get("loss") is not None:
        uses_pool = mimics(parse_loss(options["loss"]))
    else:
        raise ConfigError(
            f"{where}: method '{label}' has neither 'method' nor 'loss'; known methods are {', '.join(METHODS)}."
        )
    if HEADLESS in (options.get("head"), options.get("method") and find_method(options["method"]).head):
        raise ConfigError(
            f"{where}: method '{label}' trains no classifier, and a grid scores classifiers; use tcs-probe, or a loss with ce."
        )
    return MethodRow(label=label, options=options, uses_pool=uses_pool)


def _check_grid(grid: Grid, path: pathlib.Path) -> None:
    for name, values in (
        ("students", grid.students),
        ("methods", [row.label for row in grid.methods]),
        ("shots", grid.shots),
        ("seeds", grid.seeds),
        ("pools (unlabelled)", grid.unlabelled),
        ("references", grid.references),
    ):
        if len(set(values)) != len(values):
            raise ConfigError(
                f"recipe {path} names one of its {name} twice; give each once (methods: with a label of its own)."
            )
    _check_references(grid, path)
    _check_teachers(grid, path)


def _check_teachers(grid: Grid, path: pathlib.Path) -> None:
    """Rows of the frozen teachers read the test store of each of them; students read its images alone."""
    reads_test = any(name not in STUDENT_REFERENCES for name in grid.references)
    if len(grid.test_also) != len(grid.also) and (reads_test or grid.test_also):
        raise ConfigError(
            f"recipe {path} has {len(grid.also)} stores under also and {len(grid.test_also)} under test_also; give the test store of "
            "each teacher, in the same order, or leave the references of the teacher out."
        )


def _check_runs(grid: Grid, where: str) -> None:
    """ConfigError where no run of a method can be made: its options, with those of the grid, exclude each other."""
    for row in grid.methods:
        shots, pool = min(grid.shots), grid.unlabelled[0]
        cell = Cell(model=grid.students[0], method=row, shots=shots, seed=grid.seeds[0], unlabelled=pool)
        try:
            method_of(cell_config(grid, cell, out="", device="cpu"))
        except ConfigError as error:
            raise ConfigError(f"{where}, method '{row.label}': {error}") from error


def _check_references(grid: Grid, path: pathlib.Path) -> None:
    labels = {row.label for row in grid.methods}
    for name in grid.primary or ():
        known = [*sorted(labels), *grid.references]
        if name not in known:
            raise ConfigError(
                f"recipe {path} has primary: {list(grid.primary or ())}, and '{name}' is none of its rows "
                f"({', '.join(known)}).{did_you_mean(name, known)}"
            )
    for reference in grid.references:
        if reference not in REFERENCES:
            raise ConfigError(
                f"recipe {path} asks for reference '{reference}'; known references are {', '.join(REFERENCES)}."
            )
        if reference in NEED_POOL and reference in labels:
            raise ConfigError(f"recipe {path} labels a method '{reference}', as a reference is; give it another label.")
        if reference in NEED_POOL and not grid.pixel_pools:
            raise ConfigError(
                f"recipe {path} asks for reference '{reference}' with unlabelled: [{', '.join(grid.unlabelled)}]; it reads "
                "unlabelled images: add a pool, as [10000] or [all], or leave the reference out."
            )


def plan_cells(grid: Grid) -> list[Cell]:
    """Every cell, seed by seed, so that an interrupted grid has whole seeds. Methods without a pool run once, not once per pool."""
    rows = _rows(grid)
    return [
        Cell(model=model, method=method, shots=shots, seed=seed, unlabelled=pool)
        for seed in grid.seeds
        for shots in grid.shots
        for model, method, pools in rows
        for pool in pools
    ]


def _rows(grid: Grid) -> list[tuple[str, MethodRow, tuple[str, ...]]]:
    """(model, method, pools) of one split: the teacher's references, then each student's methods and references."""
    rows: list[tuple[str, MethodRow, tuple[str, ...]]] = [
        (TEACHER, MethodRow(label=name, options={}, uses_pool=name in NEED_POOL), _pools_of_reference(name, grid))
        for name in grid.references
        if name not in STUDENT_REFERENCES
    ]
    for student in grid.students:
        rows += [(student, method, grid.unlabelled if method.uses_pool else ("none",)) for method in grid.methods]
        rows += [
            (student, MethodRow(label=name, options={}, uses_pool=True), _pools_of_reference(name, grid))
            for name in grid.references
            if name in STUDENT_REFERENCES
        ]
    return rows


def _pools_of_reference(name: str, grid: Grid) -> tuple[str, ...]:
    return grid.pixel_pools if name in NEED_POOL else ("none",)


def choose_part(groups: list[Part], part: str | None) -> list[Part]:
    """The i-th of n parts of the cells (or groups of them) for `part` = "i/n" (1-based), or all for None."""
    if part is None:
        return groups
    index, slash, count = part.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise ConfigError(f"--cells is '{part}'; write i/n with 1 <= i <= n, as 1/4.")
    return groups[int(index) - 1 :: int(count)]


def cell_config(grid: Grid, cell: Cell, out: str, device: str) -> TrainConfig:
    """The TrainConfig of a cell: the grid's options, then the method's own."""
    # Watching may keep rows out of training, and a benchmark reads the last step only: nothing is watched, unless asked for.
    options = {"targets": grid.targets, "held_out": 0} | dict(grid.options) | dict(cell.method.options)
    own = {
        "store": grid.train,
        "also": grid.also,
        "data": grid.data,
        "out": out,
        "models": (cell.model,),
        "shots": cell.shots,
        "seed": cell.seed,
        "unlabelled": cell.unlabelled,
        "device": device,
    }
    return TrainConfig.from_options(options | own)


def method_of(config: TrainConfig) -> Method:
    """The method that a cell trains by, which is a simpler one where it has no pool. ConfigError for a head and a loss that do not
    go together."""
    asked = resolve_method(config.method, config.head, config.loss, picks_labels=True)
    return without_pool(asked) if config.unlabelled in NO_PIXELS else asked
