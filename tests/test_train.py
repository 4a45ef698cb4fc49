"""The stage `tcs train` on small stores: artefacts, resume, refusals."""

import json
import os
import pathlib
import signal
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from artefacts import CLASSES, make_store, make_targets
from forks import in_process
from probe_runs import STUDENT, run_config, write_inputs

import cache
from cache.errors import CacheError, LockedStoreError
from tcs.cli import main
from tcs.config.train import TrainConfig
from tcs.errors import ArtefactError, ConfigError, DataError, ModelError
from tcs.inference.opening import find_models
from tcs.methods.named import METHODS
from tcs.training.metrics import load_metrics
from tcs.training.train import train
from tcs.training.trainer import Trainer

VIT = "vit_tiny_patch16_224,img_size=16,patch_size=8,embed_dim=16,depth=1,num_heads=2"


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    return write_inputs(tmp_path)


def weights(path: pathlib.Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(path / "folded.safetensors")


def equal(one: pathlib.Path, other: pathlib.Path) -> bool:
    first, second = weights(one), weights(other)
    return all(torch.equal(first[key], second[key]) for key in first)


def test_a_run_folder_holds_a_plain_timm_model_and_its_record(folder: pathlib.Path) -> None:
    paths = train(run_config(folder, models=(STUDENT, VIT)))
    assert {entry.name for entry in (folder / "run").iterdir()} == {"args.yaml", *(path.name for path in paths)}
    for path in paths:
        record = json.loads((path / "config.json").read_text())
        model = timm.create_model(record["student"]["name"], num_classes=3, **record["student"]["kwargs"])
        model.load_state_dict(weights(path))
        names = {"config.json", "folded.safetensors", "last.safetensors", "metrics.jsonl", "seen.npy", "summary.csv"}
        assert {entry.name for entry in path.iterdir()} == names
        assert record["state"] == "finished"
        assert record["classes"] == list(CLASSES)
        assert record["rows"] == {"labelled": 12, "all": 60, "held_out": 0}
        assert record["stores_read"] == [str(folder / "train.store")]
        assert (path / "summary.csv").read_text().splitlines()[-1].startswith("12,main,192,")
        assert np.load(path / "seen.npy").shape == (60, 16)


# method: losses of its phases, images shown in 12 steps of at most 16 with 12 labelled rows
LOGGED = {
    "labels": ("ce", 144),
    "bottleneck": ("ce", 144),
    "tcs": ("ce l2", 1 * 16 + 11 * 12),
    "tcs+elsh": ("ce elsh l2", 192),
}
LOGGED |= {f"rdimkd-{axes}": ("ce l2", 192) for axes in "pra"} | {
    "jll-frozen": ("l2", 192),
    "jll-joint": ("ce l2", 192),
    "csd-joint": ("ce csd", 192),
}
LOGGED |= {"pool-labels": ("pool", 192), "tcs-pool": ("pool l2", 192), "pool-head": ("pool l2", 192)}
LOGGED |= {"dho": ("ce dho-kd", 192), "customkd": ("ce customkd-l2", 192)}
LOGGED |= {"tcs-probe": ("l2", 192), "tcs-probe+elsh": ("elsh", 192), "tcs-mimic": ("l2", 192)}


@pytest.mark.parametrize("method", list(METHODS))
def test_every_named_method_trains(folder: pathlib.Path, method: str) -> None:
    axes = METHODS[method].axes or ("pca",)
    targets = folder / "pca.h5" if axes == ("pca",) else make_targets(folder, method=axes[0])
    shots = 4 if METHODS[method].reads_labels else None
    settings = run_config(folder, method=method, targets=str(targets), shots=shots)
    still = TrainConfig.from_options(settings.options() | {"out": str(folder / "still"), "steps": 2, "lr": 1e-12})
    (path,), (start,) = train(settings), train(still)
    record, log = json.loads((path / "config.json").read_text()), load_metrics(path / "metrics.jsonl")
    terms, images_seen = LOGGED[method]
    assert {name.removeprefix("loss_") for row in log for name in row if name.startswith("loss_")} == set(terms.split())
    assert (record["state"], record["cost"]["images_seen"], len(log)) == ("finished", images_seen, 12)
    assert all(row["grad_norm"] > 0 for row in log)
    assert not torch.allclose(weights(path)["conv1.weight"], weights(start)["conv1.weight"], rtol=0, atol=1e-3)


def test_a_student_trained_beside_others_is_the_same_as_alone(folder: pathlib.Path) -> None:
    together = train(run_config(folder, models=(VIT, STUDENT)))[1]
    (alone,) = train(run_config(folder, out=str(folder / "alone")))
    assert equal(together, alone)


def test_a_rerun_does_nothing_and_another_recipe_is_refused(
    folder: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = train(run_config(folder))
    before = (path / "folded.safetensors").stat().st_mtime_ns
    train(run_config(folder))
    assert "is finished; nothing to do" in capsys.readouterr().err
    assert (path / "folded.safetensors").stat().st_mtime_ns == before
    with pytest.raises(
        ArtefactError, match=r"was made with steps 12, this command has 13; use another --out or --overwrite"
    ):
        train(run_config(folder, steps=13))
    (path / "notes.txt").write_text("mine")
    train(run_config(folder, steps=13, overwrite=True))
    assert (path / "notes.txt").read_text() == "mine"
    assert (path / "folded.safetensors").stat().st_mtime_ns != before


def train_until_signal(settings: TrainConfig, number: int) -> None:
    """Trains, and sends this process the signal after the fifth step."""
    step = Trainer.train_step

    def stopping(self: Trainer, *arguments: Any) -> None:
        step(self, *arguments)
        if self.step == 5:
            os.kill(os.getpid(), number)

    Trainer.train_step = stopping  # type: ignore[method-assign]
    train(settings)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_goes_on_and_ends_the_same(folder: pathlib.Path, number: int) -> None:
    ours = run_config(folder, checkpoint_every=1)
    path = folder / "run" / "resnet18-layers-1-1-1-1-channels-4-4-8-8"
    assert in_process(train_until_signal, ours, number)[0] == (-9 if number == signal.SIGKILL else 143)
    assert torch.load(path / "resume.pt", weights_only=True)["step"] in (4, 5)
    train(ours)
    (whole,) = train(run_config(folder, out=str(folder / "whole")))
    assert equal(path, whole)


def test_the_command_names_the_weights_of_its_students(
    folder: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["train", str(folder / "train.store"), "--targets", str(folder / "pca.h5"), "--out", str(folder / "run")]
    options += ["--model", STUDENT, "--method", "tcs+elsh", "--shots", "4", "--steps", "2", "--img-size", "16"]
    with pytest.raises(SystemExit, match="0"):
        main(options)
    (weights_path,) = (folder / "run").glob("*/folded.safetensors")
    assert capsys.readouterr().out == f"{weights_path}\n"


def test_labels_and_bottleneck_need_no_targets(folder: pathlib.Path) -> None:
    for method in ("labels", "bottleneck"):
        (path,) = train(run_config(folder, method=method, targets=None, out=str(folder / method)))
        record = json.loads((path / "config.json").read_text())
        assert (record["state"], record["config"]["method"], record["rows"]["labelled"]) == ("finished", method, 12)
        timm.create_model(record["student"]["name"], num_classes=3, **record["student"]["kwargs"]).load_state_dict(
            weights(path)
        )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"targets": None, "method": "tcs+elsh"},
            ConfigError,
            "reads cached bits; run tcs fit .*, then tcs targets .*, and give --targets t.h5",
        ),
        (
            {"targets": None, "method": "rdimkd-r"},
            ConfigError,
            "reads cached coordinates of method random; run tcs fit .* --method random .*, and give --targets t.h5",
        ),
        ({"method": "rdimkd-r"}, ArtefactError, "needs coordinates of method random, these targets have 'pca'"),
        ({"method": "tcs-prob"}, ConfigError, "Did you mean tcs-probe"),
        ({"models": ("resnet-18",)}, ModelError, "timm .* does not have"),
        ({"models": (STUDENT, STUDENT)}, ConfigError, "names one student twice"),
        ({"shots": 21}, DataError, "21"),
        ({"unlabelled": "49"}, ConfigError, "--unlabelled is 49; the store has 48 rows"),
        ({"device": "cuda:9"}, ConfigError, "--device is 'cuda:9', which this machine cannot use"),
        ({"opt": "adamm"}, ConfigError, "--opt is 'adamm'"),
        ({"store": "nowhere.store"}, CacheError, "nowhere.store"),
    ],
)
def test_what_cannot_work_is_refused(
    folder: pathlib.Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train(run_config(folder, **options))


def test_stores_that_cannot_be_trained_from_are_refused(folder: pathlib.Path) -> None:
    make_store(folder / "bare.store", images="none")
    with pytest.raises(DataError, match="holds no images"):
        train(run_config(folder, store=str(folder / "bare.store"), method="labels", targets=None))
    make_store(folder / "nolabels.store", labelled=False)
    with pytest.raises(DataError, match="label"):
        train(run_config(folder, store=str(folder / "nolabels.store"), method="labels", targets=None))
    make_store(folder / "one.store", classes=("ant",))
    with pytest.raises(DataError, match="class"):
        train(run_config(folder, store=str(folder / "one.store"), method="labels", targets=None))
    make_store(folder / "other.store", seed=5)
    with pytest.raises(ArtefactError, match="holds targets of store"):
        train(run_config(folder, store=str(folder / "other.store")))


def test_a_folder_that_no_run_made_is_refused(folder: pathlib.Path) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "thesis.txt").write_text("mine")
    with pytest.raises(ArtefactError, match=r"holds 'thesis.txt', which no run made"):
        train(run_config(folder, overwrite=True))
    assert (folder / "run" / "thesis.txt").read_text() == "mine"
    with pytest.raises(ArtefactError, match="is a file; a run is a folder"):
        train(run_config(folder, out=str(folder / "run" / "thesis.txt")))


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_in_which_another_command_trains_is_refused_at_once_and_untouched(
    folder: pathlib.Path, overwrite: bool
) -> None:
    (path,) = train(run_config(folder))
    (path / "config.json").write_text((path / "config.json").read_text().replace('"finished"', '"training"'))
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    lock = cache.FolderLock(folder / "run")  # as the other holds it
    with pytest.raises(LockedStoreError, match=r"run is being written by another process; wait for it to end, or name"):
        train(run_config(folder, overwrite=overwrite))
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    lock.release()
    train(run_config(folder, overwrite=overwrite))
    assert not (folder / "run" / ".lock").exists()


