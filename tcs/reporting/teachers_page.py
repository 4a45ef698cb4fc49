"""A folder of `tcs probe` of several stores as a page: the verdict, a figure, and all numbers."""

import json
import pathlib
from typing import Any

from markupsafe import Markup

from tcs.errors import ArtefactError, first_line
from tcs.ordinary import read_ordinary
from tcs.reporting.charts.palette import LIGHT, MARKERS
from tcs.reporting.charts.svg import Scale, figure, line, marker, shortened, text, ticks
from tcs.reporting.intervals import Interval
from tcs.reporting.layout import Part, PlainPage
from tcs.reporting.page_figures import Panel
from tcs.reporting.sheets import Cell, Sheet, interval_cell
from tcs.reporting.teachers import RECORD, TeacherComparison, column_titles, headline, verdict
from tcs.schemas.check import broken_rule
from tcs.schemas.probes import TeachersRecord

WIDTH, ROW_HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640.0, 22.0, 132.0, 18.0, 10.0, 40.0


def is_comparison(folder: pathlib.Path) -> bool:
    """Whether `folder` is one that tcs probe wrote of several stores."""
    return (folder / RECORD).exists()


def teachers_page(folder: pathlib.Path) -> PlainPage:
    """The page of such a folder. ArtefactError where its record is broken."""
    record: Any = None
    try:
        record = json.loads(read_ordinary(folder / RECORD))
        told = broken_rule(record, TeachersRecord)
    except (OSError, ValueError, RecursionError) as error:
        told = first_line(error)
    if told is not None:
        raise ArtefactError(f"{folder / RECORD} cannot be read ({told}); run tcs probe again with --overwrite.")
    found = TeacherComparison.from_record(record)
    first = found.teachers[0]
    seen = f"{first['seen']:,} of the scored images are in the training stores as well."
    return PlainPage(
        kind="Teachers",
        title=folder.resolve().name,
        headline=headline(found),
        details=[
            verdict(found),
            f"{len(found.teachers)} teachers of the same {first['rows']:,} images, scored on {first['scored']:,}.",
        ],
        notices=[("overlap", seen)] if first["seen"] else [],
        parts=[
            Part(
                heading="Accuracy by probe",
                lede="Mean ± half-width of the 95 % t-interval over splits, the same for all teachers. †: fewer than 3 values; no split "
                "changes k-NN and the ceiling, which use all labels.",
                panels=[_panel(found)],
                sheets=[_teachers(found)],
            ),
            Part(
                heading="Differences",
                lede="In points, first less second, with 95 % intervals: of few labels over splits, of all over scored images.",
                sheets=[_differences(found), _alignment(found)],
            ),
            Part(heading="Where the numbers come from", facts=_facts(found)),
        ],
    )


def _panel(found: TeacherComparison) -> Panel:
    """A row a probe and teacher, with its interval."""
    cells = [
        (title, index, found.interval(name, *setting))
        for title, setting in zip(column_titles(found), found.settings, strict=True)
        for index, name in enumerate(found.names)
    ]
    ends = [value for _, _, cell in cells for value in (cell.mean - (cell.half or 0), cell.mean + (cell.half or 0))]
    steps = ticks(max(0.0, min(ends)), min(100.0, max(ends)), 6)
    height = TOP + BOTTOM + ROW_HEIGHT * len(cells)
    x = Scale(min(steps[0], min(ends)), max(steps[-1], max(ends)), LEFT, WIDTH - RIGHT)
    parts = [line(x(value), TOP, x(value), height - BOTTOM, "grid") for value in steps]
    parts += [text(x(value), height - BOTTOM + 17, f"{value:.4g}", "t", "middle") for value in steps]
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, height - 6, "top-1 accuracy (%)", "t", "middle"))
    for place, (title, index, cell) in enumerate(cells):
        parts += _row(found.names[index], title if index == 0 else "", index, cell, x, TOP + ROW_HEIGHT * (place + 0.5))
    subtitle = "; ".join(f"{MARKERS[index % len(MARKERS)]}: {name}" for index, name in enumerate(found.names))
    told = "; ".join(f"{title}, {found.names[index]}: {cell.mean:.1f}" for title, index, cell in cells)
    return Panel(
        title="Top-1 accuracy, mean and 95 % interval over splits",
        subtitle=subtitle,
        svg=figure(WIDTH, height, "Top-1 accuracy by probe and teacher", told, parts),
    )


def _row(name: str, title: str, index: int, cell: Interval, x: Scale, y: float) -> list[Markup]:
    parts = [text(LEFT - 10, y + 4, shortened(title, 20), "t", "end")] if title else []
    if cell.half is not None:
        parts.append(line(x(max(0.0, cell.mean - cell.half)), y, x(min(100.0, cell.mean + cell.half)), y, "bar"))
    colour, shape = f"m{index % len(LIGHT)}", MARKERS[index % len(MARKERS)]
    return [
        *parts,
        Markup('<g class="{}">{}</g>').format(colour, marker(x(cell.mean), y, shape, "f", f"{name}: {cell.mean:.1f}")),
    ]


def _teachers(found: TeacherComparison) -> Sheet:
    rows = []
    for item in found.teachers:
        cells = [interval_cell(found.interval(item["teacher"], *setting)) for setting in found.settings]
        seconds = item["seconds_per_image"]
        told = [f"{item['effective_rank']:.1f}", f"{item['dims']}", "" if seconds is None else f"{seconds:.3g}"]
        rows.append([Cell(item["teacher"]), *cells, *(Cell(text) for text in told)])
    titles = [*column_titles(found), "effective rank", "dims", "s an image"]
    return Sheet(name="Teachers", columns=[("teacher", False), *((title, True) for title in titles)], rows=rows)


def _differences(found: TeacherComparison) -> Sheet:
    rows = []
    for item in found.differences:
        measure = item["measure"] if item["shots"] == "all" else f"{item['measure']}, {item['shots']}"
        half = "" if item["half"] is None else f" ± {item['half']:.2f}"
        texts = [item["first"], item["second"], measure]
        numbers = [
            Cell(f"{item['mean']:+.2f}{half}", f"{item['mean']}"),
            Cell(f"{item['n']:,} {item['over']}", f"{item['n']}"),
        ]
        rows.append([*(Cell(told) for told in texts), *numbers])
    columns = [("first", False), ("second", False), ("probe", False), ("difference", True), ("n", True)]
    return Sheet(name="Differences", columns=columns, rows=rows)


def _alignment(found: TeacherComparison) -> Sheet:
    rows = [[Cell(item["first"]), Cell(item["second"]), Cell(f"{item['cka']:.3f}")] for item in found.cka]
    return Sheet(
        name=f"Linear CKA on {found.cka[0]['rows']:,} images",
        columns=[("first", False), ("second", False), ("CKA", True)],
        rows=rows,
    )


def _facts(found: TeacherComparison) -> list[tuple[str, Any]]:
    told: list[tuple[str, Any]] = [
        (item["teacher"], f"{item['store']}, readout {item['readout']}") for item in found.teachers
    ]
    told += [
        ("training stores", ", ".join(found.recipe["stores"])),
        ("test stores", ", ".join(found.recipe["test stores"])),
    ]
    return [
        *told,
        ("seeds", ", ".join(map(str, found.recipe["seeds"]))),
        ("commit", found.environment["commit"] or "unknown"),
    ]
