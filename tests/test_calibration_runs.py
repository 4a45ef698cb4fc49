"""Which runs give their student a temperature, and which labels they read for it. N images, C classes."""

import json
import pathlib

import numpy as np
import pytest
import torch
from artefacts import make_store
from finished import TEXT

import cache
import tcs
from tcs.calibration import fit_temperature
from tcs.evaluation.students import predict_rows
from tcs.inference.runs import card_of, load_student
from tcs.splits.held_out import held_out_rows


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return make_store(tmp_path_factory.mktemp("calibration") / "train.store", rows=240).path


def trained(store: pathlib.Path, out: pathlib.Path, **options: object) -> tuple[pathlib.Path, dict]:
    common = {"store": store, "models": (TEXT,), "steps": 4, "img_size": 16, "batch_size": 16, "out": out}
    (folder,) = tcs.train(tcs.TrainConfig(**common, **options))
    return folder, json.loads((folder / "config.json").read_text())


def test_a_temperature_is_fitted_on_labelled_held_out_rows(store: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder, record = trained(store, tmp_path / "run", held_out=110)
    opened = cache.open(store)
    all_N = np.arange(240)
    rows_N = held_out_rows(opened.keys, all_N, all_N, 110, 42, may_take_labelled=True).rows_N
    student = load_student(folder)
    logits_NC, _ = predict_rows(student, opened, rows_N, tcs.EvalConfig(run=tmp_path / "run", store=store))
    expected = fit_temperature(logits_NC, opened.labels_N[rows_N])
    assert record["calibration"]["temperature"] == pytest.approx(expected, rel=1e-3)  # before and after folding
    assert record["calibration"]["rows"] == 110
    assert set(record["calibration"]) == {"temperature", "rows", "before", "after"}
    assert card_of(student).temperature == record["calibration"]["temperature"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"held_out": 99}, "too few"),
        ({}, "none"),
        ({"shots": 2, "held_out": 110}, "labels outside the split are not the run's"),
        ({"loss": "l2", "head": "none", "held_out": 110}, "no classifier"),
    ],
)
def test_other_runs_have_none_and_look_at_no_label(
    store: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, options: dict, why: str
) -> None:
    def looked(*_: object) -> float:
        raise AssertionError(why)

    monkeypatch.setattr("tcs.training.calibration.fit_temperature", looked)
    folder, record = trained(store, tmp_path / "run", **options)
    assert record["calibration"] is None
    assert card_of(load_student(folder)).temperature is None


def test_weights_do_not_depend_on_it(
    store: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = trained(store, tmp_path / "one", held_out=110)
    monkeypatch.setattr("tcs.training.record.calibration_of", lambda *_: None)
    second, record = trained(store, tmp_path / "two", held_out=110)
    assert record["calibration"] is None
    states = [load_student(folder).model.state_dict() for folder in (first, second)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
