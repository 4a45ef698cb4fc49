"""Tables and figures of the results pages, made of the CSV files under benchmarks/results, never typed by hand.

    python -m docs.pages.results

draws the figure of README.md anew, docs/static/students.svg and, for telephones, students-phone.svg, and writes its table of students.
These alone are committed, because README.md is read where nothing is built.
"""

import pathlib
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks import students_tables
from benchmarks.students import CACHES, PARTS, recipe_of
from benchmarks.turns import Table
from cache import digest_of_json
from docs.pages import heads, leaderboard, small
from docs.pages.figure import NARROW, ROW, WIDE, Layout, accuracy_figure
from docs.pages.heads import shots_words
from tcs.plain_files import load_table
from tcs.reporting.grid_report import plain
from tcs.reporting.intervals import t_interval
from tcs.reporting.tables import markdown

RESULTS = pathlib.Path(__file__).parents[2] / "benchmarks" / "results"
STATIC = RESULTS.parents[1] / "docs" / "static"
README = RESULTS.parents[1] / "README.md"
LAYOUTS = {"": WIDE, "-phone": NARROW}  # behind the names of figures
README_LAYOUTS = {"": ROW, "-phone": NARROW}  # README has room for a row of panels
Row = Mapping[str, Any]
SHOWN = ("labels", "kd", "tcs-pool", "teacher-probe", "teacher-transductive")  # in the figure
README_TEACHERS = {  # in its table, whose columns are these methods at these shots
    "cifar10-simclr": "CIFAR-10, SimCLR",
    "cifar10-lite2": "CIFAR-10, Lite2",
    "flowers5": "flowers5, Lite2",
    "pbc8": "pbc8, Lite2",
}
SUGGEST_CACHES = {"cifar10-simclr": "CIFAR-10, SimCLR ResNet-10", "flowers5": "flowers5, EfficientNet-Lite2"}
README_METHODS, README_SHOTS = SHOWN[:4], (1, 4)
PART_TITLES = {  # of the parts after the first
    "one-shot": "One label a class, ten seeds",
    "more-methods": "More methods",
    "ablation": "What the default is made of",
    "steps": "More steps",
    "views": "Four views of each image",
    "larger": "A larger student",
    "vit": "A ViT",
    "lite0": "A pretrained EfficientNet-Lite0",
}
TURNS = (  # folders whose CSV is of contestants that took turns
    "gather",
    "writing",
    "decoding",
    "extraction-resnet18",
    "extraction-vit",
    "training-step",
    "one-stream",
    "online-teacher",
    "online-teacher-base",
    "predict",
    "predict-resnet18",
    "augmentation-one-copy",
)


def result_parts() -> dict[str, str]:
    """File name -> Markdown or SVG, which the pages in docs/results include."""
    students = students_rows()
    tables = {
        **{f"students-{name}": cache_table(students, name) for name in CACHES},
        **{f"part-{part}": students_tables.part_table(part, students) for part in told_parts(students)},
        "students-goals": "\n".join(students_tables.goals(students)),
        **{name: make() for name, make in SINGLE.items()},
        **leaderboard.leaderboard_parts(),
        **{name: turns_tables(load_table(RESULTS / name / f"{name}.csv")) for name in TURNS},
    }
    tables["parts"] = "\n".join(
        f"\n### {PART_TITLES[part]}\n\n{tables[f'part-{part}']}" for part in told_parts(students)[1:]
    )
    return {f"{name}.md": f"{text}\n" for name, text in tables.items()} | students_figures(students) | heads_figures()


def students_rows() -> list[Row]:
    """The finished rows of students."""
    return [row for row in load_table(RESULTS / "students" / "results.csv") if row["status"] == "ok"]


def students_figures(students: Sequence[Row], layouts: Mapping[str, Layout] = LAYOUTS) -> dict[str, str]:
    """File name -> SVG of part A, with the digest of what it shows in a comment."""
    curves = {name: students_curves(students, name) for name in CACHES}
    comment = f"<!-- rows {digest_of_json(curves)} -->\n<svg"
    return {
        f"students{end}.svg": accuracy_figure(curves, layout).replace("<svg", comment, 1)
        for end, layout in layouts.items()
    }


