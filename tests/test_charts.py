"""Figures as SVG: what is escaped, where things lie, and that no percentage leaves 0 to 100."""

import itertools
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from grid_folders import grid_row, usual_rows, write_predictions, write_rows

from tcs.grid.reported import write_report
from tcs.reporting.accuracy_figure import accuracy_svg
from tcs.reporting.charts.accuracy import accuracy_chart, accuracy_range, clipped, unnamed
from tcs.reporting.charts.contrasts import DifferenceRow, forest, ranks_chart
from tcs.reporting.charts.cost import CostPoint, _is_free, cost_chart, pareto_front
from tcs.reporting.charts.curves import Curve, curve_chart
from tcs.reporting.charts.matrix import confused_pairs, confusion_chart
from tcs.reporting.charts.palette import DARK, LIGHT, Look, looks_of
from tcs.reporting.charts.svg import Scale, figure, log_ticks, shortened, spread, tag, text, ticks
from tcs.reporting.intervals import Interval, t_interval
from tcs.reporting.ranks import rank_methods
from tcs.reporting.results import group_tables, load_runs

SVG = "{http://www.w3.org/2000/svg}"


def tables_of(folder, rows):
    return group_tables(load_runs(write_rows(folder, rows)))


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast_of(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_text_and_attributes_are_escaped():
    assert (
        tag("text", {"x": 1.5, "class": '"><script>'}, "<b>&")
        == '<text x="1.5" class="&#34;&gt;&lt;script&gt;">&lt;b&gt;&amp;</text>'
    )
    assert tag("g", {"class": "", "id": None}, tag("path")) == "<g><path/></g>"
    assert "<title>a &lt; b</title>" in text(0, 0, "a", hint="a < b")


def test_scales_are_linear_or_logarithmic():
    assert Scale(0, 10, 100, 200)(2.5) == 125
    assert Scale(10, 0, 100, 200)(10) == 100
    assert Scale(1, 16, 0, 100, is_log=True)(4) == pytest.approx(50)
    assert Scale(5, 5, 0, 100)(5) == 50


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 100, [0, 20, 40, 60, 80, 100]), (32, 58, [35, 40, 45, 50, 55]), (-1.2, 3.1, [-1, 0, 1, 2, 3]), (5, 5, [5])],
)
def test_ticks_are_round_and_inside(low, high, expected):
    assert ticks(low, high, 6) == pytest.approx(expected)


def test_logarithmic_ticks_thin_out_and_never_vanish():
    assert log_ticks(1, 20) == [1, 2, 5, 10, 20]
    assert log_ticks(1, 100000) == [1, 10, 100, 1000, 10000, 100000]
    assert len(log_ticks(2.1, 4.4)) >= 2


def test_labels_are_moved_apart_and_keep_their_order():
    places = [50, 51, 52, 10, 90]
    moved = spread(places, 15, 0, 100)
    assert sorted(range(5), key=moved.__getitem__) == sorted(range(5), key=places.__getitem__)
    ordered = sorted(moved)
    assert all(after - before >= 15 - 1e-6 for before, after in itertools.pairwise(ordered))
    assert 0 <= ordered[0] <= ordered[-1] <= 100
    assert spread([98, 99], 15, 0, 100) == pytest.approx([85, 100])


def test_long_names_are_cut_and_marked():
    assert shortened("kd-transductive", 15) == "kd-transductive"
    assert shortened("kd-transductive + l2", 17) == "kd-transductive…"


def test_intervals_end_at_0_and_100(tmp_path):
    assert clipped(Interval(mean=97.0, n=2, half=9.0)) == (88, 100)
    assert clipped(Interval(mean=4.0, n=2, half=9.0)) == (0, 13)
    rows = [grid_row("vit", "kd", shots, seed, top1) for shots in (1, 4) for seed, top1 in enumerate((80.0, 99.0))]
    table = tables_of(tmp_path, rows)[0]
    assert table.interval("kd", 4).mean + table.interval("kd", 4).half > 200
    low, high = accuracy_range([table])
    assert 0 <= low < high <= 100
    drawn = accuracy_chart(table, looks_of([table]), (low, high))
    ys = [float(value) for value in re.findall(r'y[12]="(-?[\d.]+)"', drawn)]
    assert min(ys) >= 10
    assert max(ys) <= 280


