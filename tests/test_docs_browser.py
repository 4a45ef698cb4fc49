"""The built site in a browser: no page, at a telephone's width or a laptop's, is wider than its window. Skipped where no Chromium is there.

The site is built as `make docs` builds it, warnings as errors; scripts/docs_screenshots.py looks at it, and draws it where one asks.
"""

import pathlib
import subprocess
import sys

import pytest
from browser import needs_browser
from pages import ROOT

FINE = "<pre style='overflow: auto'>" + "wide " * 200 + "</pre><p>narrow</p>"
SCROLLS = "<p>narrow</p><div style='width: 500px'>five hundred pixels</div>"
CUTS = "<section style='overflow: hidden'><p style='width: 700px'>seven hundred pixels</p></section>"


def looked_at(site: pathlib.Path, *options: str) -> tuple[int, str, str]:
    """Exit code and what is told and said."""
    script = [sys.executable, str(ROOT / "scripts" / "docs_screenshots.py"), str(site), *options]
    ended = subprocess.run(script, capture_output=True, text=True, timeout=500, check=False)
    return ended.returncode, ended.stdout, ended.stderr


def write_page(folder: pathlib.Path, name: str, body: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(
        f"<!doctype html><meta charset='utf-8'><title>x</title><body style='margin: 0'>{body}</body>"
    )


@needs_browser
def test_pages_that_scroll_or_cut_are_told_and_drawn(tmp_path: pathlib.Path) -> None:
    for name, body in (("fine.html", FINE), ("scrolls.html", SCROLLS), ("cuts.html", CUTS)):
        write_page(tmp_path / "site", name, body)
    code, told, said = looked_at(tmp_path / "site", "--out", str(tmp_path / "pictures"))
    assert (code, said) == (1, "")
    assert told.splitlines() == [
        "cuts.html at 390 px: 310 px too wide: <p> seven hundred pixels",
        "scrolls.html at 390 px: 110 px too wide: <div> five hundred pixels",
        "3 pages at 390 and 1280 px: 2 too wide",
    ]
    drawn = sorted(path.relative_to(tmp_path / "pictures").as_posix() for path in tmp_path.rglob("*.png"))
    assert drawn == [f"{width}/{name}.png" for width in (1280, 390) for name in ("cuts", "fine", "scrolls")]
    code, told, said = looked_at(tmp_path / "site", "--out", str(tmp_path / "one"), "fine")
    assert (code, told, said) == (0, "1 pages at 390 and 1280 px: 0 too wide\n", "")


def test_a_folder_without_pages_is_told(tmp_path: pathlib.Path) -> None:
    code, told, said = looked_at(tmp_path, "start")
    assert (code, told) == (1, "")
    assert said == f"{tmp_path}: no page with 'start' in its address; `make docs` builds the site\n"


@needs_browser
@pytest.mark.timeout(900)
def test_no_page_of_the_site_is_wider_than_its_window(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("sphinx", reason="no sphinx here: the site is not built")
    folders = ["-d", str(tmp_path / "doctrees"), str(ROOT / "docs"), str(tmp_path / "site")]
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", *folders],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    code, told, _ = looked_at(tmp_path / "site")
    assert code == 0, told
    assert int(told.split()[0]) > 80
