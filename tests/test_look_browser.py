"""The page of `tcs look` in a browser: no error on its console; examples, maps, classes and keys. Skipped where no Chromium is there."""

import pytest
from artefacts import make_store
from browser import found_by, needs_browser

import tcs

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


@needs_browser
@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_answers_without_an_error(tmp_path, width):
    out = tmp_path / "look.html"
    tcs.look(tcs.LookConfig(store=str(make_store(tmp_path / "x.store").path), out=str(out)))
    found = found_by(out, CLICKS, width)
    assert found == ["example-7", "example-1", "true", "t-SNE map", "20", "bee", "true", "true", "60", "true"]
