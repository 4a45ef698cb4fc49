"""A folder of `tcs probe` as a page: accuracy over compression, the table of means, and where the numbers come from."""

import pathlib
from collections.abc import Mapping
from typing import Any

from tcs.errors import ArtefactError
from tcs.reporting.charts.curves import Curve, curve_chart
from tcs.reporting.charts.palette import LIGHT
from tcs.reporting.compression import RECORD, UNCOMPRESSED, intervals
from tcs.reporting.layout import Part, PlainPage
from tcs.reporting.page_figures import Panel
from tcs.reporting.sheets import Cell, Sheet, interval_cell
from tcs.schemas.check import load_checked
from tcs.schemas.probes import ProbeRecord

AGAIN = "run tcs probe again with --overwrite"


def is_probe(folder: pathlib.Path) -> bool:
    """Whether `folder` is one that tcs probe wrote."""
    return (folder / RECORD).exists()


def probe_page(folder: pathlib.Path) -> PlainPage:
    """The page of a probe's folder. ArtefactError where its record is broken."""
    record = load_checked(folder / RECORD, ProbeRecord, AGAIN)
    rows = record["rows"]
    if UNCOMPRESSED not in {row["method"] for row in rows}:
        raise ArtefactError(
            f"file {folder / RECORD} has no row '{UNCOMPRESSED}', which the others are held against; {AGAIN}."
        )
    cells, first = intervals(rows), rows[0]
    whole = next(cell for (name, _), cell in cells.items() if name == UNCOMPRESSED)
    dims = next(size for name, size in cells if name == UNCOMPRESSED)
    kept = [
        (dims / size, name, cell)
        for (name, size), cell in cells.items()
        if name != UNCOMPRESSED and cell.mean >= whole.mean - 1
    ]
    best = max(kept, key=lambda entry: entry[0], default=None)
    headline = (
        f"{best[1]} keeps the accuracy within one point at {best[0]:.3g} times fewer dims."
        if best
        else "No compressed head stays within one point of the uncompressed one."
    )
    labels = f"{first['shots']} labels a class" if isinstance(first["shots"], int) else f"{first['labelled']:,} labels"
    seen = (
        [("overlap", f"{first['seen']:,} of the scored images are in the training store as well.")]
        if first.get("seen")
        else []
    )
    facts = [(name, str(first.get(name, ""))) for name in ("teacher", "cache_id", "test_id", "commit")]
    return PlainPage(
        kind="Probe",
        title=folder.resolve().name,
        headline=headline,
        details=[
            f"{first['head']} head on {dims} dims of readout {first['readout']}, {labels}: {whole.mean:.1f} % uncompressed."
        ],
        notices=seen,
        parts=[
            Part(heading="Accuracy over compression", panels=[_panel(cells, dims)]),
            Part(
                heading="All numbers",
                lede="Mean ± half-width of the 95 % t-interval over seeds. †: fewer than 3, or no seed changes the head.",
                sheets=[_sheet(cells, dims)],
            ),
            Part(heading="Where the numbers come from", facts=[fact for fact in facts if fact[1]]),
        ],
    )


def _panel(cells: Mapping[tuple[str, int], Any], dims: int) -> Panel:
    names = list(dict.fromkeys(name for name, _ in cells if name != UNCOMPRESSED))
    curves = []
    for index, name in enumerate(names):
        points = sorted((dims / size, cell.mean) for (other, size), cell in cells.items() if other == name)
        curves.append(Curve(name=name, points=points, colour=f"m{index % len(LIGHT)}"))
    whole = next(cell.mean for (name, _), cell in cells.items() if name == UNCOMPRESSED)
    ends = sorted({x for curve in curves for x, _ in curve.points}) or [1.0]
    curves.append(Curve(name=UNCOMPRESSED, points=[(ends[0], whole), (ends[-1], whole)], colour="ref", dash="5 4"))
    svg = curve_chart(curves, "compression (times fewer dims)", "Top-1 accuracy over compression", is_log=True)
    return Panel(title="Top-1 accuracy", subtitle="in percent, mean over seeds", svg=svg)


def _sheet(cells: Mapping[tuple[str, int], Any], dims: int) -> Sheet:
    rows = [
        [
            Cell(name),
            Cell(f"{size}", f"{size:08}"),
            Cell(f"{dims / size:.3g}x", f"{dims / size:.6f}"),
            interval_cell(cell),
        ]
        for (name, size), cell in cells.items()
    ]
    columns = [("projection", False), ("K", True), ("compression", True), ("top-1 (%)", True)]
    return Sheet(name="Top-1 accuracy in percent", columns=columns, rows=rows)
