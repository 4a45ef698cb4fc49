"""report.html: one file that needs nothing else, says what the rows say, and cannot be talked into running what a user named."""

import base64
import html
import json
import pathlib
import re
from html.parser import HTMLParser

import pytest
from grid_folders import grid_row, usual_rows, write_predictions, write_rows

from tcs.errors import ArtefactError, ConfigError
from tcs.grid.reported import write_report
from tcs.reporting.beside import Axes, Beside
from tcs.reporting.folder import open_grid
from tcs.reporting.page import json_island, render_page

EVIL = '<script>alert("x")</script>'
VOID = {"meta", "input", "img", "br"}


class Outline(HTMLParser):
    """Elements in order, and which were never closed or closed out of turn."""

    def __init__(self):
        super().__init__()
        self.open, self.elements, self.wrong = [], [], []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def outline_of(text):
    outline = Outline()
    outline.feed(text)
    outline.close()
    return outline


def page_of(folder, beside=Beside()):  # noqa: B008 (frozen)
    return render_page(open_grid(folder, beside))


def test_every_element_is_closed_and_every_id_is_there_once(tmp_path):
    folder = write_rows(tmp_path / "grid", usual_rows(datasets=("a", "b"), models=("vit", "cnn,k=1")))
    write_predictions(folder)
    outline = outline_of(page_of(folder))
    assert (outline.open, outline.wrong) == ([], [])
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    targets = [
        attributes["href"] for tag, attributes in outline.elements if tag == "a" and attributes["href"].startswith("#")
    ]
    assert {target.removeprefix("#") for target in targets} <= set(ids)
    assert {"accuracy", "methods", "cost", "classes", "images", "numbers", "origin"} <= set(ids)


