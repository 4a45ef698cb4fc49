"""The folder of a grid as a report reads it: rows, recipe, ledger, states of cells, predictions, and what was gathered beside them."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from tcs.errors import ArtefactError, ConfigError, did_you_mean
from tcs.ordinary import read_text
from tcs.plain_files import load_mapping, require_parts
from tcs.reporting.beside import NOTHING, Beside
from tcs.reporting.coverage import Coverage, Key, cover, load_states
from tcs.reporting.predicted import Predicted, load_predictions
from tcs.reporting.results import Run, Table, group_tables, load_runs
from tcs.reporting.rows import LEDGER, RECIPE
from tcs.reporting.seal import Trust, trust_in
from tcs.schemas.check import require_schema
from tcs.schemas.grids import Ledger

PARTS: Mapping[str, Any] = {  # what is read of it, where it is there
    "seal": {"primary": list | None, "rows": int, "at": str},
    "environment": {"versions": dict, "processor": str, "cores": int | None},
}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class GridFolder:
    """Everything that a report of `folder` is a function of. `predicted` is by data set, empty where no cell left predictions."""

    folder: pathlib.Path
    runs: Sequence[Run]
    tables: Sequence[Table]
    recipe: Mapping[str, Any]
    recipe_text: str
    ledger: Mapping[str, Any]
    coverage: Coverage
    primary: tuple[str, str] | None
    trust: Trust | None
    predicted: Mapping[str, Predicted]
    beside: Beside


def open_grid(folder: pathlib.Path, beside: Beside = NOTHING) -> GridFolder:
    """Read `folder`, the --out of tcs fewshot. ArtefactError: no usable results, or another file of it is broken; ConfigError: a primary
    comparison of unknown methods."""
    runs = load_runs(folder)
    recipe, text = _load_recipe(folder)
    ledger = _load_ledger(folder)
    primary = primary_methods(recipe, runs)
    return GridFolder(
        folder=folder,
        runs=runs,
        tables=group_tables(runs),
        recipe=recipe,
        recipe_text=text,
        ledger=ledger,
        coverage=_cover(runs, beside, load_states(folder)),
        primary=primary,
        trust=None if primary is None else trust_in(primary, ledger),
        predicted=load_predictions(folder, runs),
        beside=beside,
    )


def notes_of(recipe: Mapping[str, Any]) -> list[str]:
    """The notes of a recipe, its own and those of its data sets, each in one line."""
    datasets = recipe.get("datasets")
    pairs = datasets.items() if isinstance(datasets, dict) else ()
    told = [
        ("", recipe.get("note")),
        *((f"{name}: ", pair.get("note")) for name, pair in pairs if isinstance(pair, dict)),
    ]
    return [f"{name}{' '.join(str(note).split())}" for name, note in told if note]


def _cover(runs: Sequence[Run], beside: Beside, states: Mapping[Key, str]) -> Coverage:
    begun = {run.method for run in runs} | {key[2] for key in states}
    plan = beside.planned
    if plan is not None:
        plan = tuple(key for key in plan if key[2] in begun or key[2] not in beside.unasked)
    return cover(runs, plan, states, beside.at_work)


def _load_ledger(folder: pathlib.Path) -> dict[str, Any]:
    """What a grid noted before its first row; empty where it noted nothing, as the first releases."""
    path, remedy = folder / LEDGER, "move it away for a report that does not say when a comparison was named"
    ledger = load_mapping(path, {}, remedy) if path.exists() else {}
    require_parts(path, ledger, {name: kind for name, kind in PARTS.items() if ledger.get(name)}, remedy)
    require_schema(path, ledger, Ledger, remedy)
    return ledger


def _load_recipe(folder: pathlib.Path) -> tuple[dict[str, Any], str]:
    path = folder / RECIPE
    if not path.exists():
        return {}, ""
    text = read_text(path, errors="replace")
    try:
        recipe = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ArtefactError(
            f"{path} is not YAML ({' '.join(str(error).split())[:120]}); run tcs fewshot again."
        ) from error
    return (recipe if isinstance(recipe, dict) else {}), text


def primary_methods(recipe: Mapping[str, Any], runs: Sequence[Run]) -> tuple[str, str] | None:
    """The two methods that the recipe's `primary` names; None without one, ConfigError where they are not in the results."""
    primary = recipe.get("primary")
    if primary is None:
        return None
    if not (isinstance(primary, list) and len(primary) == 2 and primary[0] != primary[1]):
        raise ConfigError(f"recipe.yaml has primary: {primary}; it must name two methods, as [tcs+elsh, labels].")
    methods = {run.method for run in runs}
    for name in primary:
        if name not in methods:
            raise ConfigError(
                f"recipe.yaml has primary: {primary}, but no run of '{name}'.{did_you_mean(name, methods)}"
            )
    return primary[0], primary[1]
