"""The files of a report, by the end of their name: each written whole, and no file written over that no report wrote."""

import pathlib
from collections.abc import Callable, Mapping

from cache import atomic_write_bytes
from tcs.errors import ArtefactError, ConfigError
from tcs.ordinary import read_ordinary
from tcs.plain_files import save_table
from tcs.reporting import accuracy_figure, latex, layout, page
from tcs.reporting.beside import NOTHING, Beside
from tcs.reporting.comparison import compare_grids, names_of, render_comparison
from tcs.reporting.comparison_page import comparison_page
from tcs.reporting.csv_report import csv_rows
from tcs.reporting.figures import WRITTEN, draw_accuracy
from tcs.reporting.folder import GridFolder, open_grid
from tcs.reporting.grid_report import MARK, render
from tcs.reporting.results import load_runs

MARKS = {
    ".md": MARK,
    ".html": layout.MARK,
    ".tex": latex.MARK,
    ".csv": "top1_mean",
    ".svg": accuracy_figure.MARK,
    ".png": WRITTEN,
}
MARKED_BYTES = 400  # a mark is among the first of a file


def write_grid_report(
    folder: str | pathlib.Path, out: str | pathlib.Path | None = None, beside: Beside = NOTHING
) -> pathlib.Path:
    """Read `folder` (the --out of tcs fewshot), write `out` (by default report.md in it) and return its path.

    What is written follows the end of its name: .md (and beside it report.csv and accuracy.svg), .html (one file that needs nothing
    else), .tex, .csv, .svg, .png. ArtefactError: no usable results, or `out` is a file that no report was; ConfigError: another end, a
    primary comparison of unknown methods, or matplotlib missing, which .png alone needs.
    """
    folder = pathlib.Path(folder)
    out = folder / "report.md" if out is None else pathlib.Path(out)
    write = WRITERS[require_kind(out)]
    grid = open_grid(folder, beside)
    require_own(out)
    for path in _siblings(out):
        require_own(
            path, "in another folder or with another end than .md, or move that file: a report in Markdown writes it"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    write(grid, out)
    return out


def write_comparison(first: str | pathlib.Path, second: str | pathlib.Path, out: str | pathlib.Path) -> pathlib.Path:
    """Compare the grids in two folders, write `out` (.md or .html) and return its path.

    ArtefactError: a folder without usable results, grids that share no cell or were scored on other images, or `out` is a file that no
    report was; ConfigError: another end.
    """
    first, second, out = pathlib.Path(first), pathlib.Path(second), pathlib.Path(out)
    if out.suffix.lower() not in (".md", ".html"):
        raise ConfigError(f"--out is '{out}'; of two grids its name must end in .md or .html.")
    found = compare_grids(load_runs(first), load_runs(second), names_of(first, second))
    is_page = out.suffix.lower() == ".html"
    return _write_own(out, layout.render_plain(comparison_page(found)) if is_page else render_comparison(found))


def write_page(page_of: layout.PlainPage, out: str | pathlib.Path) -> pathlib.Path:
    """Write a page (.html) and return its path; ConfigError for another end, ArtefactError for a file that no report was."""
    out = pathlib.Path(out)
    if out.suffix.lower() != ".html":
        raise ConfigError(f"--out is '{out}'; of a folder that is no grid its name must end in .html.")
    return _write_own(out, layout.render_plain(page_of))


def _write_own(out: pathlib.Path, text_of: str) -> pathlib.Path:
    require_own(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(out, text_of.encode())
    return out


def require_kind(out: pathlib.Path) -> str:
    """The end of the name, in small letters; ConfigError for one that no report has."""
    kind = out.suffix.lower()
    if kind not in MARKS:
        raise ConfigError(f"--out is '{out}'; its name must end in {', '.join(MARKS)}, which says what is written.")
    return kind


def require_own(out: pathlib.Path, which: str = "") -> None:
    """ArtefactError where `out` is there and no report of its kind; `which` says what other --out there could be."""
    if not out.exists():
        return
    if out.is_dir() or MARKS[require_kind(out)].encode() not in read_ordinary(out)[:MARKED_BYTES]:
        raise ArtefactError(f"{out} exists and is no report of tcs; give another --out{f' {which}' if which else ''}.")


def _siblings(out: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """What is written beside a report in Markdown: its table and its figure."""
    return (out.with_name("report.csv"), out.with_name("accuracy.svg")) if require_kind(out) == ".md" else ()


def _write_markdown(grid: GridFolder, out: pathlib.Path) -> None:
    table, drawing = _siblings(out)
    atomic_write_bytes(out, render(grid).encode())
    save_table(table, list(csv_rows(grid.tables)))
    _write_svg(grid, drawing)


def _write_html(grid: GridFolder, out: pathlib.Path) -> None:
    atomic_write_bytes(out, page.render_page(grid).encode())


def _write_latex(grid: GridFolder, out: pathlib.Path) -> None:
    atomic_write_bytes(out, latex.render_latex(grid).encode())


def _write_csv(grid: GridFolder, out: pathlib.Path) -> None:
    save_table(out, list(csv_rows(grid.tables)))


def _write_png(grid: GridFolder, out: pathlib.Path) -> None:
    draw_accuracy(grid.tables, out)


def _write_svg(grid: GridFolder, out: pathlib.Path) -> None:
    atomic_write_bytes(out, accuracy_figure.accuracy_svg(grid.tables, grid.primary or ()).encode())


WRITERS: Mapping[str, Callable[[GridFolder, pathlib.Path], None]] = {
    ".md": _write_markdown,
    ".html": _write_html,
    ".tex": _write_latex,
    ".csv": _write_csv,
    ".svg": _write_svg,
    ".png": _write_png,
}
