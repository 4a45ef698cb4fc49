"""What a report shows beside a grid's own files: the plan of its recipe, thumbnails of test images, the coordinates of its targets.

Whatever is not there any more (stores move, targets are deleted) is left out; a report of the rows alone is a report.
"""

import functools
import pathlib
from collections.abc import Mapping, Sequence

import yaml

from tcs.coordinates.system import CoordinateSystem, load_coordinates
from tcs.coordinates.targets import open_targets
from tcs.errors import TcsError
from tcs.grid.claims import claimed_by_others
from tcs.grid.recipe import Grid, plan_cells
from tcs.grid.recipe_file import load_grid
from tcs.ordinary import read_text
from tcs.reporting.beside import NOTHING, Axes, Beside
from tcs.reporting.rows import RECIPE

MOST_FILES = 20  # beside targets, to be tried for the coordinates that they are of


def gather(folder: pathlib.Path) -> Beside:
    """What can be had for the grid in `folder`; nothing where it holds no recipe that this release reads."""
    try:
        grid = load_grid(folder / RECIPE)
    except (OSError, TcsError):
        return NOTHING
    cells = plan_cells(grid)
    return Beside(
        planned=tuple(cell.key for cell in cells),
        at_work=frozenset(cell.key for cell in claimed_by_others(folder, cells)),
        unasked=frozenset() if _names_references(folder / RECIPE) else frozenset(grid.references),
        axes=_all_axes(grid, folder),
        thumbnails=functools.partial(_thumbnails, grid, folder),
    )


def _names_references(recipe: pathlib.Path) -> bool:
    return "references" in yaml.safe_load(read_text(recipe))


def _find(named: str, folder: pathlib.Path) -> pathlib.Path | None:
    """A path of the recipe: from the working folder, else from the grid's folder or those above it."""
    places = [pathlib.Path(named), *(place / named for place in (folder, *folder.resolve().parents[:2]))]
    return next((place for place in places if place.exists()), None)


def _all_axes(grid: Grid, folder: pathlib.Path) -> tuple[Axes, ...]:
    parts = [grid.of(dataset) for dataset in grid.datasets]
    named = [name for part in parts for name in (part.targets, *(row.options.get("targets") for row in part.methods))]
    paths = dict.fromkeys(str(name) for name in named if isinstance(name, str))
    found = [_axes(name, path) for name in paths if (path := _find(name, folder)) is not None]
    return tuple(axes for axes in found if axes is not None)


def _axes(name: str, path: pathlib.Path) -> Axes | None:
    try:
        system = open_targets(path).coordinates
    except TcsError:
        return None
    whole = _as_fitted(system, path.parent)
    selection = whole.selection
    return Axes(
        name=pathlib.Path(name).name,
        method=system.method,
        components=system.components,
        spectrum=system.spectrum_D.tolist(),
        ceiling=tuple((whole.ceiling or {}).get("rows", ())),
        history=() if selection is None else selection.history,
        kept=None if selection is None else len(selection.active_k),
        note="" if selection is None else selection.note,
    )


def _as_fitted(system: CoordinateSystem, folder: pathlib.Path) -> CoordinateSystem:
    """The same system with its ceiling and selection, which targets leave out, where its file lies beside them."""
    for path in sorted(folder.glob("*.safetensors"))[:MOST_FILES]:
        try:
            found = load_coordinates(path)
        except TcsError:
            continue
        if found.identity == system.identity:
            return found
    return system


def _thumbnails(grid: Grid, folder: pathlib.Path, dataset: str, keys: Sequence[str]) -> Mapping[str, bytes]:
    part = grid.of(dataset)
    path = _find(part.test, folder)
    if path is None:
        return {}
    from tcs.grid.thumbnails import thumbnails  # what reads images loads torch, and most reports show none

    return thumbnails(path, part.test_data, keys)
