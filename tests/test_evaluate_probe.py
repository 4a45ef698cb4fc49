"""`tcs eval --probe`: a ridge probe of frozen features, for students without a classifier and for others.

Legend: N rows, S student width, C classes.
"""

import json
import pathlib
from typing import Any

import numpy as np
import pytest
import timm
import torch
from artefacts import CLASSES, make_store, make_targets
from safetensors.torch import load_file

import cache
from tcs.cli import main
from tcs.config.evaluate import EvalConfig
from tcs.config.pixels import PixelRules
from tcs.config.train import TrainConfig
from tcs.errors import ArtefactError, DataError
from tcs.evaluation.students import evaluate
from tcs.images.decode import decode_square
from tcs.probes.ridge import fit_ridge
from tcs.training.train import train

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("probe")
    make_store(folder / "bare.store", labelled=False)
    make_store(folder / "labelled.store", seed=5, rows=45)
    make_store(folder / "test.store", seed=9, rows=30)
    common: dict[str, Any] = {"models": (STUDENT,), "img_size": 16, "hflip": 0.0, "lr": 5e-3, "steps": 80}
    bare = {"store": str(folder / "bare.store"), "targets": str(make_targets(folder, "bare.store"))}
    train(TrainConfig.from_options({"out": str(folder / "run"), "method": "tcs-mimic"} | bare | common))
    labelled = {"out": str(folder / "ce"), "store": str(folder / "labelled.store"), "method": "labels"}
    train(TrainConfig.from_options(labelled | common))
    return folder


def score(folder: pathlib.Path, run: str = "run", probe: str | None = "labelled.store") -> dict[str, Any]:
    store, fitted = str(folder / "test.store"), None if probe is None else str(folder / probe)
    (row,) = evaluate(EvalConfig(run=str(folder / run), store=store, probe=fitted, batch_size=7))
    return row


def features(folder: pathlib.Path, store: cache.Store, run: str, classes: int) -> np.ndarray:
    """(N, S), image by image, by the plain timm model."""
    model = timm.create_model("resnet18", layers=(1, 1, 1, 1), channels=(4, 4, 8, 8), num_classes=classes)
    (weights,) = (folder / run).glob("*/folded.safetensors")
    model.load_state_dict(load_file(weights))
    model.reset_classifier(0)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    found = []
    for row in range(len(store)):
        pixels = torch.from_numpy(decode_square(store.image_bytes(row), 16, PixelRules())).permute(2, 0, 1) / 255
        with torch.no_grad():
            found.append(model.eval()(((pixels - mean) / std)[None])[0].numpy())
    return np.stack(found)


@pytest.mark.parametrize(("run", "classes"), [("run", 0), ("ce", 3)])
def test_the_probe_reads_the_features_of_the_plain_timm_model(folder: pathlib.Path, run: str, classes: int) -> None:
    fitted, test = cache.open(folder / "labelled.store"), cache.open(folder / "test.store")
    ridge = fit_ridge(features(folder, fitted, run, classes), fitted.labels_N, len(CLASSES))
    predicted_N = ridge.logits(features(folder, test, run, classes)).argmax(1)
    row = score(folder, run)
    assert row["top1"] == pytest.approx(100 * np.mean(predicted_N == test.labels_N), abs=3.4)  # one row of 30
    assert row["top1"] > 60  # three easy classes
    assert (row["probe"], row["probe_rows"], row["rows"]) == (str(folder / "labelled.store"), 45, 30)
    assert row["seen"] == 0


def test_images_of_the_probe_are_seen_too(folder: pathlib.Path) -> None:
    test, labelled = str(folder / "test.store"), str(folder / "labelled.store")
    (both,) = evaluate(EvalConfig(run=str(folder / "run"), store=test, probe=test))
    assert both["seen"] == 30
    (other,) = evaluate(EvalConfig(run=str(folder / "run"), store=labelled, probe=test))
    assert other["seen"] == 0


def test_a_student_without_a_classifier_says_what_to_do(
    folder: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        ArtefactError, match=r"was trained without labels and has no classifier; fit a probe .*--probe X"
    ):
        score(folder, probe=None)
    assert "probe" not in score(folder, "ce", probe=None)
    arguments = ["eval", str(folder / "run"), str(folder / "test.store")]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    output = capsys.readouterr()
    assert (ended.value.code, output.out, output.err.count("\n")) == (1, "", 1)
    assert output.err.endswith(f"tcs eval {folder / 'run'} {folder / 'test.store'} --probe X.store.\n")
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--probe", str(folder / "labelled.store")])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"(ridge probe of 45 images of {folder / 'labelled.store'}): top1" in shown
    with pytest.raises(SystemExit):
        main([*arguments, "--probe", str(folder / "labelled.store"), "--json"])
    assert json.loads(capsys.readouterr().out)["results"][0]["probe_rows"] == 45


def test_stores_that_no_probe_can_be_fitted_on_are_refused(folder: pathlib.Path) -> None:
    with pytest.raises(DataError, match=r"--probe .*bare.store has no labels, so no probe can be fitted; give a store"):
        score(folder, probe="bare.store")
    make_store(folder / "one.store", classes=("ant",))
    with pytest.raises(DataError, match=r"has classes that .*one.store does not have: bee, cow"):
        score(folder, probe="one.store")
