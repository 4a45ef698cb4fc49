"""The methods of a recipe: names, or mappings with a label and options of their own, crossed with the recipe's `variants`."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tcs.config.train import option_defaults
from tcs.criteria.terms import mimics, parse_loss
from tcs.errors import ConfigError
from tcs.grid.recipe_values import checked_keys, checked_options, text, texts
from tcs.methods.named import HEADLESS, METHODS, find_method

# Options of `tcs train` that the grid sets itself, cell by cell.
CELL_OPTIONS = (
    *("store", "also", "data", "out", "models", "method", "shots", "split_file", "seed", "split_seed", "unlabelled"),
    *("device", "overwrite", "dry_run"),
)
METHOD_KEYS = ("method", "head", "loss", "label", "students")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodRow:
    """A method of the grid: its label in the table, and the options of `tcs train` that make it. `targets` may be a mapping from the
    names of data sets. It is run with the `students`, by their names in the recipe, or with all of them (None)."""

    label: str
    options: Mapping[str, Any]
    uses_pool: bool
    students: tuple[str, ...] | None = None

    def run_with(self, students: Sequence[str]) -> tuple[str, ...]:
        """Those of the recipe's students that it is run with."""
        return tuple(student for student in students if self.students is None or student in self.students)

    def of(self, dataset: str) -> "MethodRow":
        """The row on one data set: with the targets of that."""
        targets = self.options.get("targets")
        if not isinstance(targets, Mapping):
            return self
        own = {key: value for key, value in self.options.items() if key != "targets"}
        return dataclasses.replace(self, options=own | ({"targets": targets[dataset]} if dataset in targets else {}))


def train_options() -> tuple[str, ...]:
    """The options of `tcs train` that a recipe may set."""
    return tuple(name for name in option_defaults() if name not in CELL_OPTIONS)


def crossed(rows: Sequence[MethodRow], given: Any, where: str) -> tuple[MethodRow, ...]:
    """Each row with each of the variants (name -> options), labelled `method, name`; the rows themselves without any."""
    if given is None:
        return tuple(rows)
    if not isinstance(given, Mapping) or not given:
        raise ConfigError(f"{where} has variants: {given!r}; it must be a mapping, as {{long: {{steps: 4000}}}}.")
    found = []
    for name, entry in given.items():
        place = f"variant {name} of {where}"
        options = checked_options(checked_keys(entry, train_options(), place), place)
        found.append((text(name, "variants", where), options))
    return tuple(
        dataclasses.replace(row, label=f"{row.label}, {name}", options={**row.options, **options})
        for row in rows
        for name, options in found
    )


def method_row(entry: Any, where: str, datasets: Sequence[str], references: Sequence[str]) -> MethodRow:
    """A method of the recipe. ConfigError for one that is unknown, trains no classifier, or is a reference."""
    given = {"method": entry} if isinstance(entry, str) else entry
    options = checked_keys(given, METHOD_KEYS + train_options(), f"a method of {where}")
    label = str(options.pop("label", options.get("method") or options.get("loss")))
    place = f"{where}, method '{label}',"
    own_students = texts(options.pop("students"), "students", place) if "students" in options else None
    by_dataset = _targets_by_dataset(options, datasets, place)
    options = checked_options(options, place)
    if options.get("method") in references:
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
    return MethodRow(label=label, options=options | by_dataset, uses_pool=uses_pool, students=own_students)


def _targets_by_dataset(options: dict[str, Any], datasets: Sequence[str], where: str) -> dict[str, Any]:
    """`targets` taken out of the options where they are a mapping from data sets."""
    if not isinstance(options.get("targets"), Mapping):
        return {}
    targets = checked_keys(options.pop("targets"), tuple(datasets), f"targets of {where}")
    return {"targets": {name: text(path, f"targets of {name}", where) for name, path in targets.items()}}
