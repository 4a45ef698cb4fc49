"""Tables of the leaderboard, made of the folder of its grid under benchmarks/results as `tcs report` reads it.

A mean over students, or over data sets, is of the seeds for which every one of them has a row, so that a grid that is not whole yet
compares like with like.
"""

import pathlib
import statistics
from collections.abc import Callable, Iterable, Set

from tcs.grid.recipe import plan_cells
from tcs.grid.recipe_file import load_grid
from tcs.reporting.beside import Beside
from tcs.reporting.contrast import contrast
from tcs.reporting.coverage import coverage_sentence
from tcs.reporting.folder import GridFolder, open_grid
from tcs.reporting.grid_report import plain, signed
from tcs.reporting.intervals import t_interval
from tcs.reporting.results import ALL_LABELS, TEACHER, Run
from tcs.reporting.tables import markdown
from tcs.reporting.verdict import judge, ranking

FOLDER = pathlib.Path(__file__).parents[2] / "benchmarks" / "results" / "leaderboard"
PLAIN = "labels"  # what every gain is over
Of = Callable[[Run], str]


def leaderboard_parts() -> dict[str, str]:
    """Name of a part -> Markdown."""
    grid = open_leaderboard()
    return {
        "leaderboard-verdict": verdict_text(grid),
        "leaderboard-methods": methods_table(grid),
        "leaderboard-datasets": means_table(grid.runs, down=_method, across=_dataset, over=_student),
        "leaderboard-students": means_table(students_of(grid), down=_method, across=_student, over=_dataset),
    }


def open_leaderboard(folder: pathlib.Path = FOLDER) -> GridFolder:
    """The committed grid, with the plan of its recipe beside it."""
    planned = tuple(cell.key for cell in plan_cells(load_grid(folder / "recipe.yaml")))
    return open_grid(folder, Beside(planned=planned))


def verdict_text(grid: GridFolder) -> str:
    """What is missing, who won, how sure that is, and since when the comparison stood."""
    verdict = judge(grid.tables, grid.primary, grid.trust)
    told = [coverage_sentence(grid.coverage), verdict.headline, verdict.detail, verdict.sureness, verdict.caution]
    return " ".join(text for text in told if text)


def methods_table(grid: GridFolder) -> str:
    """Students' methods by average rank, their gain over labels alone, paired by seed, and in how many settings each is ahead."""
    ranked = ranking(grid.tables)
    if ranked is None:
        return "No setting has two methods yet."
    rows = []
    for method, rank in zip(ranked.methods, ranked.ranks, strict=True):
        gain = None if method == PLAIN else contrast(grid.tables, method, PLAIN)
        told = ["-", "-"] if gain is None else [signed(gain.whole), f"{gain.ahead} of {len(gain.conditions)}"]
        rows.append([f"`{method}`", f"{rank:.2f}", *told])
    return markdown(["", "average rank", "ahead of `labels` by", "in settings"], rows)


def students_of(grid: GridFolder) -> list[Run]:
    """The rows of students alone, without the frozen teacher's."""
    references = frozenset[str]().union(*(table.references for table in grid.tables))
    return [run for run in grid.runs if run.method not in references]


def means_table(runs: Iterable[Run], *, down: Of, across: Of, over: Of) -> str:
    """A line for each `down`, a column for each `across`: the mean over all `over` of each seed, then over seeds. The frozen teacher's
    lines, which are of no student, come first."""
    shown = [run for run in runs if run.top1 is not None and run.shots != ALL_LABELS]
    columns = list(dict.fromkeys(map(across, shown)))
    rows = []
    for is_teacher in (True, False):
        part = [run for run in shown if (run.model == TEACHER) == is_teacher]
        whole = {column: {over(run) for run in part if across(run) == column} for column in columns}
        for name in dict.fromkeys(map(down, part)):
            line = [run for run in part if down(run) == name]
            rows.append([name, *(_mean((run for run in line if across(run) == c), over, whole[c]) for c in columns)])
    return markdown(["", *columns], rows)


def _mean(runs: Iterable[Run], over: Of, whole: Set[str]) -> str:
    """Mean ± half-width (n) over the seeds that have all of `whole`."""
    by_seed: dict[str, dict[str, float]] = {}
    for run in runs:
        by_seed.setdefault(run.seed, {})[over(run)] = run.top1 or 0.0
    means = [statistics.fmean(found.values()) for found in by_seed.values() if found.keys() == whole]
    return plain(t_interval(means)) if means else "-"


def _method(run: Run) -> str:
    return f"`{run.method}`"


def _dataset(run: Run) -> str:
    return run.dataset


def _student(run: Run) -> str:
    return f"`{run.model.partition(',')[0]}`"
