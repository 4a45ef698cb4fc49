"""The tables of the leaderboard's page: means of like with like, and the words of the report."""

import dataclasses
from typing import Any

import pytest
from tables import cells_of

from docs.pages import leaderboard
from tcs.reporting.results import TEACHER, Run

BLANK = Run(
    model="", method="", shots=4, seed="0", split_id="s", unlabelled="all", error="", top1=None, costs={}, origins={}
)


def row(model: str, method: str, top1: float | None, seed: str = "0", dataset: str = "a", **changes: Any) -> Run:
    return dataclasses.replace(BLANK, model=model, method=method, top1=top1, seed=seed, dataset=dataset, **changes)


ROWS = [
    row("m", "kd", 10.0),
    row("n", "kd", 30.0),
    row(TEACHER, "teacher-probe", 50.0),
    row("m", "kd", 20.0, seed="1"),
    row("n", "kd", 44.0, seed="1"),
    row("m", "kd", 99.0, seed="2"),  # n is not there yet
    row("m", "labels", 5.0),
    row("m", "kd", 60.0, dataset="b"),
    row("n", "kd", 61.0, dataset="b", seed="1"),
    row("m", "all-labels", 80.0, shots=0),
    row("n", "labels", None),
]


def lines_of(text: str) -> dict[str, list[str]]:
    return dict(map(cells_of, text.splitlines()))


def test_means_over_students_are_of_seeds_that_have_all_of_them() -> None:
    found = leaderboard.means_table(
        ROWS, down=lambda run: run.method, across=lambda run: run.dataset, over=lambda run: run.model
    )
    lines = lines_of(found)
    assert lines[""] == ["a", "b"]
    assert lines["kd"][0].startswith("26.0 ± ")  # of 20 and 32
    assert lines["kd"][0].endswith(" (2)")
    assert lines["kd"][1] == "-"
    assert lines["labels"] == ["-", "-"]  # of one of two students
    assert lines["teacher-probe"] == ["50.0 (1)", "-"]
    assert list(lines)[2] == "teacher-probe"  # above the students
    assert "all-labels" not in lines


@pytest.fixture(scope="module")
def parts() -> dict[str, str]:
    return leaderboard.leaderboard_parts()


def test_the_page_says_what_is_missing_and_who_won(parts: dict[str, str]) -> None:
    grid = leaderboard.open_leaderboard()
    verdict = parts["leaderboard-verdict"]
    assert grid.coverage.planned == 590
    assert ("This grid is partial" in verdict) == grid.coverage.partial
    assert "tcs-pool" in verdict
    assert "fixed beforehand" in verdict


def test_methods_stand_by_rank_with_their_gain_over_labels(parts: dict[str, str]) -> None:
    lines = lines_of(parts["leaderboard-methods"])
    ranks = [float(cells[0]) for name, cells in lines.items() if name.startswith("`")]
    assert ranks == sorted(ranks)
    assert lines["`labels`"][1:] == ["-", "-"]
    assert all(cells[1][0] in "+-" and " of " in cells[2] for name, cells in lines.items() if name == "`kd`")
