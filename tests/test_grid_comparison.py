"""Two grids compared: paired where seeds and splits agree, unpaired and told so where not, refused where nothing can be compared."""

import re

import pytest
from click.testing import CliRunner
from grid_folders import grid_row, usual_rows, write_rows
from scipy import stats

from tcs.cli.report import command
from tcs.errors import ArtefactError, ConfigError
from tcs.grid.reported import write_report
from tcs.reporting.comparison import compare_grids, names_of
from tcs.reporting.intervals import unpaired_difference
from tcs.reporting.results import load_runs


def runs_of(folder, rows):
    return load_runs(write_rows(folder, rows))


def kd_rows(values, **more):
    return [grid_row("vit", "kd", 4, seed, value, **more) for seed, value in enumerate(values)]


def test_shared_seeds_and_splits_are_paired(tmp_path):
    # 5 4 6 more: std 1, half 4.303 / sqrt 3 = 2.48; t = 5 sqrt 3 = 8.66, p = 0.013.
    first, second = runs_of(tmp_path / "a", kd_rows((50, 60, 40))), runs_of(tmp_path / "b", kd_rows((55, 64, 46)))
    found = compare_grids(first, second, ("a", "b"))
    cell = found.cells[0]
    assert (cell.is_paired, cell.difference.mean, cell.difference.n) == (True, 5, 3)
    assert cell.difference.half == pytest.approx(2.484, abs=1e-3)
    assert cell.p_holm == pytest.approx(0.0131, abs=1e-4)
    assert cell.is_clear
    assert found.summary == (
        "b against a: +5.0 points on average over 1 shared cells (all paired by seed and split); 1 are clearly better, 0 clearly worse, "
        "0 undecided."
    )


def test_other_splits_are_compared_by_welch_and_told(tmp_path):
    ours, theirs = (50.0, 60.0, 40.0), (58.0, 61.0, 57.0, 60.0)
    first = runs_of(tmp_path / "a", kd_rows(ours))
    second = runs_of(tmp_path / "b", [row | {"split_id": f"other{row['seed']}"} for row in kd_rows(theirs)])
    cell = compare_grids(first, second, ("a", "b")).cells[0]
    welch = stats.ttest_ind(theirs, ours, equal_var=False)
    low, high = welch.confidence_interval(0.95)
    assert not cell.is_paired
    assert cell.difference.p == pytest.approx(welch.pvalue)
    assert (cell.difference.mean - cell.difference.half, cell.difference.mean + cell.difference.half) == pytest.approx(
        (low, high)
    )
    text = write_report(tmp_path / "a", tmp_path / "c.md", tmp_path / "b").read_text()
    assert "0 paired by seed and split, the rest not" in text
    assert re.search(r"\| vit · kd · 4 shots · none \| 50\.0 .* \| no \|", text)


def test_two_samples_without_spread_or_of_one_value():
    assert unpaired_difference([], [1.0]) is None
    assert unpaired_difference([5.0], [1.0, 2.0]).half is None
    equal = unpaired_difference([5.0, 5.0], [4.0, 4.0])
    assert (equal.mean, equal.half, equal.p) == (1, 0, 0)


def test_two_seeds_are_never_clear(tmp_path):
    first, second = runs_of(tmp_path / "a", kd_rows((50, 60))), runs_of(tmp_path / "b", kd_rows((55, 65)))
    cell = compare_grids(first, second, ("a", "b")).cells[0]
    assert (cell.p_holm, cell.is_clear) == (0, False)


def test_p_values_of_all_cells_are_corrected_together(tmp_path):
    first = kd_rows((50, 60, 40)) + [grid_row("vit", "labels", 4, s, 30.0 + s) for s in range(3)]
    second = kd_rows((55, 64, 46)) + [grid_row("vit", "labels", 4, s, 31.0 + s * s) for s in range(3)]
    found = compare_grids(runs_of(tmp_path / "a", first), runs_of(tmp_path / "b", second), ("a", "b"))
    by_method = {cell.cell[2]: cell for cell in found.cells}
    assert by_method["kd"].p_holm == pytest.approx(2 * by_method["kd"].difference.p)


def test_other_test_images_are_refused(tmp_path):
    first, second = runs_of(tmp_path / "a", kd_rows((50, 60))), runs_of(tmp_path / "b", kd_rows((50, 60), test_id="t2"))
    with pytest.raises(
        ArtefactError, match=r"a was scored on test store t1 and b on t2; accuracies on other images are not compared\."
    ):
        compare_grids(first, second, ("a", "b"))


def test_grids_that_do_not_tell_their_test_store_need_the_same_training_store(tmp_path):
    first = runs_of(tmp_path / "a", kd_rows((50, 60), test_id=""))
    same = compare_grids(first, runs_of(tmp_path / "b", kd_rows((51, 61))), ("a", "b"))
    assert not same.test_known
    with pytest.raises(
        ArtefactError, match=r"a is of training store c1 and b of c9, and not both tell their test store; compare"
    ):
        compare_grids(first, runs_of(tmp_path / "c", kd_rows((51, 61), cache_id="c9")), ("a", "b"))


def test_grids_that_share_nothing_are_refused(tmp_path):
    first = runs_of(tmp_path / "a", kd_rows((50, 60)))
    with pytest.raises(
        ArtefactError, match=r"a and b share no data set, student, method, shots and pool with a result in both"
    ):
        compare_grids(first, runs_of(tmp_path / "b", kd_rows((50, 60), dataset="flowers")), ("a", "b"))


def test_what_they_differ_in_is_told(tmp_path):
    first, second = (
        runs_of(tmp_path / "a", kd_rows((50, 60))),
        runs_of(tmp_path / "b", kd_rows((50, 60), commit="beef", targets_id="t9")),
    )
    assert compare_grids(first, second, ("a", "b")).differences == {
        "commit": ("f00d", "beef"),
        "targets_id": ("not told", "t9"),
    }


def test_the_page_says_which_is_better_and_the_command_writes_it(tmp_path):
    first = write_rows(tmp_path / "one" / "grid", usual_rows())
    second = write_rows(
        tmp_path / "two" / "grid", [row | {"top1": row["top1"] + 2 + row["seed"] / 10} for row in usual_rows()]
    )
    result = CliRunner().invoke(command, [str(first), str(second), "--out", str(tmp_path / "c.html")])
    assert result.output == f"{tmp_path / 'c.html'}\n"
    text = (tmp_path / "c.html").read_text()
    assert "two/grid is better than one/grid in 8 of 8 shared cells, and clearly so." in text
    assert text.count("<svg") == 1
    with pytest.raises(ConfigError, match=r"c\.tex'; of two grids its name must end in \.md or \.html"):
        write_report(first, tmp_path / "c.tex", second)


def test_grids_are_named_by_what_tells_them_apart(tmp_path):
    assert names_of(tmp_path / "a", tmp_path / "b") == ("a", "b")
    assert names_of(tmp_path / "x" / "grid", tmp_path / "y" / "grid") == ("x/grid", "y/grid")
