"""What `tcs eval` shows: a summary of each student, its classes, what is taken for what; and the table in --out."""

import pathlib
from collections.abc import Sequence
from typing import Any

from tcs.evaluation.scores import confusions
from tcs.plain_files import save_table

MOST_CLASSES, MOST_MATRIX, MOST_CONFUSIONS = 30, 12, 10
NESTED = ("classes", "confusion")  # columns that are no single value


def save_rows(path: pathlib.Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a row a student as CSV, without what is told of single classes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_table(path, [{name: value for name, value in row.items() if name not in NESTED} for row in rows])


def shown(row: dict[str, Any]) -> list[str]:
    """The lines for the screen of one student."""
    return [_summary(row), _intervals(row), *_classes(row), *_confusion(row)]


def _summary(row: dict[str, Any]) -> str:
    seen = (
        f"; {row['seen']:,} of them SEEN in training or fitting" if row["seen"] else "; none of them seen in training"
    )
    if row["seen"] is None:
        seen = "; whether any of them were seen in training only its run could tell"
    by = f" (ridge probe of {row['probe_rows']:,} images of {row['probe']})" if "probe" in row else ""
    return (
        f"{row['model']}{by}: top1 {row['top1']:.2f} top5 {row['top5']:.2f} on {row['rows']:,} images of "
        f"{row['store']}{seen}"
    )


def _intervals(row: dict[str, Any]) -> str:
    parts = [
        f"{name} {row[key]:.2f} [{row[f'{key}_low']:.2f} - {row[f'{key}_high']:.2f}]"
        for name, key in (("top1", "top1"), ("balanced", "balanced"))
    ]
    if row["ece"] is None:
        return f"  {', '.join(parts)} (95 % intervals)"
    at = "without a temperature" if row["temperature"] is None else f"at temperature {row['temperature']:g}"
    return (
        f"  {', '.join(parts)} (95 % intervals); calibration error {row['ece']:.2f} {at} "
        f"({row['best_temperature']:g} fits these images best)"
    )


def _classes(row: dict[str, Any]) -> list[str]:
    """Every class, or those with the least recall where there are many."""
    items = row["classes"]
    note = []
    if len(items) > MOST_CLASSES:
        note = [f"  the {MOST_CLASSES} classes of least recall (--json has all {len(items):,}):"]
        with_images = [item for item in items if item["rows"]]
        items = sorted(with_images, key=lambda item: item["recall"])[:MOST_CLASSES]
    cells = [("class", "images", "recall", "[95 %]", "precision")]
    for item in items:
        ends = "" if item["recall"] is None else f"[{item['recall_low']:.1f} - {item['recall_high']:.1f}]"
        cells.append((item["class"], f"{item['rows']:,}", _number(item["recall"]), ends, _number(item["precision"])))
    return [*note, *_aligned(cells)]


def _confusion(row: dict[str, Any]) -> list[str]:
    names = [item["class"] for item in row["classes"]]
    if 1 < len(names) <= MOST_MATRIX:
        cells = [("is \\ taken for", *(str(number) for number in range(len(names))))]
        for number, (name, counts) in enumerate(zip(names, row["confusion"], strict=True)):
            cells.append((f"{number} {name}", *(f"{count:,}" if count else "." for count in counts)))
        return _aligned(cells)
    return [
        f"  {count:,} images of {name} are taken for {taken}"
        for count, name, taken in confusions(row)[:MOST_CONFUSIONS]
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for first, *others in cells:
        rest = [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join(["", first.ljust(widths[0]), *rest]).rstrip())
    return lines
