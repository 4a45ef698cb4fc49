"""The stage `tcs report`: a grid -> a report; two grids -> their comparison; a folder of tcs train or tcs probe -> a page."""

import pathlib

from tcs.config.plain import AnyPath, given_path
from tcs.grid.gathered import gather
from tcs.reporting.probe_page import is_probe, probe_page
from tcs.reporting.run_page import is_run, run_page
from tcs.reporting.teachers_page import is_comparison, teachers_page
from tcs.reporting.written import write_comparison, write_grid_report, write_page

REPORT, PAGE, COMPARISON = "report.md", "report.html", "comparison.md"


def write_report(
    folder: AnyPath,
    out: AnyPath | None = None,
    other: AnyPath | None = None,
) -> pathlib.Path:
    """Read `folder` (the --out of tcs fewshot), write `out` (by default report.md in it) and return its path.

    The end of its name says what is written: .md (and beside it report.csv and accuracy.svg), .html, .tex, .csv, .svg or .png. The
    recipe's plan says what is missing; images, coordinates and predictions are shown where they are still there. A folder of tcs train or
    tcs probe becomes a page (by default report.html in it). With `other`, a second grid, both are compared: .md or .html (by default
    comparison.md in `folder`).

    ArtefactError: no usable results, `out` is a file that no report was, or two grids that cannot be compared; ConfigError: another end, a
    primary comparison of unknown methods, or matplotlib missing, which .png alone needs.
    """
    folder, to = given_path("folder", folder), given_path("out", out) if out else None
    if other is not None:
        return write_comparison(folder, given_path("other", other), to or folder / COMPARISON)
    if is_probe(folder):
        return write_page(probe_page(folder), to or folder / PAGE)
    if is_comparison(folder):
        return write_page(teachers_page(folder), to or folder / PAGE)
    if is_run(folder):
        return write_page(run_page(folder), to or folder / PAGE)
    return write_grid_report(folder, to or folder / REPORT, gather(folder))