def test_a_finished_run_without_its_weights_is_not_called_finished(folder: pathlib.Path) -> None:
    (path,) = train(run_config(folder))
    (path / "folded.safetensors").rename(folder / "kept")
    with pytest.raises(
        ArtefactError, match=r"says that it is finished, and its folded.safetensors is gone; put it back"
    ):
        train(run_config(folder))
    train(run_config(folder, overwrite=True))
    assert (path / "folded.safetensors").read_bytes() == (folder / "kept").read_bytes()


def test_hidden_files_of_the_system_and_a_lock_that_a_kill_left_do_not_matter(folder: pathlib.Path) -> None:
    (folder / "run").mkdir()
    for name in (".DS_Store", ".lock"):
        (folder / "run" / name).write_bytes(b"")
    (path,) = train(run_config(folder))
    (path / ".DS_Store").write_bytes(b"")
    assert train(run_config(folder)) == [path]
    assert len(find_models(str(folder / "run"), ())) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": ()}, "--model is missing"),
        ({"head": "mlp", "method": None}, "--head is 'mlp'"),
        ({"loss": "ce"}, "--method already fixes"),
        ({"shots": 0}, "--shots is 0"),
        ({"split_file": "f"}, "--shots and --split-file exclude"),
        ({"unlabelled": "some"}, "--unlabelled is 'some'"),
        ({"epochs": 2}, "--steps and --epochs exclude"),
        ({"steps": 0}, "--steps is 0; it must be 1 or more"),
        ({"steps": None, "epochs": 0}, "--epochs is 0; it must be 1 or more"),
        ({"sched": "step", "decay_steps": 0}, "--decay-steps is 0 and --sched 'step'; give a number of 1 or more"),
        ({"lr": 0.0}, "--lr is 0.0"),
        ({"hflip": 1.5}, "--hflip is 1.5"),
        ({"crop_padding": 0.7}, "--crop-padding is 0.7"),
        ({"labelled_share": 0.0}, "--labelled-share is 0.0"),
        ({"mimic_view": "both"}, "--mimic-view is 'both'"),
        ({"batch_size": 0}, "--batch-size is 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_config(pathlib.Path("x"), **options)


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"method": "labels"}, 3),  # 12 labelled rows, all in every batch
        ({"method": "tcs-probe"}, 3 * 60 // 16),  # every row of a batch from the pool
        ({"method": "tcs+elsh"}, 3 * 60 // 12),  # 4 of 16 labelled
    ],
)
def test_epochs_are_passes_over_the_larger_stream(folder: pathlib.Path, options: dict[str, Any], steps: int) -> None:
    (path,) = train(run_config(folder, steps=None, epochs=3, **options))
    assert json.loads((path / "config.json").read_text())["recipe"]["steps"] == steps
