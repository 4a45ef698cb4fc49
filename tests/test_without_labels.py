"""`tcs train` without labels: stores that have none, labelled ones whose labels are left alone, and what cannot go so."""

import json
import pathlib
from typing import Any

import pytest
import timm
import torch
from artefacts import make_store, make_targets
from safetensors.torch import load_file

from tcs.cli import main
from tcs.config.evaluate import FewshotConfig
from tcs.config.train import TrainConfig
from tcs.errors import ConfigError, DataError
from tcs.grid.run import fewshot
from tcs.training.feed import Batch, Feed
from tcs.training.metrics import load_metrics
from tcs.training.train import train
from tcs.training.trainer import Trainer

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    make_store(tmp_path / "bare.store", labelled=False)
    make_targets(tmp_path, "bare.store")
    return tmp_path


def config(folder: pathlib.Path, **options: Any) -> TrainConfig:
    defaults = {
        "store": str(folder / "bare.store"),
        "targets": str(folder / "pca.h5"),
        "out": str(folder / "run"),
        "models": (STUDENT,),
        "steps": 6,
        "batch_size": 16,
        "img_size": 16,
        "seed": 3,
    }
    return TrainConfig.from_options(defaults | options)


def headless(path: pathlib.Path) -> torch.nn.Module:
    """timm's own model without a classifier, with the exported weights."""
    model = timm.create_model("resnet18", num_classes=0, layers=(1, 1, 1, 1), channels=(4, 4, 8, 8))
    model.load_state_dict(load_file(path / "folded.safetensors"))
    return model.eval()


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "l2"},
        {"loss": "elsh"},
        {"loss": "0.5*l2 + elsh + rkd"},
        {"loss": "projector", "targets": None},
        {"loss": "queue-kl", "targets": None, "head": "none"},
        {"loss": "crd", "targets": None},
        {"method": "tcs-mimic"},
    ],
    ids=lambda options: options.get("loss") or options["method"],
)
def test_a_store_without_labels_gives_a_headless_timm_model(folder: pathlib.Path, options: dict[str, Any]) -> None:
    (path,) = train(config(folder, **options))
    record = json.loads((path / "config.json").read_text())
    assert (record["state"], record["classes"], record["rows"]["labelled"]) == ("finished", [], 0)
    exported, last = headless(path).state_dict(), load_file(path / "last.safetensors")
    trained = {key.removeprefix("backbone."): value for key, value in last.items() if key.startswith("backbone.")}
    assert exported.keys() == trained.keys()
    assert all(torch.equal(exported[key], trained[key]) for key in exported)
    assert ("projection.weight" in last) == (options.get("targets", "") is not None)
    assert len(load_metrics(path / "metrics.jsonl")) == 6


@pytest.mark.parametrize("loss", ["vid", "at", "sp"])
def test_maps_need_no_labels(tmp_path: pathlib.Path, loss: str) -> None:
    make_store(tmp_path / "bare.store", labelled=False, grid=(2, 2), rows=24)
    (path,) = train(config(tmp_path, loss=loss, targets=None, img_size=64, steps=2, batch_size=8))
    assert f"loss_{loss}" in load_metrics(path / "metrics.jsonl")[0]


