"""The comparison of teachers that `tcs probe` makes of several stores: its folder, its page, and what may be said of it.

The folder holds teachers.csv, teachers.md, teachers.png, and teachers.json, which has the recipe and all results.
"""

import dataclasses
import itertools
import json
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from cache import atomic_write_bytes
from tcs.artefact import plain_json
from tcs.errors import ArtefactError
from tcs.plain_files import save_table
from tcs.reporting.contrast import FEW_SEEDS
from tcs.reporting.figures import draw_teachers
from tcs.reporting.intervals import Interval, holm, paired_difference, t_interval
from tcs.reporting.tables import markdown

RECORD, TABLE, PAGE, FIGURE = "teachers.json", "teachers.csv", "teachers.md", "teachers.png"
RIDGE, TRANSDUCTIVE, KNN, CEILING = "ridge", "transductive", "k-NN", "ceiling"
MEASURES = (RIDGE, TRANSDUCTIVE, KNN, CEILING)
LEVEL = 0.05

Rows = Sequence[Mapping[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TeacherComparison:
    """`teachers`: facts of each, in order; `rows`: one a teacher, measure, shots and seed, top-1 in percent; `differences`: of every two
    teachers, first less second, in points; `cka`: of every two."""

    teachers: Rows
    rows: Rows
    differences: Rows
    cka: Rows
    recipe: Mapping[str, Any]
    environment: Mapping[str, Any]

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "TeacherComparison":
        """What teachers.json holds; ArtefactError for a damaged one."""
        try:
            return cls(**{field.name: record[field.name] for field in dataclasses.fields(cls)})
        except KeyError as error:
            raise ArtefactError(f"{RECORD} lacks {error}; pass --overwrite to measure again.") from error

    @property
    def names(self) -> list[str]:
        """The teachers, in order."""
        return [str(item["teacher"]) for item in self.teachers]

    @property
    def settings(self) -> list[tuple[str, int | str]]:
        """(measure, shots) of the columns."""
        found = dict.fromkeys((row["measure"], row["shots"]) for row in self.rows)
        return sorted(found, key=lambda item: MEASURES.index(item[0]))

    def by_seed(self, teacher: str, measure: str, shots: int | str) -> dict[Any, float]:
        """Seed -> top-1."""
        return {
            row["seed"]: row["top1"]
            for row in self.rows
            if (row["teacher"], row["measure"], row["shots"]) == (teacher, measure, shots)
        }

    def interval(self, teacher: str, measure: str, shots: int | str) -> Interval:
        """Mean top-1 over splits."""
        return t_interval(list(self.by_seed(teacher, measure, shots).values()))


def split_differences(names: Sequence[str], rows: Rows) -> list[dict[str, Any]]:
    """Differences paired by seed, whose split is the same for all teachers, of every two and every measure of few labels."""
    shots = dict.fromkeys(row["shots"] for row in rows if row["measure"] in (RIDGE, TRANSDUCTIVE))
    found = []
    for (first, second), measure, count in itertools.product(
        itertools.combinations(names, 2), (RIDGE, TRANSDUCTIVE), shots
    ):
        values: tuple[dict[Any, float], ...] = ({}, {})
        for row in rows:
            if (row["measure"], row["shots"]) == (measure, count) and row["teacher"] in (first, second):
                values[row["teacher"] == second][row["seed"]] = row["top1"]
        interval = paired_difference(*values)
        assert interval is not None
        found.append(
            {
                "first": first,
                "second": second,
                "measure": measure,
                "shots": count,
                "over": "splits",
                "mean": interval.mean,
                "half": interval.half,
                "n": interval.n,
                "p": interval.p,
            }
        )
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lead:
    """The teacher with the highest mean of a measure over all shots and seeds, the one that it leads by least, by how much, and whether
    the lead on every other is sure: Holm-adjusted p below LEVEL, of FEW_SEEDS splits or more."""

    teacher: str
    second: str
    by: Interval
    is_sure: bool


def lead_of(found: TeacherComparison, measure: str) -> Lead:
    """Who leads by the mean over shots, seed by seed."""
    shots = [count for name, count in found.settings if name == measure]
    means = {name: _over_shots(found, name, measure, shots) for name in found.names}
    first = max(found.names, key=lambda name: statistics.fmean(means[name].values()))
    others = [name for name in found.names if name != first]
    leads = [paired_difference(means[first], means[name]) for name in others]
    known = [lead for lead in leads if lead is not None]
    adjusted = holm([1.0 if lead.p is None else lead.p for lead in known])
    nearest = min(range(len(known)), key=lambda number: known[number].mean)
    return Lead(
        teacher=first,
        second=others[nearest],
        by=known[nearest],
        is_sure=max(adjusted) < LEVEL and known[nearest].n >= FEW_SEEDS,
    )


def _over_shots(found: TeacherComparison, name: str, measure: str, shots: Sequence[int | str]) -> dict[Any, float]:
    """Seed -> the mean top-1 over shots."""
    cells = [found.by_seed(name, measure, count) for count in shots]
    return {seed: statistics.fmean(cell[seed] for cell in cells) for seed in cells[0]}


def verdict(found: TeacherComparison) -> str:
    """Which teacher to take, in one sentence that claims what the intervals hold: by ridge probes, and what transductive ones say to it."""
    ridge, spread = lead_of(found, RIDGE), lead_of(found, TRANSDUCTIVE)
    return f"{_ridge_words(found, ridge)}; {_spread_words(ridge, spread)}."


def headline(found: TeacherComparison) -> str:
    """The verdict in a few words, for the top of a page that has all of it below."""
    lead = lead_of(found, RIDGE)
    return f"Take {lead.teacher}." if lead.is_sure else f"Ridge probes do not tell {lead.teacher} from {lead.second}."


def _ridge_words(found: TeacherComparison, lead: Lead) -> str:
    counts = [str(count) for name, count in found.settings if name == RIDGE]
    labels = f"{' and '.join([', '.join(counts[:-1]), counts[-1]] if counts[1:] else counts)} {'label' if counts == ['1'] else 'labels'}"
    at = (
        f"with {labels} a class ({'mean, ' if counts[1:] else ''}{lead.by.n} {'split' if lead.by.n == 1 else 'splits'})"
    )
    others = "every other, the nearest being " if len(found.names) > 2 else ""
    if lead.is_sure:
        return f"Take {lead.teacher}: by ridge probes {at} it is ahead of {others}{lead.second} by {_points(lead.by)}"
    why = f", and a claim takes {FEW_SEEDS} splits or more" if lead.by.n < FEW_SEEDS else ""
    return f"Ridge probes {at} do not tell {lead.teacher} from {lead.second}: {_points(lead.by)}{why}"


def _spread_words(ridge: Lead, spread: Lead) -> str:
    if not spread.is_sure:
        return f"transductive probes do not tell {spread.teacher} from {spread.second}: {_points(spread.by)}"
    if ridge.is_sure and (ridge.teacher, ridge.second) == (spread.teacher, spread.second):
        return f"by transductive probes as well, by {_points(spread.by)}"
    but = "but " if ridge.is_sure and ridge.teacher != spread.teacher else ""
    return f"{but}by transductive probes {spread.teacher} is ahead of {spread.second} by {_points(spread.by)}"


def _points(interval: Interval) -> str:
    if interval.half is None:
        return f"{interval.mean:+.1f} points of one split"
    return f"{interval.mean:+.1f} points (95 % interval {interval.mean - interval.half:+.1f} to {interval.mean + interval.half:+.1f})"


def render(found: TeacherComparison) -> str:
    """The page: the verdict, a row a teacher, differences, alignment, and where the numbers come from."""
    first = found.teachers[0]
    seen = (
        [f"**{first['seen']:,} of the scored images are SEEN: the training stores hold them as well.**"]
        if first["seen"]
        else []
    )
    parts = [
        "# Teachers compared",
        verdict(found),
        f"Top-1 accuracy in percent on {first['scored']:,} images: mean ± half-width of the 95 % t-interval over "
        f"{len(found.recipe['seeds'])} splits, the same for all teachers. Transductive: labels spread over all training images, in the "
        f"first {found.recipe['coordinates']} principal coordinates. k-NN ({found.recipe['neighbours']} nearest) and ceiling (ridge probe) "
        "use all labels.",
        *seen,
        teacher_table(found),
        "Differences in points, first less second: of few labels over splits, of all over scored images. They are not corrected for their "
        "number.",
        difference_table(found),
        f"Linear CKA on {found.cka[0]['rows']:,} images: "
        + "; ".join(f"{item['first']} and {item['second']} {item['cka']:.3f}" for item in found.cka)
        + ".",
        _origins(found),
    ]
    return "\n\n".join(parts) + "\n"


def column_titles(found: TeacherComparison) -> list[str]:
    """The measures, with their labels a class."""
    return [measure if shots == "all" else f"{measure}, {shots}" for measure, shots in found.settings]


def teacher_table(found: TeacherComparison) -> str:
    """A row a teacher."""
    header = ["teacher", *column_titles(found), "effective rank", "dims", "s an image"]
    body = []
    for item in found.teachers:
        cells = [_cell(found.interval(item["teacher"], measure, shots)) for measure, shots in found.settings]
        seconds = item["seconds_per_image"]
        cost = "-" if seconds is None else f"{seconds:.3g}" + (f" ({item['device']})" if item["device"] else "")
        body.append([item["teacher"], *cells, f"{item['effective_rank']:.1f}", str(item["dims"]), cost])
    return markdown(header, body)


def difference_table(found: TeacherComparison) -> str:
    """A row for every two teachers and measure."""
    header = ["first", "second", "measure", "difference", "n"]
    body = [
        [
            item["first"],
            item["second"],
            item["measure"] if item["shots"] == "all" else f"{item['measure']}, {item['shots']}",
            f"{item['mean']:+.2f}" + ("" if item["half"] is None else f" ± {item['half']:.2f}"),
            f"{item['n']:,} {item['over']}",
        ]
        for item in found.differences
    ]
    return markdown(header, body)


def _cell(interval: Interval) -> str:
    return f"{interval.mean:.1f}" + ("" if interval.half is None else f" ± {interval.half:.1f}")


def _origins(found: TeacherComparison) -> str:
    facts = found.environment
    versions = ", ".join(f"{name} {version}" for name, version in sorted(facts["versions"].items()))
    stores = [
        f"- {item['teacher']}: {item['store']}, readout {item['readout']}, training store {train}, test store {test}"
        for item, train, test in zip(found.teachers, found.recipe["stores"], found.recipe["test stores"], strict=True)
    ]
    fallen = sum(bool(row["fell_back"]) for row in found.rows)
    probes = sum(row["measure"] == TRANSDUCTIVE for row in found.rows)
    told = (
        [f"- by their own check {fallen} of {probes} transductive probes fell back to the ridge probe"]
        if fallen
        else []
    )
    return "\n".join(
        [
            *stores,
            *told,
            f"- seeds: {', '.join(str(seed) for seed in found.recipe['seeds'])}",
            f"- commit: {facts['commit'] or 'unknown'}; hardware: {facts['processor']}, {facts['cores']} cores",
            f"- versions: Python {facts['python']}, {versions}",
        ]
    )


def facts_of(found: TeacherComparison) -> dict[str, Any]:
    """All of it as JSON types, with the verdict."""
    return {"verdict": verdict(found), **plain_json(dataclasses.asdict(found))}


def write_teachers(found: TeacherComparison, folder: pathlib.Path) -> None:
    """Write the folder, the figure last. ConfigError where matplotlib is missing; the tables are written before."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(folder / RECORD, (json.dumps(facts_of(found), indent=1) + "\n").encode())
    save_table(folder / TABLE, found.rows)
    atomic_write_bytes(folder / PAGE, render(found).encode())
    cells = {name: [found.interval(name, *setting) for setting in found.settings] for name in found.names}
    draw_teachers(cells, column_titles(found), folder / FIGURE)
