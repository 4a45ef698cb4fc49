"""The benchmark of heads, once and small, so that it cannot rot. N rows of the pool, C classes."""

import argparse
import pathlib

import numpy as np
import pytest
from artefacts import make_store
from tables import read_rows

from benchmarks import heads


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    for part, seed in (("train", 0), ("test", 1)):
        make_store(folder / f"ants-{part}.store", rows=90, seed=seed, images="none")
    return folder / "ants"


def run(stores, out, *more):
    options = ("--shots", "1", "2", "--seeds", "2", "--estimators", "average", "ridge-em")
    heads.main(["table", str(stores), "--out", str(out), *options, *more])
    return read_rows(out)


def test_a_row_for_each_estimator_and_split_and_a_rerun_adds_none(stores, tmp_path, capsys):
    rows = run(stores, tmp_path / "heads.csv")
    assert len(rows) == 2 * 2 * 2
    assert {row["seed"] for row in rows} == {"0", "1"}
    for row in rows:
        assert (row["dataset"], row["teacher"], row["pool_n"], row["test_n"]) == ("ants", "made-up", "90", "90")
        assert float(row["top1"]) >= float(row["ridge_top1"]) - 1
        assert (row["checked"], row["fell_back"]) == ("True", "False")
    assert len(capsys.readouterr().out.splitlines()) == 8
    assert run(stores, tmp_path / "heads.csv") == rows
    assert capsys.readouterr().out == ""


def test_development_never_opens_the_test_store(stores, tmp_path):
    lonely = tmp_path / "ants"
    lonely.with_name("ants-train.store").symlink_to(stores.with_name("ants-train.store"))
    rows = run(lonely, tmp_path / "development.csv", "--development", "--unchecked")
    assert {row["seed"] for row in rows} == {"100", "101"}
    assert {(row["pool_n"], row["test_n"], row["checked"]) for row in rows} == {("68", "22", "False")}


@pytest.fixture(scope="module")
def data(stores):
    return heads.open_data(pathlib.Path(stores), argparse.Namespace(development=False, most=80))


def test_most_rows_of_a_pool_are_a_draw_of_the_training_rows(data):
    assert (len(data.train.keys), len(data.scored.keys), data.classes) == (80, 90, ("ant", "bee", "cow"))


def test_full_pool_holds_every_row_and_the_shots_have_their_labels(data):
    case = heads.make_case(data, "full", 2, 0)
    assert (len(case.z_NK), case.n_classes, sorted(case.labels_M)) == (80, 3, [0, 0, 1, 1, 2, 2])
    rows = {tuple(row) for row in np.round(case.z_NK, 4)}
    assert len(rows) == 80


def test_long_tail_keeps_one_in_twelve_of_the_rarest_class():
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 600)
    rows = heads.Rows(
        x_ND=generator.normal(size=(1800, 4)).astype(np.float32), keys=[f"{n}" for n in range(1800)], labels_N=labels
    )
    large = heads.Data(name="many", teacher="none", classes=("a", "b", "c"), train=rows, scored=rows)
    case = heads.make_case(large, "long-tail", 1, 3)
    assert len(case.z_NK) == pytest.approx(600 * (1 + 12**-0.5 + 1 / 12), rel=0.1)
    assert len(case.truth_T) == 1800


def test_unknown_classes_stay_in_the_pool_and_are_neither_labelled_nor_scored(data):
    case = heads.make_case(data, "unknown", 1, 0)
    assert (len(case.z_NK), case.n_classes, sorted(case.labels_M)) == (80, 2, [0, 1])
    assert len(case.truth_T) == 60
    assert set(case.truth_T) == {0, 1}


def test_two_classes_are_all_there_is(data):
    case = heads.make_case(data, "two", 2, 0)
    assert (case.n_classes, sorted(case.labels_M), len(case.truth_T)) == (2, [0, 0, 1, 1], 60)
    assert 80 - len(case.z_NK) in np.bincount(data.train.labels_N)


def test_absent_class_has_its_labelled_row_and_no_other(data):
    case = heads.make_case(data, "absent", 1, 0)
    count = np.bincount(data.train.labels_N).tolist()
    assert 80 - len(case.z_NK) + 1 in count
    assert (sorted(case.labels_M), len(case.truth_T)) == ([0, 1, 2], 90)


def test_speed_prints_seconds_and_memory(capsys):
    heads.main(["speed", "--rows", "300", "--dims", "16", "--components", "8", "--classes", "3"])
    line = capsys.readouterr().out
    assert "300 x 16 -> K=8, 3 classes, average" in line
    assert "most memory" in line
