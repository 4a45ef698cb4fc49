"""Runs whose images are streamed: the weights of resident ones, and threads that end with the run, however it ends."""

import csv
import io
import pathlib
import signal
import threading
import time
from typing import Any

import artefacts
import h5py
import numpy as np
import pytest
import torch
from artefacts import make_store, make_targets
from forks import forked, tcs_command
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file

import cache
from tcs.cli import main
from tcs.config.train import TrainConfig
from tcs.images.stored import THREAD_NAME
from tcs.training import data as source
from tcs.training.stream import Stream
from tcs.training.train import train
from tcs.training.trainer import Trainer

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"
FOLDER = "resnet18-layers-1-1-1-1-channels-4-4-8-8"


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    make_store(tmp_path / "train.store")
    return tmp_path


def config(folder: pathlib.Path, out: str, **options: Any) -> TrainConfig:
    common = {"method": "labels", "shots": 8, "steps": 6, "batch_size": 16, "img_size": 16, "held_out": 0}
    settings = common | {"store": str(folder / "train.store"), "out": str(folder / out), "models": (STUDENT,)} | options
    return TrainConfig.from_options(settings)


def no_threads() -> bool:
    return not [thread for thread in threading.enumerate() if thread.name.startswith(THREAD_NAME)]


@pytest.mark.parametrize("shown", [{}, {"scale": (0.3, 1.0)}, {"img_size": 12, "crop_padding": 0.125}])
def test_weights_are_those_of_resident_images(folder: pathlib.Path, shown: dict[str, Any]) -> None:
    (path,) = train(config(folder, "resident", resident_share=1.0, **shown))
    expected = load_file(path / "folded.safetensors")
    for workers in (0, 3):
        (path,) = train(config(folder, f"streamed {workers}", resident_share=0.0, workers=workers, **shown))
        found = load_file(path / "folded.safetensors")
        assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert no_threads()


def test_a_few_images_decoded_before_do_not_make_all_resident(folder: pathlib.Path) -> None:
    opened, streams = source.open_data(str(folder / "train.store"), None), config(folder, "run", resident_share=0.0)
    opened.resident(np.arange(10), 16)
    for rows, is_resident in ((10, True), (60, False)):
        images = opened.images(np.arange(rows), 16, torch.device("cpu"), streams)
        images.close()
        assert images.is_resident == is_resident


def test_the_log_tells_the_share_that_was_waited(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = {}
    quick = source.decode
    monkeypatch.setattr(source, "decode", lambda *given, **more: (time.sleep(0.01), quick(*given, **more))[1])
    for share in (0.0, 1.0):
        (path,) = train(config(folder, f"share {share}", resident_share=share, workers=1, log_interval=1))
        with (path / "summary.csv").open(newline="") as file:
            waits[share] = [float(row["data_wait"]) for row in csv.DictReader(file)]
    assert len(waits[0.0]) == 6
    assert all(0 <= wait <= 1 for wait in waits[0.0] + waits[1.0])
    assert min(waits[0.0]) > max(waits[1.0])
    assert max(waits[1.0]) < 0.2


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_broken_image_ends_the_run_with_one_line(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], workers: str
) -> None:
    made: list[bytes] = []

    def png(pixels_HW3: NDArray[np.uint8]) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(pixels_HW3).save(buffer, "PNG")
        made.append(buffer.getvalue() if len(made) != 31 else buffer.getvalue()[:100])
        return made[-1]

    monkeypatch.setattr(artefacts, "png", png)
    key = make_store(folder / "broken.store").keys[31]
    command = ["train", str(folder / "broken.store"), "--out", str(folder / "run"), "--model", STUDENT]
    command += ["--method", "labels", "--steps", "40", "-b", "8", "--img-size", "16", "--held-out", "0"]
    with pytest.raises(SystemExit) as end:
        main([*command, "--resident-share", "0", "--workers", workers])
    assert end.value.code == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"image '{key}' of {folder / 'broken.store'} cannot be decoded:" in last
    assert "Traceback" not in last
    assert no_threads()


@pytest.mark.parametrize("packed", [False, True])
def test_steps_and_threads_do_not_call_hdf5(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    make_targets(folder)
    store = folder / "train.store"
    if packed:
        store = folder / "packed.h5"
        cache.pack(folder / "train.store", store)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("HDF5 is called")

    def begin(*_: object) -> None:
        for owner, name in ((h5py.File, "__init__"), (h5py.Dataset, "__getitem__"), (h5py.Group, "__getitem__")):
            monkeypatch.setattr(owner, name, refuse)

    monkeypatch.setattr(Stream, "_announce", begin)  # the last thing before the first step
    options = {"store": str(store), "targets": str(folder / "pca.h5"), "method": "tcs+elsh", "held_out": 20}
    (path,) = train(config(folder, "run", resident_share=0.0, workers=2, **options))
    assert load_file(path / "folded.safetensors")
    with pytest.raises(AssertionError, match="HDF5 is called"):
        h5py.File(folder / "pca.h5")


def test_an_error_in_a_step_leaves_no_threads(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("of the step")

    monkeypatch.setattr(Trainer, "train_step", fail)
    with pytest.raises(RuntimeError, match="of the step"):
        train(config(folder, "run", resident_share=0.0, workers=3))
    assert no_threads()


def slow_command(*options: str) -> None:
    """`tcs` whose images take 10 ms each."""
    quick = source.decode
    source.decode = lambda *given, **more: (time.sleep(0.01), quick(*given, **more))[1]
    tcs_command(*options)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_ends_at_once_and_goes_on(folder: pathlib.Path, number: int, code: int) -> None:
    options = [
        "train",
        str(folder / "train.store"),
        "--out",
        str(folder / "run"),
        "--model",
        STUDENT,
        "--method",
        "labels",
    ]
    options += [
        "--shots",
        "8",
        "--steps",
        "20",
        "-b",
        "16",
        "--img-size",
        "16",
        "--held-out",
        "0",
        "--checkpoint-every",
        "1",
    ]
    options += ["--resident-share", "0", "--workers", "2"]
    with forked(folder / "said", slow_command, *options) as child:
        child.until(lambda: (folder / "run" / FOLDER / "resume.pt").exists())
        child.send(number)
        assert child.ended(30) == code
        assert "Traceback" not in child.stderr
    train(config(folder, "run", steps=20, held_out=0, checkpoint_every=1, resident_share=0.0, workers=2))
    (whole,) = train(config(folder, "whole", steps=20, resident_share=1.0))
    found, expected = (load_file(path / "folded.safetensors") for path in (folder / "run" / FOLDER, whole))
    assert all(torch.equal(found[key], expected[key]) for key in expected)
