"""The recipe file of `tcs fewshot`, read and checked before anything is opened.

It is YAML: `train` and `test` stores with their `targets`, or several such pairs under `datasets`; lists `students`, `methods`,
`shots`, `seeds`, `unlabelled`; any option of `tcs train` for all cells under `options`, and sets of them that each method is run with
under `variants`. `references` are rows to measure the methods against (REFERENCES); without the key the cheap ones that the pools allow.
`primary: [a, b]` names the one comparison fixed beforehand; `note` is printed. All keys: docs/reference/benchmark-protocol.md.
"""

import itertools
import pathlib
from typing import Any

from tcs.config.train import TrainConfig
from tcs.errors import ConfigError, did_you_mean, require
from tcs.grid.method_rows import MethodRow, crossed, method_row, train_options
from tcs.grid.pairs import PAIR_KEYS, load_pairs
from tcs.grid.recipe import (
    BOUNDS,
    CHEAP_REFERENCES,
    EXACT,
    METHOD_REFERENCES,
    NEED_POOL,
    NO_PIXELS,
    REFERENCES,
    STUDENT_BOUND,
    STUDENT_REFERENCES,
    UP_TO,
    Cell,
    Grid,
    cell_config,
    method_of,
)
from tcs.grid.recipe_values import (
    checked_keys,
    checked_options,
    entries,
    load_mapping,
    one_of,
    pools,
    primary_of,
    share,
    texts,
    typed,
    whole_numbers,
)
from tcs.splits.written_split import FORMS, LINES

RECIPE_KEYS = (
    *PAIR_KEYS,
    *("datasets", "students", "methods", "variants", "shots", "shots_policy", "seeds", "unlabelled", "options"),
    *("references", "primary", "near_copies", "latency", "splits_as"),
)


def load_grid(path: pathlib.Path) -> Grid:
    """The checked recipe of a file. ConfigError for unknown keys, missing ones, values of another type than the key takes, empty
    lists, unknown methods, and options that no run of a method could be made with."""
    recipe, where = load_mapping(path, RECIPE_KEYS, ("students", "methods", "shots")), f"recipe {path}"
    pairs = load_pairs(recipe, where)
    options = checked_keys(recipe.get("options"), train_options(), f"options of {where}")
    unlabelled = pools(recipe.get("unlabelled", ["all"]), "unlabelled", where)
    names = [pair.name for pair in pairs]
    not_methods = [name for name in REFERENCES if name not in METHOD_REFERENCES]
    rows = [method_row(entry, where, names, not_methods) for entry in entries(recipe["methods"], "methods", where)]
    references = _references(recipe.get("references"), unlabelled, rows, where)
    grid = Grid(
        pairs=pairs,
        students=texts(recipe["students"], "students", where),
        methods=(
            *(
                MethodRow(label=name, options={"method": name}, uses_pool=False)
                for name in references
                if name in METHOD_REFERENCES
            ),
            *crossed(rows, recipe.get("variants"), where),
        ),
        shots=whole_numbers(recipe["shots"], "shots", where, least=1),
        seeds=whole_numbers(recipe.get("seeds", [0, 1, 2]), "seeds", where),
        unlabelled=unlabelled,
        references=tuple(name for name in references if name not in METHOD_REFERENCES),
        options=checked_options(options, f"options of {where}"),
        primary=primary_of(recipe.get("primary"), where),
        shots_policy=one_of(recipe.get("shots_policy", EXACT), (EXACT, UP_TO), "shots_policy", where),
        splits_as=one_of(recipe.get("splits_as", LINES), tuple(FORMS), "splits_as", where),
        near_copies=share(recipe.get("near_copies"), "near_copies", where),
        latency=typed(recipe.get("latency", True), bool, "latency", where),
    )
    _check_grid(grid, path)
    _check_runs(grid, where)
    return grid


def _references(named: Any, unlabelled: tuple[str, ...], rows: list[MethodRow], where: str) -> tuple[str, ...]:
    """Those that the recipe names; else the cheap ones that its pools allow and that are no method of it."""
    if named is not None:
        return texts(named, "references", where)
    has_pixels = bool(set(unlabelled) - set(NO_PIXELS))
    methods = {row.label for row in rows} | {row.options.get("method") for row in rows}
    return tuple(name for name in CHEAP_REFERENCES if name not in methods and (has_pixels or name not in NEED_POOL))


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
    _check_students(grid, path)
    _check_references(grid, path)
    _check_teachers(grid, path)
    _check_splits(grid, path)


