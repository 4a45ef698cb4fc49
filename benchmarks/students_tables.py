"""The tables of students in RESULTS.md, and how far their goals are reached, from benchmarks/results/students/results.csv.

    python benchmarks/students.py collect && python -m benchmarks.students_tables

A table for each part of benchmarks/students.py: top-1 in percent, mean with the half-width of the 95 % t-interval over seeds (n), and
how far `tcs-pool` is ahead: the difference by split, averaged over the columns of a seed that both have, and the interval over seeds.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.students import CACHES, KD, PARTS, POOL, RESULTS, recipe_of
from tcs.plain_files import load_table
from tcs.reporting.grid_report import plain
from tcs.reporting.intervals import Interval, t_interval
from tcs.reporting.tables import markdown
from tcs.runtime import say

TEACHER = "teacher"
PROBE = "teacher-probe"
FEW = (1, 4)  # the shots that the goals are about
Rows = Sequence[Mapping[str, Any]]
Column = tuple[str, int]  # a cache, and shots


def main() -> None:
    """Print everything as Markdown."""
    rows = [row for row in load_table(RESULTS / "results.csv") if row["status"] == "ok"]
    for part in PARTS:
        if not has_rows(part, rows):
            continue
        say("\n".join(["", f"### {part}", "", part_table(part, rows)]))
    say("\n".join(["", "### goals", "", *goals(rows)]))


def has_rows(part: str, rows: Rows) -> bool:
    """Whether a row is of this part alone: of its own student, or of a method that part A has not."""
    shared = {method if isinstance(method, str) else method["label"] for method in PARTS["methods"]["methods"]}
    models = {recipe_of(part, name)[0]["students"][0] for name in PARTS[part].get("caches", CACHES)}
    labels = {method if isinstance(method, str) else method["label"] for method in PARTS[part]["methods"]}
    own = labels if "student" in PARTS[part] or part in ("methods", "one-shot") else labels - shared
    return any(row["model"] in models and row["method"] in own for row in rows)


def part_table(part: str, rows: Rows) -> str:
    """Methods x (cache and shots) of one part, the teacher's references last; empty columns are left out."""
    given = PARTS[part]
    recipes = {name: recipe_of(part, name)[0] for name in given.get("caches", CACHES)}
    models = {name: recipe["students"][0] for name, recipe in recipes.items()}
    labels = [method if isinstance(method, str) else method["label"] for method in given["methods"]]
    references = [name for name in (PROBE, "teacher-transductive") if part != "views"]
    columns = [(name, shots) for name in recipes for shots in given["shots"]]
    found = {
        label: {column: by_seed(rows, label, column, models[column[0]]) for column in columns}
        for label in (*labels, *references)
    }
    ours = {column: by_seed(rows, POOL, column, models[column[0]]) for column in columns}
    shown = [column for column in columns if any(found[label][column] for label in labels)]
    lines = [
        [label, *(cell(found[label][column]) for column in shown), ahead({c: ours[c] for c in shown}, found[label])]
        for label in found
    ]
    header = ["method", *(f"{name}, {shots} shot{'s' * (shots > 1)}" for name, shots in shown), f"{POOL} ahead by"]
    return markdown(header, lines)


def by_seed(rows: Rows, method: str, column: Column, model: str) -> dict[str, float]:
    """Seed -> top-1 of one method, of one student or of the frozen teacher."""
    return {
        row["seed"]: float(row["top1"])
        for row in rows
        if (row["dataset"], int(row["shots"]), row["method"]) == (*column, method) and row["model"] in (model, TEACHER)
    }


def cell(values: Mapping[str, float]) -> str:
    """Mean, half-width, n."""
    return plain(t_interval(list(values.values()))) if values else "-"


def ahead(ours: Mapping[Column, Mapping[str, float]], theirs: Mapping[Column, Mapping[str, float]]) -> str:
    """How far `ours` is ahead of `theirs` over the columns that both have."""
    found = lead(ours, theirs)
    return "-" if found is None or not any(ours[c] != theirs[c] for c in ours) else signed(found)


def lead(ours: Mapping[Column, Mapping[str, float]], theirs: Mapping[Column, Mapping[str, float]]) -> Interval | None:
    """The mean over columns of ours - theirs for each seed that all of these columns have, and its interval over seeds."""
    columns = [column for column in ours if ours[column] and theirs[column]]
    seeds = set.intersection(*(ours[c].keys() & theirs[c].keys() for c in columns)) if columns else set[str]()
    by_split = [statistics.fmean(ours[c][seed] - theirs[c][seed] for c in columns) for seed in sorted(seeds)]
    return t_interval(by_split) if by_split else None


def signed(found: Interval) -> str:
    """`plain`, with its sign."""
    return f"{'+' if found.mean >= 0 else ''}{plain(found)}"


def goals(rows: Rows) -> list[str]:
    """A line for each rival and number of shots: the lead over all caches, and on each of them."""
    models = {name: recipe_of("methods", name)[0]["students"][0] for name in CACHES}
    lines = []
    for rival in ("labels", KD["label"], "kd-transductive", PROBE):
        for shots in FEW:
            columns = [(name, shots) for name in CACHES]
            ours, theirs = ({c: by_seed(rows, m, c, models[c[0]]) for c in columns} for m in (POOL, rival))
            each = {c: lead({c: ours[c]}, {c: theirs[c]}) for c in columns}
            whole = lead(ours, theirs)
            if whole is not None:
                said = ", ".join(f"{c[0]} {signed(one)}" for c, one in each.items() if one is not None)
                lines.append(f"- {POOL} - {rival}, {_shots(shots)}: {signed(whole)} on the mean of caches; {said}")
    return lines


def _shots(count: int) -> str:
    return f"{count} shot{'s' * (count > 1)}"


if __name__ == "__main__":
    main()