def test_every_method_has_a_line_and_a_name_at_its_end(tmp_path):
    table = tables_of(tmp_path, usual_rows())[0]
    drawn = accuracy_chart(table, looks_of([table]), (0, 100))
    root = ET.fromstring(drawn)
    name = "{http://www.w3.org/2000/svg}"
    assert root.get("role") == "img"
    for method in table.methods:
        parts = [group for group in root.iter(f"{name}g") if group.get("data-method") == method]
        assert sum(len(list(group.iter(f"{name}polyline"))) for group in parts) == 1
        assert [label.text for group in parts for label in group.iter(f"{name}text")] == [method]
    assert "kd, 4 shots: 60.8 % (95 % interval" in drawn


def test_one_shot_count_makes_rows_with_the_best_on_top(tmp_path):
    table = tables_of(tmp_path, [row for row in usual_rows() if row["shots"] == 1])[0]
    drawn = accuracy_chart(table, looks_of([table]), (0, 100))
    assert re.findall(r'data-method="([^"]+)"', drawn) == ["teacher-probe", "tcs-pool", "kd", "labels"]


def test_colours_can_be_read_as_text_on_both_grounds():
    assert len(LIGHT) == len(DARK) == len(set(LIGHT)) == len(set(DARK))
    assert all(contrast_of(colour, "#fcfbf8") >= 4.5 for colour in LIGHT)
    assert all(contrast_of(colour, "#131416") >= 4.5 for colour in DARK)


def test_more_methods_than_colours_are_told_apart_by_dashes_and_markers(tmp_path):
    rows = [grid_row("vit", f"m{index}", 1, 0, 50.0) for index in range(24)]
    looks = looks_of(tables_of(tmp_path, rows))
    assert len({(look.colour, look.dash) for look in looks.values()}) == 24


def test_the_front_is_what_nothing_cheaper_beats():
    def point(method, cost, top1):
        return CostPoint(model="m", method=method, cost=cost, top1=top1, shape="circle")

    points = [
        point("a", 3, 50),
        point("b", 1, 40),
        point("c", 2, 39),
        point("d", 4, 50),
        point("e", 1, 30),
        point("f", 9, 60),
    ]
    assert [found.method for found in pareto_front(points)] == ["b", "a", "f"]


def test_names_of_points_lie_on_no_other_name_and_on_no_marker():
    boxes = [(0.0, 0.0, 50.0, 12.0)]
    assert not _is_free((40.0, 5.0, 90.0, 17.0), boxes, [])
    assert not _is_free((60.0, 5.0, 90.0, 17.0), boxes, [(75.0, 10.0)])
    assert _is_free((60.0, 5.0, 90.0, 17.0), boxes, [(75.0, 40.0)])
    points = [
        CostPoint(model="m", method=f"method{i}", cost=1 + i / 50, top1=50 + i / 50, shape="circle") for i in range(30)
    ]
    look = Look("m0", "", "circle")
    drawn = cost_chart(points, "wall_s", {point.method: look for point in points}, "A title")
    ET.fromstring(drawn)
    assert drawn.count("s f") == 30
    assert 1 <= len(re.findall('class="f name"', drawn)) <= 10
    assert "method29, m: 50.6 % for 1.58 seconds of training" in drawn


def test_a_forest_shows_every_row_and_cuts_what_would_hide_the_others():
    rows = [
        DifferenceRow(name="usual", difference=t_interval([1.0, 2.0, 3.0])),
        DifferenceRow(name="huge", difference=Interval(mean=2.0, n=2, half=500.0)),
    ]
    drawn = forest(rows, "a better", "b better", "A title")
    ET.fromstring(drawn)
    assert "+2.0 ± 2.5 (3)" in drawn
    assert "+2.0 ± 500.0 (2)" in drawn
    xs = [float(value) for value in re.findall(r'x[12]="(-?[\d.]+)"', drawn)]
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', drawn)[1])
    assert 0 < min(xs) <= max(xs) < width
    assert drawn.count("s hollow") == 1


def test_ranks_are_drawn_for_all_methods_with_the_bars_of_those_alike():
    ranking = rank_methods(np.tile([40.0, 30.0, 20.0, 10.0], (5, 1)), list("abcd"))
    looks = dict.fromkeys("abcd", looks_of([], ["a"])["a"])
    drawn = ranks_chart(ranking, looks)
    ET.fromstring(drawn)
    assert drawn.count('class="bar" stroke-width="4"') == 2
    assert "critical difference 2.10" in drawn
    assert re.findall(r">(\w) [\d.]+<title>", drawn) == ["a", "b", "c", "d"]


def test_the_matrix_is_in_percent_of_the_true_class():
    counts_CC = np.array([[8, 2], [5, 5]])
    drawn = confusion_chart(counts_CC, ["ant", "bee"], "A title")
    ET.fromstring(drawn)
    assert "ant taken for bee: 20.0 %" in drawn
    assert "bee taken for ant: 50.0 %" in drawn
    assert confused_pairs(counts_CC, ["ant", "bee"]) == [("bee", "ant", 50.0), ("ant", "bee", 20.0)]


