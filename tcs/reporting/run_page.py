"""A folder of `tcs train` as a page: each student's loss over its steps, its rate and cost, and the recipe."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from tcs.errors import ArtefactError
from tcs.ordinary import read_text
from tcs.plain_files import ARGS, CONFIG, load_record
from tcs.reporting.charts.curves import Curve, curve_chart
from tcs.reporting.charts.palette import LIGHT
from tcs.reporting.layout import Part, PlainPage
from tcs.reporting.page_figures import Panel
from tcs.reporting.sheets import Cell, Sheet

LOG = "metrics.jsonl"
MOST_POINTS = 300  # of one curve
MOST = 1e15  # no number of a run is larger


def is_run(folder: pathlib.Path) -> bool:
    """Whether `folder` is one that tcs train wrote."""
    return (folder / ARGS).exists()


def run_page(folder: pathlib.Path) -> PlainPage:
    """The page of a run. ArtefactError where no student of it has a log."""
    logs = {path.parent.name: _read_log(path) for path in sorted(folder.glob(f"*/{LOG}"))}
    logs = {student: rows for student, rows in logs.items() if rows}
    if not logs:
        raise ArtefactError(
            f"{folder} holds no log of a student ({LOG}); it is a run of tcs train once a step is done."
        )
    finished = {student: load_record(folder / student) for student in logs if (folder / student / CONFIG).exists()}
    steps = max(int(rows[-1]["step"]) for rows in logs.values())
    open_students = [student for student in logs if student not in finished]
    notices = (
        [("partial", f"Not finished: {', '.join(open_students)}; what is shown is what there is.")]
        if open_students
        else []
    )
    return PlainPage(
        kind="Training run",
        title=folder.resolve().name,
        headline=f"{len(logs)} student{'s' * (len(logs) != 1)}, {steps:,} steps.",
        details=[f"{student}: loss {_last(rows, 'loss'):.4g} in the last steps." for student, rows in logs.items()],
        notices=notices,
        parts=[
            Part(heading="Loss", lede="Means of neighbouring steps.", panels=_panels(logs)),
            Part(heading="Cost", sheets=[_costs(finished, logs)]),
            Part(heading="Recipe", facts=[(name, text) for name, text in _options(folder)]),
        ],
    )


def _read_log(path: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of a log; a last line that a kill tore is left out."""
    rows = []
    for line in read_text(path, errors="replace").splitlines():
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError):
            break
    return [row for row in rows if isinstance(row, dict) and _found(row, "step") is not None]


def _panels(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Panel]:
    """The loss of all students in one figure, then the parts of each."""
    whole = [
        Curve(name=name, points=_thinned(rows, "loss"), colour=_colour(i))
        for i, (name, rows) in enumerate(logs.items())
    ]
    whole = [curve for curve in whole if curve.points]
    panels = (
        [Panel(title="Loss", subtitle="of all students", svg=curve_chart(whole, "step", "Loss over steps"))]
        if whole
        else []
    )
    for student, rows in logs.items():
        terms = sorted({name for row in rows for name in row if name.startswith("loss_")})
        curves = [
            Curve(name=name.removeprefix("loss_"), points=_thinned(rows, name), colour=_colour(i))
            for i, name in enumerate(terms)
        ]
        curves = [curve for curve in curves if curve.points]
        if len(curves) > 1:
            svg = curve_chart(curves, "step", f"Terms of the loss, {student}")
            panels.append(Panel(title=student, subtitle="terms of the loss", svg=svg))
    return panels


def _colour(index: int) -> str:
    return f"m{index % len(LIGHT)}"


def _thinned(rows: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    """(step, mean) of blocks of neighbouring rows that have the number."""
    found = [(float(row["step"]), float(row[name])) for row in rows if _found(row, name) is not None]
    block = -(-len(found) // MOST_POINTS) or 1
    blocks = [found[start : start + block] for start in range(0, len(found), block)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in blocks]


def _last(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    points = _thinned(rows, name)
    tail = points[-max(1, len(points) // 20) :] or [(0.0, float("nan"))]
    return sum(value for _, value in tail) / len(tail)


def _costs(finished: Mapping[str, Mapping[str, Any]], logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Sheet:
    columns = [
        ("student", False),
        ("parameters (M)", True),
        ("steps", True),
        ("images/s", True),
        ("seconds", True),
        ("peak memory (MB)", True),
    ]
    rows = []
    for student, log in logs.items():
        record = finished.get(student, {})
        parameters = _found(record, "student", "parameters")
        numbers = [
            None if parameters is None else parameters / 1e6,
            float(log[-1]["step"]),
            _found(log[-1], "images_per_s"),
            _found(record, "cost", "wall_seconds"),
            _found(record, "cost", "peak_mib"),
        ]
        rows.append([Cell(student), *(_number(value) for value in numbers)])
    return Sheet(name="Cost of training", columns=columns, rows=rows)


def _found(record: Any, *names: str) -> float | None:
    """A number of a record, which may be unfinished or changed by hand; None where there is none."""
    for name in names:
        record = record.get(name) if isinstance(record, Mapping) else None
    return float(record) if isinstance(record, int | float) and abs(record) < MOST else None


def _number(value: float | None) -> Cell:
    return Cell("–", "-1", "none") if value is None else Cell(f"{value:,.4g}", f"{value:.6f}")


def _options(folder: pathlib.Path) -> list[tuple[str, str]]:
    """Lines `name: value` of args.yaml, without those that are null."""
    lines = [
        line.partition(": ")
        for line in read_text(folder / ARGS, errors="replace").splitlines()
        if not line.startswith("#")
    ]
    return [
        (name, value)
        for name, colon, value in lines
        if colon and value not in ("null", "") and not name.startswith((" ", "-"))
    ]
