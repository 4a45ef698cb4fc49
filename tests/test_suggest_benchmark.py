"""The benchmark of suggested labels, once and small, so that it cannot rot."""

import csv

import pytest
from artefacts import make_store

from benchmarks import suggest


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    for part, seed in (("train", 0), ("test", 1)):
        make_store(folder / f"ants-{part}.store", rows=60, seed=seed, images="none")
    return folder / "ants"


def run(stores, out, *more):
    suggest.main(["table", str(stores), "--out", str(out), "--seeds", "1", "--budgets", "3", "6", *more])
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_for_each_chooser_and_budget_and_a_rerun_adds_none(stores, tmp_path, capsys):
    rows = run(stores, tmp_path / "new" / "results.csv")
    assert [(row["chooser"], row["n"]) for row in rows] == [
        ("random", "3"), ("random", "6"), ("suggest", "3"), ("suggest", "6")
    ]  # fmt: skip
    assert {(row["pool_n"], row["test_n"], row["seed"]) for row in rows} == {("60", "60", "0")}
    assert [row["classes"] for row in rows[2:]] == ["3", "3"]
    assert min(float(row["transductive_top1"]) for row in rows[2:]) > 90
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert run(stores, tmp_path / "new" / "results.csv") == rows
    assert capsys.readouterr().out == ""


def test_development_never_opens_the_test_store(stores, tmp_path):
    lonely = tmp_path / "ants"
    lonely.with_name("ants-train.store").symlink_to(stores.with_name("ants-train.store"))
    rows = run(lonely, tmp_path / "development.csv", "--development")
    assert {(row["seed"], row["pool_n"], row["test_n"]) for row in rows} == {("100", "45", "15")}


def test_speed_prints_seconds_and_memory(capsys):
    suggest.main(["speed", "--rows", "200", "--dims", "8", "--n", "4", "--classes", "2"])
    line = capsys.readouterr().out
    assert line.startswith("200 x 8, n=4: points ")
    assert "with 4 labels" in line
    assert "most memory" in line
