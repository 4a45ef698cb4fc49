"""Soft labels and logits of a run's rows: computed for a batch, they are those that are held. n rows, V views, B batch, C classes."""

import pathlib
from typing import Any

import numpy as np
import pytest
import torch
from artefacts import make_store
from torch import Tensor
from view_store import VIEWS, write_view_store

from tcs.config.train import TrainConfig
from tcs.distributed.collectives import ALONE
from tcs.training import head_rows
from tcs.training.data import open_data
from tcs.training.head_rows import Logits, SoftLabels, is_held
from tcs.training.jobs import plan_jobs
from tcs.training.loading import load_rows
from tcs.training.rows import TrainingRows
from tcs.training.soft_labels import pool_labels
from tcs.training.train import train
from tcs.training.views import cached_at

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"
CPU = torch.device("cpu")
CLOSE = 2e-5  # batches are computed in float32, of logits up to about 30


def config(folder: pathlib.Path, **options: Any) -> TrainConfig:
    defaults = {"store": str(folder / "train.store"), "out": str(folder / "run"), "models": (STUDENT,), "shots": 2}
    return TrainConfig.from_options(defaults | {"steps": 3, "batch_size": 16, "img_size": 16, "seed": 3} | options)


def loaded(chosen: TrainConfig, monkeypatch: pytest.MonkeyPatch, *, held: bool) -> TrainingRows:
    monkeypatch.setattr(head_rows, "is_held", lambda *_: held)
    data = open_data(chosen.store, None)
    job = plan_jobs(chosen, data)[0]
    return load_rows(job, data, CPU, pool_labels(job, data, ALONE))


@pytest.mark.parametrize(
    ("rows", "classes", "components", "held"),
    [
        (1_281_167, 1000, 128, False),
        (1_281_167, 100, 128, True),  # no more numbers than the coordinates have
        (50_000, 1000, 128, True),  # 200 MB
        (67_109, 1000, 128, False),
        (67_108, 1000, 128, True),
        (10, 1000, 1, True),
    ],
)
def test_few_numbers_are_held_and_many_computed(rows: int, classes: int, components: int, held: bool) -> None:
    assert is_held(rows, classes, components) is held


def test_soft_labels_of_a_batch_are_those_that_are_held(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_store(tmp_path / "train.store")
    chosen = config(tmp_path, method="tcs-pool")
    held, computed = (loaded(chosen, monkeypatch, held=held).pool_labels_nC for held in (True, False))
    assert isinstance(held, Tensor)
    assert isinstance(computed, SoftLabels)
    place_B = torch.tensor([5, 5, 0, 59, 31, *range(60)])
    found_BC = computed.at(place_B, None)
    assert found_BC.dtype == torch.float32
    np.testing.assert_allclose(found_BC, held[place_B], atol=CLOSE)
    labelled_m = torch.nonzero(computed.labels_n >= 0).flatten()
    assert len(labelled_m) == 6
    assert torch.equal(computed.at(labelled_m, None), held[labelled_m])  # one class each, to the bit


def test_of_several_views_the_one_that_is_shown_is_computed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_view_store(tmp_path / "train.store")
    chosen = config(tmp_path, method="tcs-pool")
    held, computed = (loaded(chosen, monkeypatch, held=held).pool_labels_nC for held in (True, False))
    assert isinstance(held, Tensor)
    assert isinstance(computed, SoftLabels)
    assert held.shape[1] == VIEWS
    place_B, view_B = torch.tensor([3, 3, 17]), torch.tensor([2, 0, 1])
    np.testing.assert_allclose(computed.at(place_B, view_B), cached_at(held, place_B, view_B), atol=CLOSE)


@pytest.mark.parametrize("head", ["logistic", "ridge", "transductive"])
def test_logits_of_a_batch_are_those_that_are_held_and_unknown_classes_have_the_smallest(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, head: str
) -> None:
    make_store(tmp_path / "train.store")
    chosen = config(tmp_path, loss="kd", probe_head=head)
    held, computed = (loaded(chosen, monkeypatch, held=held).teacher_logits_nC for held in (True, False))
    assert isinstance(held, Tensor)
    assert isinstance(computed, Logits)
    place_B = torch.arange(60)
    np.testing.assert_allclose(computed.at(place_B, None), held, rtol=1e-5, atol=1e-5)
    computed.head.bias_C[1] = -torch.inf
    found_BC = computed.at(place_B, None)
    assert torch.equal(found_BC[:, 1], found_BC[:, [0, 2]].amin(1))


@pytest.mark.parametrize(("shots", "is_told"), [(1, True), (2, False)])
def test_it_is_said_where_the_logistic_probe_cannot_choose_its_penalty(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], shots: int, is_told: bool
) -> None:
    make_store(tmp_path / "train.store")
    for head in ("logistic", "ridge"):
        chosen = config(tmp_path, loss="kd", probe_head=head, shots=shots, out=str(tmp_path / head))
        data = open_data(chosen.store, None)
        job = plan_jobs(chosen, data)[0]
        load_rows(job, data, CPU, pool_labels(job, data, ALONE))
        told = "its logits are nearly flat: --probe-head ridge or transductive teaches more" in capsys.readouterr().err
        assert told == (is_told and head == "logistic")


def test_a_run_that_computes_them_ends_where_one_that_holds_them_does(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    make_store(tmp_path / "train.store")
    weights = []
    for held in (True, False):
        monkeypatch.setattr(head_rows, "is_held", lambda *_, held=held: held)
        (path,) = train(config(tmp_path, method="tcs-pool", out=str(tmp_path / f"{held}")))
        weights.append(load_file(path / "folded.safetensors"))
    assert all(torch.allclose(weights[0][key], weights[1][key], rtol=1e-3, atol=1e-4) for key in weights[0])