def heads_figures() -> dict[str, str]:
    """File name -> SVG of the frozen teacher's heads."""
    return {f"heads{end}.svg": accuracy_figure(heads.heads_curves(), layout) for end, layout in LAYOUTS.items()}


def told_parts(students: Sequence[Row]) -> list[str]:
    """The parts of benchmarks/students.py that have rows."""
    return [part for part in PARTS if students_tables.has_rows(part, students)]


def cache_table(students: Sequence[Row], name: str) -> str:
    """Part A on one cache: methods x shots."""
    model, counts = _model_of(name), PARTS["methods"]["shots"]
    methods = [given if isinstance(given, str) else given["label"] for given in PARTS["methods"]["methods"]]
    rows = []
    for label in (*methods, "teacher-probe", "teacher-transductive"):
        by_shots = [students_tables.by_seed(students, label, (name, shots), model) for shots in counts]
        rows.append([f"`{label}`", *map(students_tables.cell, by_shots)])
    return markdown(["", *map(shots_words, counts)], rows)


def students_curves(students: Sequence[Row], name: str) -> dict[str, dict[int, list[float]]]:
    """Method -> shots -> top-1 of each seed, of part A on one cache."""
    model = _model_of(name)
    return {
        label: {
            shots: list(students_tables.by_seed(students, label, (name, shots), model).values())
            for shots in PARTS["methods"]["shots"]
        }
        for label in SHOWN
    }


def readme_rows(students: Sequence[Row]) -> list[str]:
    """The lines of README's table of students: a cache each, means of top-1 over seeds at 1 / 4 shots, what is ours in bold."""
    return [
        "| "
        + " | ".join([title, *(_means(students_curves(students, name)[label], label) for label in README_METHODS)])
        + " |"
        for name, title in README_TEACHERS.items()
    ]


def with_rows(text: str, rows: Sequence[str]) -> str:
    """`text` with each line that has the first cell of one of `rows` in its place. ValueError where there is none."""
    for row in rows:
        start = row[: row.index("|", 1)]
        (line,) = [line for line in text.splitlines() if line.startswith(start)]
        text = text.replace(line, row)
    return text


def _means(by_shots: Mapping[int, Sequence[float]], label: str) -> str:
    told = " / ".join(f"{statistics.fmean(by_shots[shots]):.1f}" for shots in README_SHOTS)
    return f"**{told}**" if label == "tcs-pool" else told


def pivot(
    rows: Iterable[Row], down: Callable[[Row], str], across: Callable[[Row], str], value: Callable[[Row], float]
) -> str:
    """A table of `mean ± half-width (n)`: a line for each `down`, a column for each `across`, in the order in which they come."""
    found: dict[str, dict[str, list[float]]] = {}
    columns: dict[str, None] = {}
    for row in rows:
        columns.setdefault(across(row))
        found.setdefault(down(row), {}).setdefault(across(row), []).append(value(row))
    lines = [
        [name, *(plain(t_interval(cells[column])) if column in cells else "-" for column in columns)]
        for name, cells in found.items()
    ]
    return markdown(["", *columns], lines)


def turns_tables(rows: Sequence[Row]) -> str:
    """Contestants that took turns: medians with the least and the most, and ratios inside a round."""
    tables: dict[str, dict[str, list[float]]] = {}
    facts: dict[str, Row] = {}
    for row in rows:
        facts[row["table"]] = row
        tables.setdefault(row["table"], {}).setdefault(row["contestant"], []).append(float(row["value"]))
    return "\n\n".join(
        Table(title=title, unit=facts[title]["unit"], base=facts[title]["base"], values=values).markdown()
        for title, values in tables.items()
    )


def several_teachers_table() -> str:
    """Two teachers alone, joined and averaged."""
    rows = load_table(RESULTS / "several_teachers" / "results.csv")
    return pivot(
        rows, lambda row: row["teachers"], lambda row: shots_words(int(row["shots"])), lambda row: float(row["top1"])
    )


def suggest_table() -> str:
    """Drawn images beside suggested ones."""
    rows = load_table(RESULTS / "suggest" / "results.csv")
    return pivot(
        rows,
        lambda row: f"{row['dataset']}, {'drawn' if row['chooser'] == 'random' else '`tcs suggest`'}",
        lambda row: f"{row['n']} labelled images",
        lambda row: float(row["transductive_top1"]),
    )


