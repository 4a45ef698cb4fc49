"""The benchmark of several teachers, once and small, so that it cannot rot."""

import pathlib

import pytest
from artefacts import make_store
from tables import read_rows
from teachers_beside import write_beside

from benchmarks import several_teachers


@pytest.mark.parametrize("options", [(), ("--development",)])
def test_a_row_for_each_teacher_for_all_and_for_their_average(tmp_path: pathlib.Path, options: tuple[str, ...]) -> None:
    for part, seed in (("train", 0), ("test", 1)):
        store = make_store(tmp_path / f"ants-{part}.store", rows=90, seed=seed)
        write_beside(tmp_path / f"bees-{part}.store", store)
    given = [
        str(tmp_path / "ants"),
        str(tmp_path / "bees"),
        "--out",
        str(tmp_path / "out.csv"),
        "--shots",
        "2",
        "--seeds",
        "2",
    ]
    several_teachers.main([*given, *options])
    rows = read_rows(tmp_path / "out.csv")
    assert [row["teachers"] for row in rows] == ["ants", "bees", "ants+bees", "averaged"] * 2
    assert {row["seed"] for row in rows} == ({"100", "101"} if options else {"0", "1"})
    assert {(row["pool_n"], row["test_n"]) for row in rows} == {("68", "22") if options else ("90", "90")}
    assert all(float(row["top1"]) > 50 for row in rows)
    several_teachers.main([*given, *options])
    assert read_rows(tmp_path / "out.csv") == rows
