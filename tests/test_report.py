"""The report of a grid against a table worked by hand, and what it says of failures, notes and missing things."""

import csv
import re
import sys

import pytest
from click.testing import CliRunner
from PIL import Image

from tcs.cli.report import command
from tcs.errors import ArtefactError, ConfigError
from tcs.grid.reported import write_report
from tcs.reporting.figures import draw_accuracy
from tcs.reporting.grid_report import MARK
from tcs.reporting.results import group_tables, load_runs

COLUMNS = (
    *("model", "method", "shots", "seed", "split_id", "unlabelled", "status", "error", "top1", "top1_err", "top5"),
    *("params_m", "steps", "images_seen", "wall_s", "images_per_s", "peak_mem_mb"),
    *("teacher", "cache_id", "targets_id", "commit"),
)


def row(model, method, shots, seed, top1, unlabelled="none", **more):
    base = {"status": "ok", "teacher": "resnet18", "cache_id": "c1", "commit": "f00d", "split_id": f"{shots}-{seed}"}
    cell = {"model": model, "method": method, "shots": shots, "seed": seed, "unlabelled": unlabelled, "top1": top1}
    return {**base, **cell, **more}


def write_grid(folder, rows, recipe=""):
    folder.mkdir(exist_ok=True)
    with (folder / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    if recipe:
        (folder / "recipe.yaml").write_text(recipe)
    return folder


def small_grid():
    """One student: labels 40 42 44 (no pool), tcs 50 51 55 and tcs-probe 60 60 63 with a pool; 1 and 4 shots."""
    rows = []
    for shots, gain in ((1, 0.0), (4, 10.0)):
        for seed, (labels, tcs, probe, teacher) in enumerate([(40, 50, 60, 70), (42, 51, 60, 71), (44, 55, 63, 72)]):
            rows.append(row("vit", "labels", shots, seed, labels + gain, wall_s=10 + seed, params_m=0.5))
            rows.append(row("vit", "tcs", shots, seed, tcs + gain, "all", wall_s=20, targets_id="t1"))
            rows.append(row("vit", "tcs-probe", shots, seed, probe + gain, "all"))
            rows.append(row("teacher", "teacher-probe", shots, seed, teacher + gain))
    return rows


def report_of(folder):
    write_report(folder, folder / "report.md")
    return (folder / "report.md").read_text()


def test_table_worked_by_hand(tmp_path):
    # labels: std 2, half 4.303 * 2 / sqrt 3 = 4.97. tcs 50 51 55: std sqrt 7, half 6.57. probe: std sqrt 3, half 4.30.
    text = report_of(write_grid(tmp_path, small_grid()))
    assert "## vit, unlabelled pool: all" in text
    assert "| method | 1 shot | 4 shots |\n| --- | ---: | ---: |" in text
    assert "| labels (no pool) | 42.0 ± 5.0 (3) | 52.0 ± 5.0 (3) |" in text
    assert "| tcs | 52.0 ± 6.6 (3) | 62.0 ± 6.6 (3) |" in text
    assert "| tcs-probe | 61.0 ± 4.3 (3) | 71.0 ± 4.3 (3) |" in text
    assert "| *teacher-probe* (frozen teacher) | 71.0 ± 2.5 (3) | 81.0 ± 2.5 (3) |" in text
    assert "With 3 of the 5 seeds that a claim needs, this table is for looking." in text
    assert "Primary" not in text
    assert text.startswith(MARK)


def test_costs_and_origins_are_told(tmp_path):
    text = report_of(write_grid(tmp_path, small_grid()))
    assert "| labels (no pool) | 0.5 | - | - | 11 | - | - |" in text
    for line in ("- teacher: resnet18", "- cache_id: c1", "- targets_id: t1", "- commit: f00d"):
        assert line in text


def test_primary_comparison_is_paired_and_the_rest_corrected(tmp_path):
    text = report_of(write_grid(tmp_path, small_grid(), "primary: [tcs, labels]\n"))
    # tcs - labels: 10 9 11, std 1, half 4.303 / sqrt 3 = 2.48; t = 10 sqrt 3 = 17.32, p = 1 - t / sqrt(t^2 + 2) = 0.0033.
    assert "**tcs - labels**, paired by seed and split. Mean over all shots: +10.0 ± 2.5 (3), p = 0.003." in text
    assert "| 1 | +10.0 ± 2.5 (3) |\n| 4 | +10.0 ± 2.5 (3) |" in text
    # tcs - tcs-probe: -10 -9 -8, t = -9 sqrt 3, p = 0.00409; two tests, so Holm doubles the smaller one: 0.008 for both.
    assert "Holm-corrected for these 2 tests" in text
    assert "| tcs - tcs-probe | 1 | -9.0 ± 2.5 (3) | 0.008 |\n| tcs - tcs-probe | 4 | -9.0 ± 2.5 (3) | 0.008 |" in text
    assert "tcs - teacher-probe" not in text


def test_pairs_of_other_splits_are_not_compared(tmp_path):
    rows = [row("vit", "a", 1, 0, 50.0), row("vit", "b", 1, 0, 40.0, split_id="other"), row("vit", "b", 1, 1, 41.0)]
    text = report_of(write_grid(tmp_path, rows, "primary: [a, b]\n"))
    assert "| 1 | - |" in text


def test_failed_runs_are_listed_and_do_not_count(tmp_path):
    rows = small_grid()
    rows[1] |= {"status": "failed", "error": "ce is nan at step 3", "top1": ""}
    text = report_of(write_grid(tmp_path, rows))
    assert "| tcs | 53.0 ± 25.4 (2), 1 failed | 62.0 ± 6.6 (3) |" in text
    assert "## Failed runs: 1\n\n- vit, tcs, shots 1, seed 0, pool all: ce is nan at step 3" in text


def test_cell_without_any_success_says_failed_and_a_gap_is_a_dash(tmp_path):
    rows = [row("vit", "a", 1, 0, 50.0), row("vit", "b", 4, 0, "", status="failed", error="no memory")]
    text = report_of(write_grid(tmp_path, rows))
    assert "| a | 50.0 (1) | - |\n| b | - | failed |" in text


def test_note_of_the_recipe_is_printed(tmp_path):
    note = "note: >\n  The teacher was pretrained\n  on the same images.\n"
    assert "**Note:** The teacher was pretrained on the same images." in report_of(
        write_grid(tmp_path, small_grid(), note)
    )


def test_pool_none_gets_its_own_table_where_a_method_ran_both_ways(tmp_path):
    rows = [
        row("vit", "tcs", 1, 0, 50.0, "none"),
        row("vit", "tcs", 1, 0, 60.0, "all"),
        row("vit", "labels", 1, 0, 40.0),
    ]
    tables = {table.unlabelled: table for table in group_tables(load_runs(write_grid(tmp_path, rows)))}
    assert set(tables) == {"none", "all"}
    assert tables["none"].interval("tcs", 1).mean == 50
    assert tables["all"].interval("tcs", 1).mean == 60
    assert tables["all"].interval("labels", 1).mean == 40


def test_csv_holds_the_same_numbers(tmp_path):
    report_of(write_grid(tmp_path, small_grid()))
    with (tmp_path / "report.csv").open(newline="") as file:
        rows = {(line["method"], line["shots"]): line for line in csv.DictReader(file)}
    assert len(rows) == 8
    line = rows["labels", "4"]
    assert (line["student"], line["unlabelled"], line["n"], line["failed"]) == ("vit", "all", "3", "0")
    assert (line["top1_mean"], line["top1_half_width"], line["top1_std"]) == ("52.0000", "4.9683", "2.0000")


def test_figure_has_a_panel_per_table(tmp_path):
    one = write_grid(tmp_path / "one", small_grid())
    two = write_grid(tmp_path / "two", small_grid() + [row("cnn,k=1", "labels", 1, s, 30.0 + s) for s in range(3)])
    for folder in (one, two):
        write_report(folder, folder / "accuracy.png")
    with Image.open(one / "accuracy.png") as narrow, Image.open(two / "accuracy.png") as wide:
        assert wide.width > narrow.width
        assert wide.height == narrow.height


def test_points_of_few_seeds_are_hollow_and_bars_end_at_100(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("tcs.reporting.figures.save_figure", lambda figure, path: drawn.append(figure))
    rows = [
        row("vit", "tcs", shots, seed, 90.0 + 8 * seed) for shots, seeds in ((1, 2), (4, 3)) for seed in range(seeds)
    ]
    rows[-1] |= {"top1": 99.0}
    draw_accuracy(group_tables(load_runs(write_grid(tmp_path, rows))), tmp_path / "a.png")
    (axis,) = drawn[0].axes
    (hollow,) = [line for line in axis.lines if line.get_markerfacecolor() == "white"]
    assert list(hollow.get_ydata()) == [94.0]
    assert hollow.get_zorder() == max(line.get_zorder() for line in axis.lines) > axis.lines[0].get_zorder()
    ends = [float(point[1]) for bars in axis.collections for segment in bars.get_segments() for point in segment]
    assert max(ends) == 100.0
    assert min(ends) >= 0.0


def test_the_names_of_many_methods_stand_below_the_panels(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("tcs.reporting.figures.save_figure", lambda figure, path: drawn.append(figure))
    rows = [row("vit", f"method-{index}", shots, 0, 50.0) for index in range(54) for shots in (1, 4)]
    draw_accuracy(group_tables(load_runs(write_grid(tmp_path, rows))), tmp_path / "a.png")
    (figure,) = drawn
    figure.draw_without_rendering()
    (axis,), (key,) = figure.axes, figure.legends
    assert len(key.get_texts()) == 54
    assert key.get_window_extent().y0 >= 0
    assert key.get_window_extent().y1 <= axis.get_tightbbox().y0
    assert axis.get_window_extent().height > 0.5 * 3.8 * figure.dpi


def test_report_is_a_pure_function_of_the_results(tmp_path):
    folder = write_grid(tmp_path, small_grid())
    first, drawing = report_of(folder), (folder / "accuracy.svg").read_bytes()
    assert report_of(folder) == first
    assert (folder / "accuracy.svg").read_bytes() == drawing
    png = write_report(folder, folder / "accuracy.png").read_bytes()
    assert write_report(folder, folder / "accuracy.png").read_bytes() == png


def test_matplotlib_is_needed_for_png_alone_whose_refusal_names_the_extra(tmp_path, monkeypatch):
    folder = write_grid(tmp_path, small_grid())
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "![accuracy over shots](accuracy.svg)" in report_of(folder)
    assert (folder / "accuracy.svg").read_text().startswith("<svg ")
    assert (folder / "report.csv").exists()
    with pytest.raises(ConfigError, match=r"accuracy.png is not drawn; pip install 'tcs-distill\[plots\]'"):
        write_report(folder, folder / "accuracy.png")


def test_foreign_file_is_not_overwritten(tmp_path):
    folder = write_grid(tmp_path, small_grid())
    (tmp_path / "notes.md").write_text("my notes")
    with pytest.raises(ArtefactError, match=r"notes.md exists and is no report of tcs; give another --out"):
        write_report(folder, tmp_path / "notes.md")


@pytest.mark.parametrize("name", ["report.csv", "accuracy.svg"])
def test_a_foreign_file_beside_a_report_is_not_overwritten_and_nothing_is_written(tmp_path, name):
    folder = write_grid(tmp_path, small_grid())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_bytes(b"my own")
    with pytest.raises(ArtefactError, match=rf"{name} exists and is no report of tcs; give another --out"):
        write_report(folder, tmp_path / "mine" / "all.md")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == [name]
    assert (tmp_path / "mine" / name).read_bytes() == b"my own"
    assert write_report(folder, tmp_path / "mine" / "all.html").exists()  # which writes one file


@pytest.mark.parametrize("name", ["report.csv", "accuracy.svg"])
def test_what_is_advised_about_a_foreign_file_in_a_copied_grid_is_true(tmp_path, name):
    folder = write_grid(tmp_path, small_grid())
    (folder / name).write_bytes(b"of another release")
    advice = r"in another folder or with another end than .md, or move that file: a report in Markdown writes it\."
    for out in (None, folder / "other.md"):  # another name in the same folder changes nothing
        with pytest.raises(ArtefactError, match=rf"{name} exists and is no report of tcs; give another --out {advice}"):
            write_report(folder, out)
    assert write_report(folder, tmp_path / "elsewhere" / "report.md").exists()
    assert write_report(folder, folder / "report.html").exists()
    (folder / name).rename(folder / "moved")
    assert write_report(folder, None).exists()
    assert (folder / "moved").read_bytes() == b"of another release"


@pytest.mark.parametrize(
    ("recipe", "error", "message"),
    [
        ("primary: [tcs]\n", ConfigError, r"has primary: \['tcs'\]; it must name two methods"),
        ("primary: [tcs, label]\n", ConfigError, r"no run of 'label'\. Did you mean labels\?"),
        ("primary: [tcs\n", ArtefactError, "recipe.yaml is not YAML"),
    ],
)
def test_bad_recipes_are_refused(tmp_path, recipe, error, message):
    with pytest.raises(error, match=message):
        report_of(write_grid(tmp_path, small_grid(), recipe))


def test_unusable_results_are_refused(tmp_path):
    with pytest.raises(ArtefactError, match=r"results.csv cannot be read \(No such file or directory\)"):
        load_runs(tmp_path)
    failed = [row("vit", "a", 1, 0, "", status="failed", error="x")]
    with pytest.raises(ArtefactError, match=r"holds no finished run \(1 failed\); run tcs fewshot again"):
        load_runs(write_grid(tmp_path, failed))
    with pytest.raises(ArtefactError, match=r"line 3 has top1 'high', which is no percentage"):
        load_runs(write_grid(tmp_path, [row("vit", "a", 1, 0, 1.0), row("vit", "a", 1, 1, "high")]))
    with pytest.raises(ArtefactError, match=r"line 2 has top1 'nan', which is no percentage"):
        load_runs(write_grid(tmp_path, [row("vit", "a", 1, 0, "nan")]))
    (tmp_path / "results.csv").write_text("model,method\n")
    with pytest.raises(ArtefactError, match="lacks the column shots, seed, split_id"):
        load_runs(tmp_path)


def test_command_writes_where_told(tmp_path):
    folder = write_grid(tmp_path / "grid", small_grid())
    result = CliRunner().invoke(command, [str(folder), "--out", str(tmp_path / "deep" / "r.md")])
    assert result.output == f"{tmp_path / 'deep' / 'r.md'}\n"
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["accuracy.svg", "r.md", "report.csv"]
    assert re.match(r".*report\.md\n$", CliRunner().invoke(command, [str(folder)]).output)
