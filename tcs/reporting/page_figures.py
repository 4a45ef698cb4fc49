"""The figures of a page, each with the words that say what it shows. Everything is computed here, and the templates lay it out."""

import base64
import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from tcs.reporting.beside import Axes
from tcs.reporting.charts.accuracy import accuracy_chart, accuracy_range
from tcs.reporting.charts.contrasts import DifferenceRow, forest
from tcs.reporting.charts.cost import NAMES, cost_chart, cost_columns, cost_points
from tcs.reporting.charts.curves import Curve, curve_chart
from tcs.reporting.charts.matrix import MOST_CLASSES, class_chart, confused_pairs, confusion_chart
from tcs.reporting.charts.palette import DASHES, LIGHT, Look
from tcs.reporting.contrast import Contrast
from tcs.reporting.folder import GridFolder
from tcs.reporting.predicted import HardImage, Predicted, confusion, hardest
from tcs.reporting.results import TEACHER, Run, Table
from tcs.reporting.sheets import short_names

MOST_CONDITIONS = 24  # rows of one forest
MOST_HARD = 18
MOST_CLASS_VIEWS = 12
Looks = Mapping[str, Look]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Panel:
    """A figure with its heading and what it is of."""

    title: str
    subtitle: str
    svg: Markup


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassView:
    """One student at one shot count: the accuracy of each class, and what is taken for what (a matrix, or for many classes the most
    frequent mistakes)."""

    title: str
    classes: Markup
    matrix: Markup | None
    pairs: Sequence[tuple[str, str, float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class HardView:
    """A hard image; `source` is a data: URI, empty where the image could not be read."""

    image: HardImage
    source: str


def accuracy_panels(tables: Sequence[Table], looks: Looks) -> list[Panel]:
    """One panel a table, in their order, those of one data set on one scale."""
    names = short_names([table.model for table in tables])
    limits = {dataset: accuracy_range(group) for dataset, group in _by_dataset(tables)}
    panels = []
    for table in tables:
        title = " · ".join(part for part in (table.dataset, names[table.model]) if part)
        svg = accuracy_chart(table, looks, limits[table.dataset])
        panels.append(Panel(title=title, subtitle=_pool(table), svg=svg))
    return panels


def _pool(table: Table) -> str:
    options = table.model.partition(",")[2]
    pool = "no unlabelled images" if table.unlabelled == "none" else f"unlabelled images: {table.unlabelled}"
    return f"{pool}{' · ' if options else ''}{options}"


def _by_dataset(tables: Sequence[Table]) -> list[tuple[str, list[Table]]]:
    names = dict.fromkeys(table.dataset for table in tables)
    return [(name, [table for table in tables if table.dataset == name]) for name in names]


def condition_rows(result: Contrast) -> list[DifferenceRow]:
    """A row a setting, those of most difference first where there are many, and the mean of all at the end."""
    datasets = {condition.table.dataset for condition in result.conditions}
    names = short_names([condition.table.model for condition in result.conditions])
    pools = {condition.table.unlabelled for condition in result.conditions}
    shown = result.conditions
    if len(shown) > MOST_CONDITIONS:
        shown = tuple(sorted(shown, key=lambda condition: -condition.difference.mean))
        half = MOST_CONDITIONS // 2
        shown = (*shown[:half], *shown[-half:])
    rows: list[DifferenceRow] = []
    for condition in shown:
        table = condition.table
        parts = [
            table.dataset if len(datasets) > 1 else "",
            names[table.model] if len(names) > 1 else "",
            table.unlabelled if len(pools) > 1 else "",
            f"{condition.shots} shot{'s' * (condition.shots != 1)}",
        ]
        rows.append(DifferenceRow(name=" · ".join(part for part in parts if part), difference=condition.difference))
    whole = DifferenceRow(name="mean of all settings", difference=result.whole, is_whole=True)
    return [*rows, whole] if len(rows) > 1 else rows


def verdict_forest(result: Contrast) -> Markup:
    """The difference of the two methods of the verdict, setting by setting."""
    title = f"{result.first} against {result.second}, setting by setting"
    return forest(condition_rows(result), f"{result.first} better", f"{result.second} better", title)


def rival_forest(rivals: Sequence[Contrast], looks: Looks) -> Markup:
    """The leading method against each other one, mean of all settings."""
    rows = [
        DifferenceRow(name=rival.second, difference=rival.whole, colour=looks[rival.second].colour) for rival in rivals
    ]
    return forest(rows, f"{rivals[0].first} better", "other better", f"{rivals[0].first} against the other methods")


def cost_panels(grid: GridFolder, looks: Looks) -> list[Panel]:
    """Cost against accuracy, a panel for each data set and cost."""
    panels = []
    for dataset, group in _by_dataset(grid.tables):
        for column in cost_columns(group):
            points = cost_points(group, column)
            if points:
                title = " · ".join(part for part in (dataset, NAMES[column]) if part)
                svg = cost_chart(points, column, looks, f"Accuracy against {title}")
                panels.append(Panel(title=title, subtitle="top-1 in percent, mean over shots and seeds", svg=svg))
    return panels


def class_views(grid: GridFolder, result: Contrast | None, looks: Looks) -> list[ClassView]:
    """Where predictions of the two methods are there: the same classes under both, most shots first."""
    if result is None:
        return []
    views = []
    names = short_names([table.model for table in grid.tables])
    for table in grid.tables:
        answers = grid.predicted.get(table.dataset)
        for shots in reversed(table.shots):
            both = [
                None if answers is None else answers.chosen(table.cell(method, shots))
                for method in (result.first, result.second)
            ]
            if both[0] is not None and both[1] is not None:
                place = [table.dataset, names[table.model], f"{shots} shot{'s' * (shots != 1)}"]
                title = " · ".join(part for part in place if part)
                views.append(_class_view(title, both[0], both[1], result, looks))
    return views[:MOST_CLASS_VIEWS]


def _class_view(title: str, first: Predicted, second: Predicted, result: Contrast, looks: Looks) -> ClassView:
    classes = first.test.classes
    counts_CC = confusion(first)
    recalls = list(zip(classes, _recalls(counts_CC), _recalls(confusion(second)), strict=True))
    methods = (result.first, result.second)
    colours = (looks[result.first].colour, looks[result.second].colour)
    matrix = confusion_chart(counts_CC, classes, f"What {result.first} takes for what, {title}")
    return ClassView(
        title=title,
        classes=class_chart(recalls, methods, colours, f"Accuracy of each class, {title}"),
        matrix=matrix if len(classes) <= MOST_CLASSES else None,
        pairs=confused_pairs(counts_CC, classes),
    )


def _recalls(counts_CC: "np.ndarray[tuple[int, int], np.dtype[np.int64]]") -> list[float]:
    right_C = 100 * np.diag(counts_CC) / np.maximum(counts_CC.sum(axis=1), 1)
    return [float(value) for value in right_C]


def hard_views(grid: GridFolder) -> dict[str, list[HardView]]:
    """Data set -> the images that the fewest students get right, over all methods, shots and seeds."""
    found = {}
    for dataset, answers in grid.predicted.items():
        students = answers.chosen([run for run in answers.runs if run.model != TEACHER])
        if students is None:
            continue
        images = hardest(students, MOST_HARD)
        small = grid.beside.thumbnails(dataset, [image.key for image in images])
        found[dataset] = [HardView(image=image, source=_uri(small.get(image.key))) for image in images]
    return found


def _uri(data: bytes | None) -> str:
    if data is None:
        return ""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def axes_panels(every: Sequence[Axes]) -> list[Panel]:
    """Spectrum, ceiling and selection of the coordinate systems that the grid's targets are of."""
    panels = []
    for axes in every:
        about = f"{axes.name}: {axes.method}, {axes.components} coordinates"
        panels.append(Panel(title="Spectrum", subtitle=about, svg=_spectrum(axes)))
        if axes.ceiling:
            panels.append(Panel(title="Ceiling", subtitle=f"{about}; ridge probe of the teacher", svg=_ceiling(axes)))
        if axes.history:
            panels.append(
                Panel(title="Selection", subtitle=f"{axes.name}: {axes.kept} kept. {axes.note}", svg=_selection(axes))
            )
    return panels


def _spectrum(axes: Axes) -> Markup:
    total = sum(axes.spectrum) or 1.0
    shares = [100 * part / total for part in itertools.accumulate(axes.spectrum)]
    curve = Curve(name="of variance (%)", points=list(enumerate(shares, 1)), colour="m0")
    kept = [
        Curve(
            name=f"K = {axes.components}",
            points=[(axes.components, 0.0), (axes.components, 100.0)],
            colour="ref",
            dash="4 3",
        )
    ]
    return curve_chart([curve, *kept], "principal axes", f"Variance along the first axes, {axes.name}", is_log=True)


def _ceiling(axes: Axes) -> Markup:
    """A colour for each shot count, dashes for each kind of axes; of PCA at power 0 alone."""
    lines: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in axes.ceiling:
        shots = "all labels" if row["shots"] is None else f"{row['shots']} shots"
        if row["power"] == 0 or row["axes"] != "pca":
            lines.setdefault((row["axes"], shots), []).append((row["components"], row["accuracy"]))
    kinds, counts = (list(dict.fromkeys(key[side] for key in lines)) for side in (0, 1))
    curves = [
        Curve(
            name=f"{kind}, {shots}",
            points=sorted(points),
            colour=f"m{(counts.index(shots) + 3) % len(LIGHT)}",
            dash=DASHES[kinds.index(kind) % len(DASHES)],
        )
        for (kind, shots), points in lines.items()
    ]
    return curve_chart(curves, "coordinates", f"Accuracy of a ridge probe, {axes.name}", is_log=True)


def _selection(axes: Axes) -> Markup:
    rounds = sorted(axes.history, key=lambda entry: entry["size"])
    chosen = [(entry["size"], entry["mean"]) for entry in rounds]
    spectrum = [(entry["size"], entry["spectrum_mean"]) for entry in rounds if entry.get("spectrum_mean") is not None]
    curves = [Curve(name="selected", points=chosen, colour="m0")]
    curves += [Curve(name="first of spectrum", points=spectrum, colour="ref", dash="4 3")] if spectrum else []
    return curve_chart(curves, "coordinates", f"Cross-validated accuracy, {axes.name}", is_log=True)


def failures(runs: Sequence[Run]) -> list[Run]:
    """The runs without an accuracy."""
    return [run for run in runs if run.failed]
