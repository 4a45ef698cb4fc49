"""Two grids side by side: what both measured, paired where seeds and splits agree, and what they differ in.

Accuracies of two grids can be compared only on the same test images, so other ones are refused; grids of earlier releases do not say
which theirs are, and the report says so.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

from tcs.errors import ArtefactError
from tcs.reporting.contrast import FEW_SEEDS
from tcs.reporting.grid_report import plain, signed
from tcs.reporting.intervals import Interval, holm, paired_difference, t_interval, unpaired_difference
from tcs.reporting.results import LATER_ORIGINS, ORIGINS, Run
from tcs.reporting.tables import markdown

Cell = tuple[str, str, str, int, str]  # data set, model, method, shots, pool
TOLD = (
    "teacher",
    "cache_id",
    "targets_id",
    "recipe_id",
    "semantics",
    "commit",
)  # origins that may differ, and are told
MARK = "<!-- written by tcs report; edits are lost when it runs again -->"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedCell:
    """A cell of both grids: means over seeds, and second - first; `is_paired` where both ran on the same seeds and splits (those that
    they share)."""

    cell: Cell
    first: Interval
    second: Interval
    difference: Interval
    is_paired: bool
    p_holm: float | None = None

    @property
    def name(self) -> str:
        """Data set, student, method, shots and pool."""
        dataset, model, method, shots, pool = self.cell
        return " · ".join(part for part in (dataset, model, method, f"{shots} shots", pool) if part)

    @property
    def is_clear(self) -> bool:
        """Whether the two differ at 5 %, corrected for all cells, on enough seeds."""
        return self.p_holm is not None and self.p_holm < 0.05 and self.difference.n >= FEW_SEEDS


@dataclasses.dataclass(frozen=True, kw_only=True)
class GridComparison:
    """`differences` are the origins in which the grids differ: name -> (those of the first, those of the second)."""

    names: tuple[str, str]
    cells: tuple[SharedCell, ...]
    only: tuple[int, int]
    differences: Mapping[str, tuple[str, str]]
    test_known: bool

    @property
    def summary(self) -> str:
        """One sentence."""
        clear = [cell for cell in self.cells if cell.is_clear]
        up = sum(cell.difference.mean > 0 for cell in clear)
        paired = sum(cell.is_paired for cell in self.cells)
        how = (
            "all paired by seed and split"
            if paired == len(self.cells)
            else f"{paired} paired by seed and split, the rest not"
        )
        mean = sum(cell.difference.mean for cell in self.cells) / len(self.cells)
        return (
            f"{self.names[1]} against {self.names[0]}: {mean:+.1f} points on average over {len(self.cells)} shared cells ({how}); "
            f"{up} are clearly better, {len(clear) - up} clearly worse, {len(self.cells) - len(clear)} undecided."
        )


def compare_grids(first: Sequence[Run], second: Sequence[Run], names: tuple[str, str]) -> GridComparison:
    """Compare what both grids hold. ArtefactError where they were scored on other test images, or share no cell."""
    sides = [_by_cell(runs) for runs in (first, second)]
    shared = [cell for cell in sides[0] if cell in sides[1]]
    if not shared:
        raise ArtefactError(
            f"{names[0]} and {names[1]} share no data set, student, method, shots and pool with a result in both; compare grids that do."
        )
    known = _check_tests(shared, sides, names)
    cells = [_shared(cell, sides[0][cell], sides[1][cell]) for cell in shared]
    tested = [index for index, cell in enumerate(cells) if cell.difference.p is not None]
    for index, p in zip(tested, holm([cells[index].difference.p or 0.0 for index in tested]), strict=True):
        cells[index] = dataclasses.replace(cells[index], p_holm=p)
    return GridComparison(
        names=names,
        cells=tuple(cells),
        only=(len(sides[0]) - len(shared), len(sides[1]) - len(shared)),
        differences=_differences(shared, sides),
        test_known=known,
    )


def _by_cell(runs: Sequence[Run]) -> dict[Cell, list[Run]]:
    found: dict[Cell, list[Run]] = {}
    for run in runs:
        if run.top1 is not None:
            found.setdefault((run.dataset, run.model, run.method, run.shots, run.unlabelled), []).append(run)
    return found


def _check_tests(shared: Sequence[Cell], sides: Sequence[Mapping[Cell, list[Run]]], names: tuple[str, str]) -> bool:
    """Whether all rows tell their test store. ArtefactError where two tell different ones, or where one does not tell and the training
    stores differ, too: then nothing says that the images are the same."""
    known = True
    for cell in shared:
        tests, stores = (
            [", ".join(sorted({run.origins[name] for run in side[cell]})) for side in sides]
            for name in ("test_id", "cache_id")
        )
        known = known and all(tests)
        if all(tests) and tests[0] != tests[1]:
            raise ArtefactError(
                f"{names[0]} was scored on test store {tests[0]} and {names[1]} on {tests[1]}; accuracies on other images are not compared."
            )
        if not all(tests) and stores[0] != stores[1]:
            raise ArtefactError(
                f"{names[0]} is of training store {stores[0]} and {names[1]} of {stores[1]}, and not both tell their test store; compare "
                "grids of the same data."
            )
    return known


def _shared(cell: Cell, first: Sequence[Run], second: Sequence[Run]) -> SharedCell:
    ours, theirs = (
        {(run.seed, run.split_id): run.top1 for run in runs if run.top1 is not None} for runs in (first, second)
    )
    paired = paired_difference(theirs, ours)
    difference = paired or unpaired_difference(list(theirs.values()), list(ours.values()))
    if difference is None:
        raise ValueError(f"cell {cell} has no result")
    return SharedCell(
        cell=cell,
        first=t_interval(list(ours.values())),
        second=t_interval(list(theirs.values())),
        difference=difference,
        is_paired=paired is not None,
    )


def _differences(shared: Sequence[Cell], sides: Sequence[Mapping[Cell, list[Run]]]) -> dict[str, tuple[str, str]]:
    found = {}
    for name in (name for name in (*ORIGINS, *LATER_ORIGINS) if name in TOLD):
        values = [
            ", ".join(sorted({run.origins[name] for cell in shared for run in side[cell]} - {""})) for side in sides
        ]
        if values[0] != values[1]:
            found[name] = (values[0] or "not told", values[1] or "not told")
    return found


def render_comparison(found: GridComparison) -> str:
    """The comparison as Markdown."""
    rows = [
        [
            cell.name,
            plain(cell.first),
            plain(cell.second),
            signed(cell.difference),
            "yes" if cell.is_paired else "no",
            _p(cell.p_holm),
        ]
        for cell in found.cells
    ]
    header = ["cell", found.names[0], found.names[1], "difference", "paired", "p (Holm)"]
    only = [f"{count} cells are in {name} alone." for count, name in zip(found.only, found.names, strict=True) if count]
    unknown = (
        []
        if found.test_known
        else ["Not all rows tell their test store: that the images are the same is taken on trust."]
    )
    differ = [
        f"- {name}: {ours} in {found.names[0]}, {theirs} in {found.names[1]}"
        for name, (ours, theirs) in found.differences.items()
    ]
    parts = [MARK, "# Two grids compared", f"**{found.summary}**", *only, *unknown, _legend(), markdown(header, rows)]
    if differ:
        parts.append("\n".join(["## What they differ in", "", *differ]))
    return "\n\n".join(parts) + "\n"


def _legend() -> str:
    return (
        "Top-1 in percent: mean ± half-width of the 95 % t-interval over seeds (n). Differences are paired over the seeds and splits "
        "that both have; where they share none, Welch's interval of two samples. p-values are Holm-corrected for all cells."
    )


def _p(value: float | None) -> str:
    return "-" if value is None else ("< 0.001" if value < 0.001 else f"{value:.3f}")


def names_of(first: pathlib.Path, second: pathlib.Path) -> tuple[str, str]:
    """The shortest ends of both paths that tell them apart."""
    ours, theirs = first.resolve().parts, second.resolve().parts
    for count in range(1, max(len(ours), len(theirs)) + 1):
        names = "/".join(ours[-count:]), "/".join(theirs[-count:])
        if names[0] != names[1]:
            return names
    return str(first), str(second)