def test_nothing_is_loaded_from_elsewhere(tmp_path):
    text = page_of(write_rows(tmp_path / "grid", usual_rows()))
    assert set(re.findall(r"https?://[^\"' ]+", text)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert "default-src 'none'" in html.unescape(text)
    for tag, attributes in outline_of(text).elements:
        assert tag not in ("link", "iframe", "object")
        assert attributes.get("src", "data:").startswith("data:")


def test_what_a_user_named_is_text_everywhere(tmp_path):
    rows = usual_rows() + [grid_row("vit", EVIL, 1, seed, 70.0 + seed, error=EVIL) for seed in range(5)]
    rows += [grid_row(EVIL, "labels", 1, 0, "", status="failed", error=EVIL)]
    folder = write_rows(tmp_path / "grid", rows, f"note: '{EVIL}'\nprimary: ['{EVIL}', labels]\n")
    write_predictions(folder, classes=("ant", EVIL, "cow"))
    axes = Axes(name=EVIL, method=EVIL, components=2, spectrum=(3.0, 2.0, 1.0))
    text = page_of(folder, Beside(axes=(axes,)))
    outline = outline_of(text)
    assert (outline.open, outline.wrong) == ([], [])
    assert [attributes for tag, attributes in outline.elements if tag == "script"] == [
        {"type": "application/json", "id": "rows-json"},
        {},
    ]
    assert text.count("alert(") > 20  # shown, in the table, figures, note, recipe, failures
    assert text.count("<script>alert") == 0


def test_no_text_of_a_value_closes_the_island():
    value = {"a": "</script><!--\u2028&"}
    island = json_island(value)
    assert not set("<>&\u2028") & set(island)
    assert json.loads(island) == value


def test_the_raw_rows_are_inside_as_csv_and_as_json(tmp_path):
    folder = write_rows(tmp_path / "grid", usual_rows(seeds=3))
    text = page_of(folder)
    data = re.search(r'href="data:text/csv;base64,([^"]+)"', text)[1]
    assert base64.b64decode(data) == (folder / "results.csv").read_bytes()
    rows = json.loads(re.search(r'id="rows-json">(.*?)</script>', text, re.S)[1])
    assert len(rows) == len(usual_rows(seeds=3))
    assert (rows[0]["model"], rows[0]["method"], rows[0]["top1"]) == ("vit", "labels", 40.0)


def test_numbers_of_the_tables_are_those_of_the_markdown(tmp_path):
    folder = write_rows(tmp_path / "grid", usual_rows(seeds=3))
    text = page_of(folder)
    markdown = write_report(folder, tmp_path / "r.md").read_text()
    for cell in ("41.0 ± 2.5", "56.0 ± 2.5", "66.0 ± 2.5"):  # seeds 0 1 2 points: std 1, half 4.303 / sqrt 3
        assert f">{cell}</td>" in text
        assert f"{cell} (3)" in markdown
    assert "†" not in text.replace("†: fewer", "").replace("(†)", "")


def test_few_seeds_are_marked_in_tables_and_figures(tmp_path):
    text = page_of(write_rows(tmp_path / "grid", usual_rows(seeds=2)))
    assert ">40.5 ± 6.4†</td>" in text
    assert "s hollow" in text
    assert "hollow" not in page_of(write_rows(tmp_path / "more", usual_rows(seeds=3))).partition("<main>")[2].partition(
        "<svg"
    )[2].replace("a hollow point", "")


def test_a_method_has_one_colour_everywhere(tmp_path):
    folder = write_rows(tmp_path / "grid", usual_rows(datasets=("a", "b")))
    series = re.findall(r'<g class="(\w+) series" data-method="([^"]+)"', page_of(folder))
    colours = {}
    for colour, method in series:
        colours.setdefault(method, set()).add(colour)
    assert {method: len(found) for method, found in colours.items()} == dict.fromkeys(colours, 1)
    assert set(colours) == {"labels", "kd", "tcs-pool", "teacher-probe"}
    assert colours["teacher-probe"] == {"ref"}


def test_figures_have_a_text_for_who_cannot_see_them(tmp_path):
    folder = write_rows(tmp_path / "grid", usual_rows())
    write_predictions(folder)
    pictures = [attributes for tag, attributes in outline_of(page_of(folder)).elements if tag == "svg"]
    assert len(pictures) >= 6
    assert all(len(attributes.get("aria-label", "")) > 40 or attributes.get("aria-hidden") for attributes in pictures)
    assert any("tcs-pool, 4 shots: 65.8 %" in attributes.get("aria-label", "") for attributes in pictures)


def test_tables_can_be_sorted_from_the_keyboard(tmp_path):
    outline = outline_of(page_of(write_rows(tmp_path / "grid", usual_rows())))
    heads = [attributes for tag, attributes in outline.elements if tag == "th"]
    assert heads
    assert all(attributes["scope"] == "col" and attributes["aria-sort"] == "none" for attributes in heads)
    buttons = sum(tag == "button" for tag, _ in outline.elements)
    assert buttons == len(heads) + 4  # and one for each method


def test_hard_images_are_shown_where_they_can_be_read(tmp_path):
    folder = write_rows(tmp_path / "grid", usual_rows())
    write_predictions(folder)
    asked = []

    def thumbnails(dataset, keys):
        asked.append((dataset, list(keys)))
        return {keys[0]: b"\xff\xd8jpeg", keys[1]: b"\x89PNG..."}

    text = page_of(folder, Beside(thumbnails=thumbnails))
    assert [dataset for dataset, _ in asked] == [""]
    assert text.count("<img ") == 2
    assert 'src="data:image/jpeg;base64,' + base64.b64encode(b"\xff\xd8jpeg").decode() in text
    assert "data:image/png;base64," in text
    unread = asked[0][1][2]
    assert f"<code>{unread}</code>" in text


def test_the_bootstrap_is_told_of_three_splits_and_more(tmp_path):
    for seeds, told in ((2, 0), (3, 1)):
        folder = write_rows(tmp_path / f"grid{seeds}", usual_rows(seeds=seeds))
        write_predictions(folder)
        assert page_of(folder).count(f"when {seeds} splits and 40 test images are drawn anew.") == told


def test_coordinates_are_drawn_where_the_recipe_names_them(tmp_path):
    ceiling = [
        {"shots": 4, "axes": "pca", "power": 0.0, "components": k, "accuracy": 50.0 + k, "stderr": 1.0, "n": 3}
        for k in (2, 4)
    ]
    history = [{"size": k, "mean": 60.0 + k, "spectrum_mean": 58.0, "stderr": 1.0, "dropped": []} for k in (8, 4)]
    axes = Axes(
        name="t.h5", method="pca", components=2, spectrum=(4.0, 2.0, 1.0), ceiling=ceiling, history=history, kept=4
    )
    text = page_of(write_rows(tmp_path / "grid", usual_rows()), Beside(axes=(axes,)))
    for title in ("Spectrum", "Ceiling", "Selection"):
        assert f"<strong>{title}</strong>" in text
    assert "of variance (%) ends at 100" in text


ODD_GRIDS = {
    "the teacher alone": [grid_row("teacher", "teacher-probe", 1, 0, 60.0)],
    "one method and one seed": [grid_row("vit", "kd", 1, 0, 60.0)],
    "all labels alone": [
        grid_row("vit", "all-labels", 0, 0, 90.0),
        grid_row("teacher", "teacher-all-labels", 0, 0, 95.0),
    ],
    "nothing but failures beside it": [
        grid_row("vit", "kd", 1, 0, 60.0),
        grid_row("vit", "ours", 1, 0, "", status="failed", error="x"),
    ],
    "everything right and everything wrong": [
        grid_row("vit", m, s, 0, t) for m, t in (("a", 0.0), ("b", 100.0)) for s in (1, 4)
    ],
    "shots that do not meet": [grid_row("vit", "a", 1, 0, 10.0), grid_row("vit", "b", 4, 0, 20.0)],
}


@pytest.mark.parametrize("rows", ODD_GRIDS.values(), ids=ODD_GRIDS)
def test_grids_with_little_in_them_have_a_page(tmp_path, rows):
    folder = write_rows(tmp_path / "grid", rows)
    write_predictions(folder, classes=tuple(f"class {number}" for number in range(40)))
    outline = outline_of(page_of(folder))
    assert (outline.open, outline.wrong) == ([], [])
    assert any(tag == "h1" for tag, _ in outline.elements)
    assert write_report(folder, tmp_path / "r.md").read_text().startswith("<!-- written by tcs report")
    assert write_report(folder, tmp_path / "r.tex").exists()


def test_two_thousand_rows_are_under_five_megabytes(tmp_path):
    rows = usual_rows(
        seeds=25, datasets=("a", "b", "c"), models=("vit_tiny", "resnet18,layers=(1,1,1,1)", "cnn", "mlp")
    )
    assert len(rows) == 1950
    for row in rows:
        row |= {
            "cache_id": "c" * 32,
            "test_id": "t" * 32,
            "recipe_id": "r" * 32,
            "split_id": f"{row['seed']:032}",
            "images_seen": 100000,
        }
    assert len(page_of(write_rows(tmp_path / "grid", rows)).encode()) < 5_000_000


def test_the_page_is_a_pure_function_of_the_folder(tmp_path):
    folder = write_rows(tmp_path / "grid", usual_rows())
    write_predictions(folder)
    assert page_of(folder) == page_of(folder)


def test_a_page_replaces_a_page_and_nothing_else(tmp_path):
    folder = write_rows(tmp_path / "grid", usual_rows())
    out = write_report(folder, tmp_path / "deep" / "r.html")
    assert sorted(path.name for path in out.parent.iterdir()) == ["r.html"]
    write_report(folder, out)
    (tmp_path / "mine.html").write_text("<!doctype html><p>mine")
    with pytest.raises(ArtefactError, match=r"mine.html exists and is no report of tcs; give another --out"):
        write_report(folder, tmp_path / "mine.html")
    with pytest.raises(
        ConfigError, match=r"r\.pdf'; its name must end in \.md, \.html, \.tex, \.csv, \.svg, \.png, which says what"
    ):
        write_report(folder, tmp_path / "r.pdf")


def test_templates_lie_in_the_package():
    import tcs.reporting

    folder = pathlib.Path(tcs.reporting.__file__).parent / "templates"
    assert {path.name for path in folder.iterdir()} == {
        "base.html",
        "parts.html",
        "plain.html",
        "report.html",
        "report.css",
        "report.js",
        "audit.html",
        "look.html",
        "look.css",
        "look.js",
        "pictures.html",
        "pictures.css",
    }
