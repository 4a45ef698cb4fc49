"""Runs that earlier releases left behind: finished ones are recognised, stopped ones go on. 2 s.

`fixtures/run_v1` holds a store, its targets, and three folders of one ViT trained from them for 6 steps: `finished`, `stopped`
after the state of step 3, and `pixels` (the reference same-pixels). Their files carry no format number.
"""

import json
import pathlib
import shutil

import pytest
import safetensors.torch
import torch

from tcs.cli import main
from tcs.config.train import TrainConfig
from tcs.grid.same_pixels import train_same_pixels
from tcs.training.data import open_data
from tcs.training.metrics import load_metrics

FIXTURE = pathlib.Path(__file__).parent / "fixtures" / "run_v1"


@pytest.fixture
def runs(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A copy of the fixture that may be trained in; its paths are relative."""
    shutil.copytree(FIXTURE, tmp_path / "runs")
    monkeypatch.chdir(tmp_path / "runs")
    return tmp_path / "runs"


def student_of(run: pathlib.Path) -> pathlib.Path:
    (folder,) = (path for path in run.iterdir() if path.is_dir())
    return folder


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def command(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    assert not ended.value.code


def test_a_finished_run_is_recognised_and_left_alone(runs: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(student_of(runs / "finished"))
    assert "format" not in json.loads(before["config.json"])
    command("train", "images.store", "-c", "finished/args.yaml")
    assert "is finished; nothing to do" in capsys.readouterr().err
    assert contents(student_of(runs / "finished")) == before


def test_a_stopped_run_goes_on_to_what_it_would_have_been(runs: pathlib.Path) -> None:
    folder, whole = student_of(runs / "stopped"), student_of(runs / "finished")
    assert "format" not in torch.load(folder / "resume.pt", weights_only=True)
    command("train", "images.store", "-c", "stopped/args.yaml")
    made, expected = (safetensors.torch.load_file(path / "last.safetensors") for path in (folder, whole))
    assert made.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(made[name], value, atol=1e-4), name
    first, second = (load_metrics(path / "metrics.jsonl", measured=False) for path in (folder, whole))
    assert first[:3] == second[:3]
    assert [row["step"] for row in first] == [1, 2, 3, 4, 5, 6]
    assert first[-1]["loss"] == pytest.approx(second[-1]["loss"], rel=1e-3)


def test_a_finished_reference_is_recognised(runs: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = student_of(runs / "pixels")
    before = contents(folder)
    config = TrainConfig.from_options(json.loads(before["config.json"])["config"] | {"method": "labels"})
    assert train_same_pixels(config, open_data("images.store", None)) == folder.relative_to(runs)
    assert "is finished; nothing to do" in capsys.readouterr().err
    assert contents(folder) == before


def test_a_finished_run_is_scored(runs: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    command("eval", "finished", "images.store", "--json")
    assert json.loads(capsys.readouterr().out)