@pytest.mark.parametrize("loss", ["l2 + elsh", "queue-kl"])
def test_labels_that_are_there_are_not_read(folder: pathlib.Path, loss: str) -> None:
    (bare,) = train(config(folder, loss=loss))
    other = folder / "labelled"
    make_store(other / "train.store")
    here = {"store": str(other / "train.store"), "targets": str(make_targets(other)), "out": str(other / "run")}
    (path,) = train(config(folder, loss=loss, **here))
    assert json.loads((path / "config.json").read_text())["classes"] == []
    first, second = load_file(bare / "last.safetensors"), load_file(path / "last.safetensors")
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_run_cut_short_resumes_to_the_same_weights(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (whole,) = train(config(folder, loss="l2 + queue-kl", out=str(folder / "whole")))
    step = Trainer.train_step

    def cut(self: Trainer, feed: Feed, batch: Batch) -> None:
        if self.step == 5:
            raise KeyboardInterrupt
        step(self, feed, batch)

    with monkeypatch.context() as patch:
        patch.setattr("tcs.training.trainer.Trainer.train_step", cut)
        with pytest.raises(KeyboardInterrupt):
            train(config(folder, loss="l2 + queue-kl", checkpoint_every=2))
    (resumed,) = train(config(folder, loss="l2 + queue-kl", checkpoint_every=2))
    first, second = load_file(whole / "last.safetensors"), load_file(resumed / "last.safetensors")
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("labelled", [False, True])
def test_pool_rows_are_held_out_and_never_scored_by_labels(tmp_path: pathlib.Path, labelled: bool) -> None:
    make_store(tmp_path / "bare.store", labelled=labelled)
    (path,) = train(config(tmp_path, loss="projector", targets=None, held_out=20))
    assert json.loads((path / "config.json").read_text())["rows"] == {"labelled": 0, "all": 40, "held_out": 20}
    (*_, last) = load_metrics(path / "metrics.jsonl")
    assert 0 < last["held_out_r2"] <= 1
    assert "held_out_knn_top1" not in last


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"loss": "ce + l2"}, "--loss 'ce \\+ l2'"),
        ({"loss": "l2", "head": "tcs"}, "--loss 'l2'"),
        ({"method": "labels", "targets": None}, "--method labels"),
        ({}, "--method tcs-pool"),
        ({"targets": None}, "--method tcs-pool"),
        ({"loss": "ce + kd"}, "--loss 'ce \\+ kd'"),
        ({"method": "tcs", "shots": 4}, "--method tcs"),
    ],
)
def test_what_reads_labels_is_refused_where_there_are_none(
    folder: pathlib.Path, options: dict[str, Any], name: str
) -> None:
    message = rf"{name} reads labels, and none of the 60 rows of .*bare.store has a label; extract .*--method tcs-mimic"
    with pytest.raises(DataError, match=message):
        train(config(folder, **options))
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "tcs-mimic", "shots": 4}, "--shots is 4, and --method tcs-mimic trains no classifier and reads no"),
        ({"loss": "l2", "head": "none", "split_file": "s.txt"}, "--split-file is s.txt, and --loss 'l2' trains no"),
        ({"loss": "l2", "selection": "ridge"}, "--selection is ridge, .*; leave it out, or add ce to the loss"),
        ({"loss": "l2", "labelled_share": 0.5}, "--labelled-share is 0.5, and --loss 'l2' trains no classifier"),
        ({"loss": "l2", "unlabelled": "none"}, "--unlabelled is none, and --loss 'l2' reads unlabelled rows only"),
        ({"loss": "l2", "unlabelled": "0"}, "--unlabelled is 0, and --loss 'l2' reads unlabelled rows only"),
        ({"loss": "l2", "smoothing": 0.1}, "--smoothing is 0.1, and no loss of the run is ce"),
        ({"loss": "elsh", "targets": None}, "reads cached bits; run tcs fit .*tcs targets"),
    ],
)
def test_options_of_labels_are_refused_where_none_is_read(
    folder: pathlib.Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(config(folder, **options))


def command_line(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(options))
    output = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, output.out, output.err


def test_the_command_line_says_what_to_do_without_labels(
    folder: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["train", str(folder / "bare.store"), "--model", STUDENT, "--steps", "2", "-b", "8", "--img-size", "16"]
    run += ["--targets", str(folder / "pca.h5"), "--out", str(folder / "run")]
    code, out, err = command_line(capsys, *run, "--loss", "ce + l2")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("Error: --loss 'ce + l2' reads labels, and none of the 60 rows of ")
    assert err.endswith("train without labels: --method tcs-mimic, or a --loss that trains no classifier.\n")
    code, out, _ = command_line(capsys, *run, "--method", "tcs-mimic")
    assert code == 0
    assert headless(pathlib.Path(out.strip()).parent)
    assert command_line(capsys, *run, "--head", "none", "--loss", "elsh", "--out", str(folder / "other"))[0] == 0


@pytest.mark.parametrize("entry", ["tcs-mimic", {"head": "none", "loss": "l2"}])
def test_a_grid_takes_no_student_without_a_classifier(tmp_path: pathlib.Path, entry: Any) -> None:
    recipe = {
        "train": "x.store",
        "test": "y.store",
        "students": [STUDENT],
        "methods": [entry],
        "shots": [1],
        "seeds": [0],
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    with pytest.raises(ConfigError, match="trains no classifier, and a grid scores classifiers; use tcs-probe"):
        fewshot(FewshotConfig(recipe=str(tmp_path / "recipe.yaml"), out=str(tmp_path / "grid")))
