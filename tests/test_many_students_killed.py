"""Runs of many students that are killed, at moments that leave them unequally far: the rerun gives the files of a whole run."""

import importlib
import os
import pathlib
import signal
from typing import Any

import pytest
import torch
from artefacts import make_store, make_targets
from forks import forked, in_process, tcs_command
from together import CNN, THREE, VIT, config, diverging, killed_at, record, result

from tcs.errors import DivergedError
from tcs.training.train import train

OPTIONS: dict[str, Any] = {"method": "tcs", "selection": "gates", "keep": 3, "model_ema": True, "steps": 12}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("killed")
    make_store(folder / "train.store")
    make_targets(folder)
    return folder


@pytest.fixture(scope="module")
def whole(data: pathlib.Path) -> list[dict[str, Any]]:
    return [result(path) for path in train(config(data, out=str(data / "whole"), **OPTIONS))]


def train_until_killed(data: pathlib.Path, out: str, module: str, name: str, count: int, before: bool) -> None:
    place = importlib.import_module(f"tcs.training.{module}")
    setattr(place, name, killed_at(count, getattr(place, name), before=before))
    train(config(data, out=out, **OPTIONS))


@pytest.mark.parametrize(
    ("module", "name", "count", "before", "left"),
    [
        # Which files lie in the three folders then. States are saved after steps 4 and 8, one student after the other.
        ("record", "save_record", 2, True, ["config.json", "", None]),
        ("loop", "save_resume", 1, False, ["config.json resume.pt", "config.json", "config.json"]),
        ("loop", "save_resume", 5, True, ["config.json resume.pt"] * 3),
        ("loop", "save_resume", 6, False, ["config.json resume.pt"] * 3),
        ("record", "save_weights", 5, False, ["finished", "config.json resume.pt last.safetensors", ""]),
        ("stream", "save_student", 2, False, ["finished", "finished", "config.json resume.pt"]),
    ],
)
def test_a_killed_run_ends_as_an_uninterrupted_one(
    data: pathlib.Path,
    whole: list[dict[str, Any]],
    tmp_path: pathlib.Path,
    module: str,
    name: str,
    count: int,
    before: bool,
    left: list[str | None],
) -> None:
    ours = config(data, out=str(tmp_path / "run"), **OPTIONS)
    assert in_process(train_until_killed, data, ours.out, module, name, count, before)[0] == -signal.SIGKILL
    for folder, names in zip(folders(tmp_path / "run"), left, strict=True):
        assert folder.exists() == (names is not None)
        if names == "finished":
            assert record(folder)["state"] == "finished"
        elif names is not None:
            assert all((folder / entry).exists() for entry in names.split())
    torch.manual_seed(999)
    assert [result(path) for path in train(ours)] == whole


def folders(run: pathlib.Path) -> list[pathlib.Path]:
    """The folders of the three students, by the names they are documented to have."""
    return [
        run / "resnet18-layers-1-1-1-1-channels-4-4-8-8-drop_path_rate-0.3",
        run / "vit_tiny_patch16_224-img_size-16-patch_size-8-embed_dim-16-depth-1-num_heads-2-proj_drop_rate-0.2",
        run / "cifar_resnet8",
    ]


def test_sigterm_saves_every_student_and_exits(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    line = ["train", str(data / "train.store"), "--out", str(tmp_path / "run"), "--method", "labels", "--shots", "4"]
    line += [*(part for model in THREE for part in ("--model", model)), "--img-size", "16", "--batch-size", "12"]
    line += ["--seed", "3", "--log-interval", "1", "--steps"]
    metrics = [folder / "metrics.jsonl" for folder in folders(tmp_path / "run")]
    with forked(tmp_path / "said", tcs_command, *line, "100000") as child:
        child.until(lambda: all(path.exists() and path.stat().st_size for path in metrics))
        child.send(signal.SIGTERM)
        assert child.ended() == 143
        assert "Traceback" not in child.stderr
    steps = [torch.load(path / "resume.pt", weights_only=True)["step"] for path in folders(tmp_path / "run")]
    assert steps == [len(path.read_text().splitlines()) for path in metrics]
    assert steps == [steps[0]] * 3


def test_a_stop_leaves_the_older_state_of_a_student_that_has_failed(
    data: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its failed step has been through batch normalisation: a state after it would not be that of any step."""
    options = {"models": (CNN, VIT), "method": "labels"}
    whole_ones = [result(path) for path in train(config(data, out=str(tmp_path / "whole"), **options))]
    ours = config(data, out=str(tmp_path / "run"), **options)
    poison = diverging(CNN, 6)

    def train_step(self: Any, feed: Any, batch: Any) -> None:
        if self.job.name == VIT and batch.step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        poison(self, feed, batch)

    with monkeypatch.context() as patch:
        patch.setattr("tcs.training.trainer.Trainer.train_step", train_step)
        with pytest.raises(SystemExit, match="143"):
            train(ours)
    cnn, vit, _ = folders(tmp_path / "run")
    assert [torch.load(path / "resume.pt", weights_only=True)["step"] for path in (cnn, vit)] == [4, 7]
    assert [result(path) for path in train(ours)] == whole_ones


def test_a_student_that_fails_again_is_told_of_again(
    data: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = config(data, out=str(tmp_path / "run"), models=(CNN, VIT), method="labels")
    monkeypatch.setattr("tcs.training.trainer.Trainer.train_step", diverging(CNN, 6))
    for _ in range(2):
        with pytest.raises(DivergedError, match="loss 'ce' is nan at step 6"):
            train(ours)
        assert [record(path)["state"] for path in folders(tmp_path / "run")[:2]] == ["failed", "finished"]
