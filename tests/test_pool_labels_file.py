"""The file of a run's spread labels: written once and whole, read by who comes later, refused where it is another's."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
import yaml
from artefacts import make_store
from crews import at_once, crew
from safetensors.torch import load_file

import cache
from tcs.config.evaluate import FewshotConfig
from tcs.config.train import TrainConfig
from tcs.distributed.collectives import Collectives
from tcs.errors import ArtefactError
from tcs.grid.run import fewshot
from tcs.pool_labels.spread import PoolLabels
from tcs.pool_labels.stored import load_pool_labels, pool_labels_path, save_pool_labels
from tcs.training import soft_labels
from tcs.training.data import open_data
from tcs.training.feed import Batch, Feed
from tcs.training.jobs import plan_jobs
from tcs.training.train import train
from tcs.training.trainer import Trainer

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"
OTHER = f"{STUDENT},act_layer=gelu"
IDENTITY = {"store": "abc", "options": {"seed": 1, "prior": [0.5, 0.5]}}


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    make_store(tmp_path / "train.store")
    return tmp_path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The estimators of every call of `spread_labels`."""
    found: list[str] = []
    spread: Callable[..., PoolLabels] = soft_labels.spread_labels

    def counted(*given: Any) -> PoolLabels:
        found.append(given[-1].estimator)
        return spread(*given)

    monkeypatch.setattr(soft_labels, "spread_labels", counted)
    return found


def config(folder: pathlib.Path, **options: Any) -> TrainConfig:
    defaults = {"store": str(folder / "train.store"), "out": str(folder / "run"), "models": (STUDENT,), "shots": 2}
    defaults |= {"steps": 4, "batch_size": 16, "img_size": 16, "seed": 3}
    return TrainConfig.from_options(defaults | options)


def labels(reason: str | None = None) -> PoolLabels:
    return PoolLabels(
        weight_CK=np.arange(6.0).reshape(2, 3),
        bias_C=np.array([0.5, -np.inf]),
        sharpness=2.5,
        labelled_M=np.array([1, 4]),
        labels_M=np.array([0, 1]),
        estimator="average",
        reason=reason,
    )


def files(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("reason", [None, "nothing to spread to"])
def test_what_is_read_is_what_was_written(tmp_path: pathlib.Path, reason: str | None) -> None:
    path = pool_labels_path(tmp_path / "labels", IDENTITY)
    save_pool_labels(path, labels(reason), IDENTITY)
    found, wrote = load_pool_labels(path, IDENTITY), labels(reason)
    for name in ("weight_CK", "bias_C", "labelled_M", "labels_M"):
        assert np.array_equal(getattr(found, name), getattr(wrote, name))
        assert getattr(found, name).dtype == getattr(wrote, name).dtype
    assert (found.sharpness, found.estimator, found.reason) == (2.5, "average", reason)
    assert files(path.parent) == [path.name]
    assert path != pool_labels_path(tmp_path / "labels", IDENTITY | {"store": "abd"})


def rewritten(path: pathlib.Path, **metadata: str) -> None:
    """The file with other words in its metadata."""
    with safetensors.safe_open(str(path), framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in ("weight_CK", "bias_C", "labelled_M", "labels_M")}
    path.write_bytes(safetensors.numpy.save(arrays, metadata))


HEADER = {"format": "tcs-pool-labels", "format_version": 1, "identity": IDENTITY}


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({}, r"is no file of pool labels \(format 'unknown'\); delete it, and it is made again"),
        ({"format": "tcs-coordinates"}, r"is no file of pool labels \(format 'tcs-coordinates'\); delete it"),
        (
            HEADER | {"format_version": 2},
            r"has format version 2, this release reads 1; delete it, and it is made again, or",
        ),
        (HEADER | {"identity": IDENTITY | {"store": "xyz"}}, r"was made with store xyz, this run has abc; delete it"),
        (HEADER | {"identity": {"store": "abc"}}, r"was made with options None, this run has {'seed': 1"),
        (HEADER, r"is damaged or no file of pool labels \('sharpness'\); delete it"),
        ([], r"is damaged or no file of pool labels \(.*'list' object .*\); delete it, and it is made again"),
    ],
)
def test_a_file_of_another_format_or_identity_is_refused_by_name(
    tmp_path: pathlib.Path, facts: object, message: str
) -> None:
    path = tmp_path / "labels.safetensors"
    save_pool_labels(path, labels(), IDENTITY)
    rewritten(path, facts=json.dumps(facts))
    with pytest.raises(ArtefactError, match=rf"labels\.safetensors {message}"):
        load_pool_labels(path, IDENTITY)


