"""A report of a partial grid says so in its first line, and so does one whose test images were seen in training."""

import pytest
from grid_folders import grid_row, usual_rows, write_rows, write_states

from tcs.grid.reported import write_report
from tcs.reporting.coverage import cover, coverage_sentence, load_states, overlap_sentence
from tcs.reporting.results import load_runs

KEYS = [("", "vit", method, "1", str(seed), "none") for method in ("kd", "labels") for seed in (0, 1, 2)]


def runs_of(folder, rows):
    return load_runs(write_rows(folder, rows))


def test_cells_are_told_apart_by_what_became_of_them(tmp_path):
    rows = [
        grid_row("vit", "kd", 1, 0, 50.0),
        grid_row("vit", "kd", 1, 1, "", status="failed", error="no memory"),
        grid_row("vit", "labels", 1, 0, 40.0),
    ]
    found = cover(runs_of(tmp_path, rows), KEYS, {KEYS[2]: "running", KEYS[4]: "failed", KEYS[0]: "done"})
    assert (found.planned, found.done, found.partial) == (6, 2, True)
    assert (found.failed, found.begun, found.missing) == ((KEYS[1], KEYS[4]), (KEYS[2],), (KEYS[5],))
    assert coverage_sentence(found) == (
        "This grid is partial: 2 of 6 planned cells have a result; 2 failed, 1 begun and not finished (killed, or run elsewhere), 1 not "
        "begun (kd: 2, labels: 2). Every mean below is of what is there."
    )


def test_a_cell_that_runs_now_is_told_from_one_that_was_killed(tmp_path):
    rows = [grid_row("vit", "kd", 1, 0, 50.0)]
    states = {KEYS[1]: "running", KEYS[2]: "running"}
    found = cover(runs_of(tmp_path, rows), KEYS[:3], states, frozenset({KEYS[0], KEYS[2]}))
    assert "1 running now, 1 begun and not finished (killed, or run elsewhere) (kd: 2)" in coverage_sentence(found)


def test_a_failed_cell_that_runs_again_is_begun(tmp_path):
    rows = [grid_row("vit", "kd", 1, 0, 50.0), grid_row("vit", "kd", 1, 1, "", status="failed", error="x")]
    found = cover(runs_of(tmp_path, rows), KEYS[:2], {KEYS[1]: "running"})
    assert (found.failed, found.begun) == ((), (KEYS[1],))


def test_a_whole_grid_says_nothing(tmp_path):
    rows = [grid_row("vit", "kd", 1, seed, 50.0) for seed in (0, 1, 2)]
    found = cover(runs_of(tmp_path, rows), KEYS[:3], {})
    assert coverage_sentence(found) == ""
    assert not found.partial


def test_without_a_plan_nothing_is_missing_but_what_failed_is(tmp_path):
    rows = [grid_row("vit", "kd", 1, 0, 50.0), grid_row("vit", "kd", 1, 1, "", status="failed", error="x")]
    found = cover(runs_of(tmp_path, rows), None, {})
    assert (found.planned, found.missing, len(found.failed)) == (None, (), 1)
    assert coverage_sentence(found).startswith("This grid is partial: 1 cell has a result; 1 failed")


def test_the_last_line_of_a_cell_is_its_state_and_a_torn_one_is_passed_over(tmp_path):
    write_states(tmp_path, [(KEYS[0], "running"), (KEYS[1], "running"), (KEYS[0], "done")], torn='{"key": ["", "vi')
    assert load_states(tmp_path) == {KEYS[0]: "done", KEYS[1]: "running"}
    assert load_states(tmp_path / "nowhere") == {}


@pytest.mark.parametrize("name", ["report.md", "report.html", "report.tex"])
def test_every_report_says_it_before_any_number(tmp_path, name):
    rows = usual_rows(seeds=2)
    rows[0] |= {"status": "failed", "error": "x", "top1": ""}
    text = write_report(write_rows(tmp_path / "grid", rows), tmp_path / name).read_text()
    at = text.index("This grid is partial: 15 cells have a result; 1 failed (labels: 1)")
    assert at < text.index("55.5")


def test_copies_of_training_rows_are_told_with_the_accuracy_without_them(tmp_path):
    rows = [
        grid_row("vit", "kd", 1, 0, 50.0, overlap=12, top1_clean=49.5),
        grid_row("vit", "kd", 1, 1, 52.0, overlap=3, top1_clean=52.1),
        grid_row("vit", "kd", 1, 2, 51.0, overlap=0, top1_clean=51.0),
    ]
    assert overlap_sentence(runs_of(tmp_path, rows)) == (
        "In 2 of 3 rows test images are copies of training rows, up to 12 of them. Without them top-1 is 0.20 points lower on average "
        "(-0.50 to +0.10 points)."
    )
    assert overlap_sentence(runs_of(tmp_path, [row | {"overlap": 0} for row in rows])) == ""
    near = overlap_sentence(runs_of(tmp_path, [row | {"near_overlap": 7} for row in rows]))
    assert near.startswith(
        "In 3 of 3 rows test images are copies of training rows, up to 12 of them, and up to 7 near copies. Without"
    )
    assert overlap_sentence(runs_of(tmp_path, [row | {"overlap": "", "top1_clean": ""} for row in rows])) == ""
