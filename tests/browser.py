"""A page in headless Chromium: what a script of ours finds on it."""

import pathlib
import re
import shutil
import subprocess

import pytest

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: the page's script is not run")


def found_by(page: pathlib.Path, script: str, width: int) -> list[str]:
    """The parts of `found:a|b:`, the title that `script` gives the page at the end; nothing may be said on the console."""
    assert CHROMIUM is not None
    text = page.read_text()
    assert text.count("</body>") == 1
    clicked = page.with_name("clicked.html")
    clicked.write_text(text.replace("</body>", f"<script>{script}</script></body>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=3000"]
    place = [f"--window-size={width},900", f"--user-data-dir={page.parent / 'profile'}", "--dump-dom"]
    told = subprocess.run(
        [CHROMIUM, *options, *place, clicked.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert "CONSOLE" not in told.stderr
    title = re.search(r"<title>found:(.*):</title>", told.stdout)
    assert title is not None
    return title[1].split("|")
