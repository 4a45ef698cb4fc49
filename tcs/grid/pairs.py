"""The stores that a recipe compares on: `train` and `test` for one pair, or `datasets`, a name -> the same keys for each of several."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from tcs.errors import ConfigError
from tcs.grid.method_rows import train_options
from tcs.grid.recipe_values import checked_keys, checked_options, text, texts, typed

PAIR_KEYS = ("train", "test", "targets", "data", "test_data", "also", "test_also", "splits", "note")
NAMED_KEYS = (*PAIR_KEYS, "options")  # of a pair under `datasets`; of an only pair they are the recipe's


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """A training store and its test store; `name` is empty for the only pair of a recipe.

    `targets`, `data`, `test_data` as in the recipe; `also` and `test_also` are the stores of other teachers of the same images. `splits`
    are files that say which rows are labelled, by shots: one a seed, in the order of the seeds. `options` are of `tcs train`, for the
    cells of this pair, in place of the recipe's of that name.
    """

    name: str
    train: str
    test: str
    targets: str | None = None
    data: str | None = None
    test_data: str | None = None
    also: tuple[str, ...] = ()
    test_also: tuple[str, ...] = ()
    splits: Mapping[int, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    note: str | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def load_pairs(recipe: Mapping[str, Any], where: str) -> tuple[Pair, ...]:
    """The pairs of a recipe. ConfigError where it has both forms or neither, or a pair lacks a store."""
    given = [key for key in PAIR_KEYS if key != "note" and recipe.get(key) is not None]
    datasets = recipe.get("datasets")
    if datasets is None:
        return (_pair("", recipe, where),)
    if given:
        raise ConfigError(
            f"{where} has both datasets and {given[0]}; give each pair of stores its own, under datasets."
        )
    if not isinstance(datasets, Mapping) or not datasets:
        raise ConfigError(
            f"{where} has datasets: {datasets!r}; it must be a mapping, as {{name: {{train: ..., test: ...}}}}."
        )
    return tuple(_named_pair(name, entry, where) for name, entry in datasets.items())


def _named_pair(name: Any, entry: Any, where: str) -> Pair:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise ConfigError(f"{where} has the dataset {name!r}; its name must be letters, digits, dots and dashes.")
    place = f"dataset {name} of {where}"
    given = checked_keys(entry, NAMED_KEYS, place)
    options = checked_keys(given.get("options"), train_options(), f"options of {place}")
    return dataclasses.replace(_pair(name, given, place), options=checked_options(options, f"options of {place}"))


def _pair(name: str, given: Mapping[str, Any], where: str) -> Pair:
    for key in ("train", "test"):
        if not given.get(key):
            raise ConfigError(f"{where} lacks '{key}', or it is empty; give at least one value.")
    optional = {key: typed(given.get(key), str | None, key, where) for key in ("targets", "data", "test_data", "note")}
    return Pair(
        name=name,
        train=text(given["train"], "train", where),
        test=text(given["test"], "test", where),
        also=texts(given.get("also") or [], "also", where),
        test_also=texts(given.get("test_also") or [], "test_also", where),
        splits=_splits(given.get("splits"), where),
        **optional,
    )


def _splits(given: Any, where: str) -> dict[int, tuple[str, ...]]:
    """Shots -> a file a seed."""
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(type(shots) is int and shots > 0 for shots in given):
        raise ConfigError(
            f"{where} has splits: {str(given)[:80]!r}; it must be a mapping from shots to files, one a seed, as {{4: [a.txt, b.txt]}}."
        )
    return {shots: texts(files, f"splits {shots}", where) for shots, files in given.items()}