def suggest_rounds_table() -> str:
    """A line a cache: ridge / transductive probe of n drawn images, and of n suggested ones; means over seeds."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in load_table(RESULTS / "suggest" / "results.csv"):
        column = f"{'drawn' if row['chooser'] == 'random' else 'suggested'}, {row['n']}"
        both = (float(row["ridge_top1"]), float(row["transductive_top1"]))
        cache = f"{SUGGEST_CACHES[row['dataset']]}, {int(row['pool_n']):,} rows"
        found.setdefault(cache, {}).setdefault(column, []).append(both)
    columns = sorted(
        {column for cells in found.values() for column in cells}, key=lambda name: (name[0], len(name), name)
    )
    lines = [
        [name, *(" / ".join(f"{statistics.fmean(values):.1f}" for values in zip(*cells[column], strict=True)) for column in columns)]
        for name, cells in found.items()
    ]  # fmt: skip
    return markdown(["cache", *columns], lines)


def grid_table(name: str) -> Callable[[], str]:
    """Methods x (student, shots, pool) of a committed grid."""

    def made() -> str:
        rows = [row for row in load_table(RESULTS / name / "results.csv") if row["status"] == "ok"]
        return pivot(
            rows,
            lambda row: row["method"],
            lambda row: f"{row['model'].partition(',')[0]}, {shots_words(int(row['shots']))}, pool {row['unlabelled']}",
            lambda row: float(row["top1"]),
        )

    return made


def methods_table() -> str:
    """All methods of the grid of methods, the best first."""
    rows = [row for row in load_table(RESULTS / "cifar10-methods" / "results.csv") if row["status"] == "ok"]
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row["method"], []).append(float(row["top1"]))
    ordered = sorted(found.items(), key=lambda item: -sum(item[1]) / len(item[1]))
    return markdown(["", "top-1 %"], [[name, plain(t_interval(values))] for name, values in ordered])


def losses_table() -> str:
    """What each loss costs, beside a step of ResNet-18 at 224 px."""
    rows = load_table(RESULTS / "losses.csv")
    lines = [[f"`{row['loss']}`", str(row["ms"]), str(row["percent"])] for row in rows]
    return markdown(["loss", "ms, forward and backward", "% of the step"], lines)


def compression_table(shots: str) -> Callable[[], str]:
    """Ridge heads on projected features."""

    def made() -> str:
        rows = load_table(RESULTS / "compression" / shots / "compression.csv")
        return pivot(
            rows,
            lambda row: row["method"],
            lambda row: f"{float(row['compression']):g}x",
            lambda row: float(row["top1"]),
        )

    return made


def all_labels_table() -> str:
    """Students of all labels."""
    rows = load_table(RESULTS / "all-labels" / "results.csv")
    return pivot(rows, lambda row: row["dataset"], _losses_of, lambda row: float(row["top1"]))


def teachers_text() -> str:
    """What `tcs probe` of two teachers' stores wrote, as it wrote it, without its title."""
    told = (RESULTS / "teachers" / "teachers.md").read_text(encoding="utf-8")
    return told.partition("\n")[2].strip()


SINGLE: Mapping[str, Callable[[], str]] = {
    "heads": heads.heads_table,
    "estimators": heads.estimators_table,
    "pools": heads.pools_table,
    "several-teachers": several_teachers_table,
    "teachers": teachers_text,
    "suggest": suggest_table,
    "suggest-rounds": suggest_rounds_table,
    "methods": methods_table,
    "losses": losses_table,
    "compression-all": compression_table("all"),
    "compression-16-shots": compression_table("16-shots"),
    "all-labels": all_labels_table,
    "cifar10": grid_table("cifar10"),
    "cifar10-long": grid_table("cifar10-long"),
    **small.small_tables(),
}


def _model_of(name: str) -> str:
    """The student of part A on a cache."""
    return str(recipe_of("methods", name)[0]["students"][0])


def _losses_of(row: Row) -> str:
    return f"{row['warm_up']}, then {row['loss']}" if row["warm_up"] else f"{row['loss']} alone"


if __name__ == "__main__":
    finished = students_rows()
    for file_name, svg in students_figures(finished, README_LAYOUTS).items():
        (STATIC / file_name).write_text(svg, encoding="utf-8")
    README.write_text(with_rows(README.read_text(encoding="utf-8"), readme_rows(finished)), encoding="utf-8")
