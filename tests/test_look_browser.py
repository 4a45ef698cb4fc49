"""The page of `tcs look` in a browser: no error on its console; examples, maps, classes and keys. Skipped where no Chromium is there."""

import re
import shutil
import subprocess

import pytest
from artefacts import make_store

import tcs

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
CLICKS = """
const found = [];
const shown = () => [...document.querySelectorAll(".example")].filter((part) => !part.hidden).map((part) => part.id).join(" ");
found.push(shown());
document.querySelector("button.pick").click();
found.push(shown());
const map = document.getElementById("map");
const first = map.querySelector("circle[data-i='0']");
const before = first.getAttribute("cx") + "," + first.getAttribute("cy");
document.querySelector("button[data-map='t-SNE']").click();
found.push(before !== first.getAttribute("cx") + "," + first.getAttribute("cy"), map.getAttribute("aria-label"));
const visible = () => [...map.querySelectorAll("g.pt:not(.gone) circle")].length;
document.querySelector("button[data-group='1']").click();
found.push(visible());
const press = (key) => map.dispatchEvent(new KeyboardEvent("keydown", { key, cancelable: true }));
press("ArrowRight");
found.push(document.querySelector(".card .words p").textContent);
const told = new Set();
for (const key of ["ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown"]) {
  press(key);
  told.add(document.querySelector(".card .words").textContent);
}
found.push(told.size > 1);
found.push(document.querySelector(".thumb").style.backgroundImage !== "");
document.getElementById("every-class").click();
found.push(visible(), document.documentElement.scrollWidth <= innerWidth);
document.title = "found:" + found.join("|") + ":";
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: the page's script is not run")
@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_answers_without_an_error(tmp_path, width):
    out = tmp_path / "look.html"
    tcs.look(tcs.LookConfig(store=str(make_store(tmp_path / "x.store").path), out=str(out)))
    text = out.read_text()
    assert text.count("</body>") == 1
    (tmp_path / "clicked.html").write_text(text.replace("</body>", f"<script>{CLICKS}</script></body>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=3000"]
    place = [f"--window-size={width},900", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    told = subprocess.run(
        [CHROMIUM, *options, *place, (tmp_path / "clicked.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in told.stderr
    found = re.search(r"<title>found:(.*):</title>", told.stdout)[1].split("|")
    assert found == ["example-7", "example-1", "true", "t-SNE map", "20", "bee", "true", "true", "60", "true"]
