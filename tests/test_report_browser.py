"""The page in a browser: no error on its console, and a click on a heading sorts. Skipped where no Chromium is there."""

import pytest
from browser import found_by, needs_browser
from grid_folders import usual_rows, write_predictions, write_rows

from tcs.grid.reported import write_report

CLICKS = """
const order = () => [...document.querySelectorAll("#t-accuracy tbody tr")].map((row) => row.cells[1].textContent.trim()).join(" ");
const heading = [...document.querySelectorAll("#t-accuracy th button")].at(-1);
const found = [order()];
heading.click(); found.push(order(), heading.parentElement.getAttribute("aria-sort"));
heading.click(); found.push(order(), heading.parentElement.getAttribute("aria-sort"));
const search = document.querySelector("input[data-filter=t-accuracy]");
search.value = "POOL"; search.dispatchEvent(new Event("input"));
found.push(document.querySelectorAll("#t-accuracy tbody tr:not([hidden])").length);
document.querySelector("button[data-toggle=kd]").click();
found.push(document.querySelectorAll("g.series.gone[data-method=kd]").length > 0);
found.push(document.querySelector("a[data-json]").href.startsWith("data:application/json"));
found.push(document.documentElement.scrollWidth <= innerWidth);
document.title = "found:" + found.join("|") + ":";
"""


@needs_browser
@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_sorts_filters_and_hides_without_an_error(tmp_path, width):
    folder = write_rows(tmp_path / "grid", usual_rows(datasets=("cifar10", "flowers5")))
    write_predictions(folder)
    page = write_report(folder, tmp_path / "r.html")
    start, first, down, second, up, shown, is_hidden, has_json, fits = found_by(page, CLICKS, width)
    usual = "labels kd tcs-pool teacher-probe"
    assert start == f"{usual} {usual}"
    assert (first, down) == ("teacher-probe teacher-probe tcs-pool tcs-pool kd kd labels labels", "descending")
    assert (second, up) == ("labels labels kd kd tcs-pool tcs-pool teacher-probe teacher-probe", "ascending")
    assert (shown, is_hidden, has_json, fits) == ("2", "true", "true", "true")