def test_a_missing_or_broken_file_is_refused_by_name(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ArtefactError, match=r"there are no pool labels at .*gone; all processes of a run must see one"):
        load_pool_labels(tmp_path / "gone", IDENTITY)
    (tmp_path / "broken").write_bytes(b"no safetensors")
    with pytest.raises(ArtefactError, match=r"broken is damaged or no file of pool labels"):
        load_pool_labels(tmp_path / "broken", IDENTITY)


def test_labels_are_spread_once_for_all_students_of_a_folder(folder: pathlib.Path, calls: list[str]) -> None:
    train(config(folder, models=(STUDENT, OTHER)))
    assert calls == ["average"]
    (name,) = files(folder / "run" / "pool-labels")
    train(config(folder, models=(STUDENT, OTHER, "test_vit,img_size=16")))
    assert calls == ["average"]
    train(config(folder, overwrite=True))  # made anew, to the same bits
    assert calls == ["average"] * 2
    assert files(folder / "run" / "pool-labels") == [name]
    train(config(folder, models=(f"{STUDENT},drop_rate=0.1",), shots=3))
    assert calls == ["average"] * 3
    assert len(files(folder / "run" / "pool-labels")) == 2


def test_a_run_cut_short_reads_the_file_and_ends_with_the_same_weights(
    folder: pathlib.Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (whole,) = train(config(folder, out=str(folder / "whole")))
    step = Trainer.train_step

    def cut(self: Trainer, feed: Feed, batch: Batch) -> None:
        if self.step == 2:
            raise KeyboardInterrupt
        step(self, feed, batch)

    monkeypatch.setattr(Trainer, "train_step", cut)
    with pytest.raises(KeyboardInterrupt):
        train(config(folder, checkpoint_every=1))
    monkeypatch.setattr(Trainer, "train_step", step)
    (path,) = train(config(folder, checkpoint_every=1))
    assert calls == ["average"] * 2  # one a folder
    first, second = (load_file(run / "last.safetensors") for run in (whole, path))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_file_of_another_identity_stops_the_run(folder: pathlib.Path) -> None:
    train(config(folder))
    (path,) = (folder / "run" / "pool-labels").iterdir()
    with safetensors.safe_open(str(path), framework="numpy") as file:
        facts = json.loads(file.metadata()["facts"])
    facts["identity"]["split"] = "another"
    rewritten(path, facts=json.dumps(facts))
    with pytest.raises(ArtefactError, match=r"was made with split another, this run has .*; delete it, and it is made"):
        train(config(folder, models=(OTHER,)))


def test_a_killed_write_leaves_a_folder_that_is_still_a_runs(folder: pathlib.Path) -> None:
    left = folder / "run" / "pool-labels"
    left.mkdir(parents=True)
    (left / "0123.safetensors.77.partial").write_bytes(b"half")
    assert train(config(folder))[0].exists()
    (left / "notes.txt").write_text("mine")
    with pytest.raises(ArtefactError, match=r"holds 'pool-labels', which no run made; give an empty or new folder"):
        train(config(folder, models=(OTHER,)))


def test_of_several_ranks_one_spreads_and_all_read(folder: pathlib.Path, calls: list[str]) -> None:
    chosen = config(folder)

    def read(ranks: Collectives) -> PoolLabels:
        data = open_data(chosen.store, None)
        return soft_labels.pool_labels(plan_jobs(chosen, data)[0], data, ranks)["pool"]

    ranks = [Collectives(one, torch.device("cpu")) for one in crew(3)]
    found = at_once(*(lambda one=one: read(one) for one in ranks))
    assert calls == ["average"]
    assert [head.weight_CK.tobytes() for head in found] == [found[0].weight_CK.tobytes()] * 3


def test_cells_of_a_grid_share_the_files_of_its_folder(folder: pathlib.Path, calls: list[str]) -> None:
    make_store(folder / "test.store", seed=9, rows=30)
    recipe = {
        "train": str(folder / "train.store"),
        "test": str(folder / "test.store"),
        "students": [STUDENT, OTHER],
        "methods": [
            "tcs-pool",
            "pool-labels",
            {"loss": "kd", "probe_head": "transductive", "label": "kd-pool"},
            "labels",
        ],
        "shots": [1, 2],
        "seeds": [0],
        "unlabelled": ["all"],
        "references": [],
        "options": {"img_size": 16, "steps": 2, "batch_size": 16, "hflip": 0.0},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert fewshot(FewshotConfig(recipe=str(folder / "recipe.yaml"), out=str(folder / "grid"))) == 0
    assert calls == ["average"] * 2  # one a split, for two students and three methods
    assert len(files(folder / "grid" / "pool-labels")) == 2
    assert not list((folder / "grid" / "runs").glob("*/pool-labels"))
    assert cache.open(folder / "train.store").identity in (folder / "grid" / "ledger.json").read_text()
