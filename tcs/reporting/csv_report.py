"""The means of a grid as rows of CSV: one for each data set, student, pool, method and shot count."""

from collections.abc import Iterator, Sequence
from typing import Any

from tcs.reporting.results import Table


def csv_rows(tables: Sequence[Table]) -> Iterator[dict[str, Any]]:
    """The rows; a column `dataset` in front where a table names one."""
    with_dataset = any(table.dataset for table in tables)
    for table in tables:
        for method in table.methods:
            for shots in table.shots:
                place = {"dataset": table.dataset} if with_dataset else {}
                names = {"student": table.model, "unlabelled": table.unlabelled, "method": method, "shots": shots}
                yield place | names | _csv_cell(table, method, shots)


def _csv_cell(table: Table, method: str, shots: int) -> dict[str, Any]:
    interval = table.interval(method, shots)
    failed = sum(run.failed for run in table.cell(method, shots))
    mean, half, std = (None,) * 3 if interval is None else (interval.mean, interval.half, interval.std)
    numbers = {"top1_mean": mean, "top1_half_width": half, "top1_std": std}
    told = {name: "" if value is None else f"{value:.4f}" for name, value in numbers.items()}
    return {"n": 0 if interval is None else interval.n, "failed": failed, **told}