def _check_students(grid: Grid, path: pathlib.Path) -> None:
    """ConfigError where a method names a student that is none of the recipe's, none at all, or one twice."""
    for row in grid.methods:
        named = row.students
        if named is None:
            continue
        where = f"recipe {path}, method '{row.label}', has students: {list(named)}"
        if not named or len(set(named)) != len(named):
            raise ConfigError(
                f"{where}; name each student that it is run with once, or leave students out for all of them."
            )
        for student in named:
            if student not in grid.students:
                raise ConfigError(
                    f"{where}, and '{student}' is none of the recipe's students ({', '.join(grid.students)})."
                    f"{did_you_mean(student, grid.students)}"
                )
    busy = set[str]().union(*(row.run_with(grid.students) for row in grid.methods))
    idle = [name for name in grid.students if name not in busy]
    if idle:
        raise ConfigError(
            f"recipe {path} has the student '{idle[0]}', which no method is run with; name it under one, or leave it out."
        )


def _meet(grid: Grid, first: str, second: str) -> bool:
    """Whether a student is run with both rows; those of the teacher's references meet every one."""
    named = {row.label: set(row.run_with(grid.students)) for row in grid.methods}
    return bool(named.get(first, set(grid.students)) & named.get(second, set(grid.students)))


def _check_teachers(grid: Grid, path: pathlib.Path) -> None:
    """Rows of the frozen teachers read the test store of each of them; students read its images alone."""
    reads_test = any(name not in (*STUDENT_REFERENCES, STUDENT_BOUND) for name in grid.references)
    reads_test |= grid.near_copies is not None
    for pair in grid.pairs:
        if len(pair.test_also) != len(pair.also) and (reads_test or pair.test_also):
            where = f"recipe {path}" if not pair.name else f"dataset {pair.name} of recipe {path}"
            raise ConfigError(
                f"{where} has {len(pair.also)} stores under also and {len(pair.test_also)} under test_also; give the test store of "
                "each teacher, in the same order, or leave the references of the teacher (and near_copies) out."
            )


def _check_splits(grid: Grid, path: pathlib.Path) -> None:
    """ConfigError where files of splits are given for some of the cells alone."""
    for pair in grid.pairs:
        for shots in grid.shots if pair.splits else ():
            files = pair.splits.get(shots, ())
            if len(files) != len(grid.seeds):
                raise ConfigError(
                    f"recipe {path} has {len(files)} files of splits for {shots} shots and {len(grid.seeds)} seeds; give one a seed."
                )


def _check_runs(grid: Grid, where: str) -> None:
    """ConfigError where no run of a method can be made: its options, with those of the grid, exclude each other."""
    shots, pool, seed = min(grid.shots), grid.unlabelled[0], grid.seeds[0]
    for row, dataset in itertools.product(grid.methods, grid.datasets):
        model = row.run_with(grid.students)[0]
        cell = Cell(model=model, method=row, shots=shots, seed=seed, unlabelled=pool, dataset=dataset)
        try:
            config = cell_config(grid, cell, out="", device="cpu")
            require(
                config.exclude is None,
                f"exclude is {config.exclude}, and the cells and references of a grid read the same rows; make a store without those "
                "images: tcs cache subset --exclude.",
            )
            _require_same_pixels(config, grid.of(dataset))
            method_of(config)
        except ConfigError as error:
            of = f", dataset {dataset}" if dataset else ""
            raise ConfigError(f"{where}, method '{row.label}'{of}: {error}") from error


def _require_same_pixels(config: TrainConfig, grid: Grid) -> None:
    """ConfigError for a method that would see images otherwise than the references and the other rows of its table."""
    mine, theirs = config.augment.scaled_decoding, grid.options.get("scaled_decoding", False)
    require(
        mine == theirs,
        f"scaled_decoding is {mine}, and {theirs} under options; all rows of a table see the same pixels: write it under options "
        "alone, or make two grids.",
    )


def _check_references(grid: Grid, path: pathlib.Path) -> None:
    labels = {row.label for row in grid.methods}
    for name in grid.primary or ():
        known = [*sorted(labels), *grid.references]
        if name not in known:
            raise ConfigError(
                f"recipe {path} has primary: {list(grid.primary or ())}, and '{name}' is none of its rows "
                f"({', '.join(known)}).{did_you_mean(name, known)}"
            )
    if grid.primary and not _meet(grid, *grid.primary):
        raise ConfigError(
            f"recipe {path} has primary: {list(grid.primary)}, and no student is run with both (their students); give them one in common."
        )
    for reference in grid.references:
        if reference not in REFERENCES:
            raise ConfigError(
                f"recipe {path} asks for reference '{reference}'; known references are {', '.join(REFERENCES)}."
            )
        if reference in (*NEED_POOL, *BOUNDS) and reference in labels:
            raise ConfigError(f"recipe {path} labels a method '{reference}', as a reference is; give it another label.")
        if reference in NEED_POOL and not grid.pixel_pools:
            raise ConfigError(
                f"recipe {path} asks for reference '{reference}' with unlabelled: [{', '.join(grid.unlabelled)}]; it reads "
                "unlabelled images: add a pool, as [10000] or [all], or leave the reference out."
            )