def test_curves_keep_their_points_inside():
    curves = [
        Curve(name="a", points=[(0, 3.0), (1, 2.0), (100, 9.0)], colour="m0"),
        Curve(name="b", points=[(1, 5.0)], colour="m1"),
    ]
    drawn = curve_chart(curves, "step", "A title", is_log=True)
    ET.fromstring(drawn)
    assert "a ends at 9; b ends at 5" in drawn


def test_the_svg_stands_alone(tmp_path):
    folder = write_rows(tmp_path / "grid", usual_rows(datasets=("a", "b")))
    write_predictions(folder)
    drawn = write_report(folder, tmp_path / "accuracy.svg").read_text()
    root = ET.fromstring(drawn)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert [root.get("width"), root.get("height")] == root.get("viewBox").split()[2:]
    assert root.find(f"{SVG}rect").attrib == {"width": root.get("width"), "height": root.get("height"), "fill": "#fff"}
    assert "var(" not in drawn
    assert LIGHT[0] in drawn
    assert "Hollow" not in drawn


def nested(root):
    """The drawings of a figure's panels, each in the element that places it."""
    return [(outer, inner) for outer in root.iter(f"{SVG}svg") for inner in outer.findall(f"{SVG}svg")]


def test_panels_of_many_rows_are_as_large_as_those_of_few(tmp_path):
    rows = [grid_row(model, f"m{index}", 1, 0, 50.0) for model in "abcd" for index in range(1 if model == "a" else 40)]
    root = ET.fromstring(accuracy_svg(tables_of(tmp_path, rows)))
    panels = nested(root)
    assert len(panels) == 4
    for outer, inner in panels:
        assert inner.get("viewBox").split()[2:] == [outer.get("width"), outer.get("height")]
    tallest = float(panels[1][0].get("height"))
    assert tallest > 40 * 20
    places = [re.findall(r"[\d.]+", group.get("transform")) for group in root.findall(f"{SVG}g")]
    assert [float(across) for across, _ in places] == [10, 470, 930, 10]
    assert float(places[3][1]) >= float(places[0][1]) + tallest
    assert float(root.get("height")) >= float(places[3][1]) + tallest
    assert "Hollow points: fewer than 3 seeds" in "".join(root.itertext())


def test_the_longest_names_fit_into_the_file_in_a_wide_font(tmp_path):
    rows = [grid_row(model, "a-method-of-19-chars", shots, 0, 50.0) for model in "abc" for shots in (1, 4)]
    root = ET.fromstring(accuracy_svg(tables_of(tmp_path, rows)))
    last = root.findall(f"{SVG}g")[-1]
    across = float(re.findall(r"[\d.]+", last.get("transform"))[0])
    (name,) = [label for label in last.iter(f"{SVG}text") if label.get("class") == "f name"]
    assert across + float(name.get("x")) + 7.2 * len(name.text) <= float(root.get("width"))


def test_methods_whose_names_no_panel_shows_are_in_the_key(tmp_path):
    rows = [grid_row("vit", f"m{index}", shots, 0, 90.0 - index) for index in range(15) for shots in (1, 4)]
    rows += [grid_row("vit", "early", 1, 0, 10.0), grid_row("cnn", "m3", 1, 0, 50.0), grid_row("cnn", "m4", 4, 0, 50.0)]
    tables = tables_of(tmp_path, rows)
    assert [unnamed(table) for table in tables] == [["m12", "m13", "m14", "early"], ["m3"]]
    root = ET.fromstring(accuracy_svg(tables))
    shown = [label.text for label in root.iter(f"{SVG}text") if label.get("class") == "f name"]
    assert [label for label in shown if label not in {f"m{index}" for index in range(12)}] == [
        "m12",
        "m13",
        "m14",
        "early",
    ]
    assert shown.count("m3") == 2
    root = ET.fromstring(accuracy_svg(tables_of(tmp_path, usual_rows())))
    assert [label.text for label in root.iter(f"{SVG}text")].count("kd") == 1


def test_text_that_no_xml_may_hold_is_replaced() -> None:
    drawn = figure(10, 10, "a\x0bb", "\ufffe", [text(1, 2, "c\x1b<d>", hint="\ud800")])
    (shown,) = ET.fromstring(drawn)
    assert shown.text == "c\ufffd<d>"
    assert shown[0].text == "\ufffd"
