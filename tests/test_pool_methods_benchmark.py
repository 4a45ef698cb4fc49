"""benchmarks/pool_methods.py, small: rows of two methods, none of whose scored images was in the run; a rerun adds nothing."""

import csv
import pathlib

import numpy as np
import pytest
from artefacts import make_store

from benchmarks import pool_methods
from tcs.training.data import open_data
from tcs.training.jobs import plan_jobs


def run(folder: pathlib.Path) -> list[dict[str, str]]:
    arguments = ["--methods", "labels", "pool + l2", "--shots", "2", "--seeds", "1", "--steps", "2"]
    pool_methods.main([str(folder / "made"), "--out", str(folder / "rows.csv"), *arguments])
    with (folder / "rows.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_are_written_once_and_scored_outside_the_pool(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "made-train.store", rows=120)
    monkeypatch.setattr(pool_methods, "STUDENT", "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)")
    scored = []
    plan = pool_methods.plan_jobs
    monkeypatch.setattr(
        pool_methods, "plan_jobs", lambda *given: (scored.append(plan(*given)[0].rows), plan(*given))[1]
    )
    rows = run(tmp_path)
    assert [(row["method"], row["seed"], row["scored_n"]) for row in rows] == [
        ("labels", "100", "30"),
        ("pool + l2", "100", "30"),
    ]
    assert [row["pool_n"] for row in rows] == ["6", "90"]
    assert np.array_equal(scored[0].held_out.rows_N, scored[1].held_out.rows_N)
    assert all(0 <= float(row["student_top1"]) <= 100 and float(row["teacher_spread_top1"]) > 90 for row in rows)
    assert run(tmp_path) == rows
    assert len(store) == 120


def test_every_method_of_the_benchmark_can_be_planned(tmp_path: pathlib.Path) -> None:
    make_store(tmp_path / "made-train.store", rows=120)
    parser = {"steps": 2, "lr": 1e-3, "most": 60}
    data = open_data(str(tmp_path / "made-train.store"), None)
    for options in pool_methods.METHODS.values():
        arguments = type("Arguments", (), parser)()
        config = pool_methods.config_of(data, "made", options, arguments, 2, 100, str(tmp_path))
        (job,) = plan_jobs(config, data)
        assert len(job.rows.rows_n) in (6, 66)
        assert config.seed == 100
