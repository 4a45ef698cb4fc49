"""The stage `tcs eval`. Legend: N rows, C classes."""

import dataclasses
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
from tcs.config.augment import AugmentConfig
from tcs.config.evaluate import EvalConfig
from tcs.config.optimiser import OptimiserConfig
from tcs.config.pixels import PixelRules
from tcs.config.train import TrainConfig
from tcs.errors import ArtefactError, ConfigError, DataError
from tcs.evaluation import students as evaluation
from tcs.evaluation.students import evaluate, predict_rows
from tcs.images.decode import decode_square
from tcs.inference.network import logits_of, scored_at_once
from tcs.inference.runs import load_student
from tcs.methods.named import METHODS, name_of
from tcs.metrics import accuracy, match_classes
from tcs.training.train import train

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("eval")
    make_store(folder / "train.store")
    make_store(folder / "test.store", seed=9, rows=30)
    make_targets(folder)
    common: dict[str, Any] = {
        "store": str(folder / "train.store"),
        "models": (STUDENT,),
        "shots": 16,
        "img_size": 16,
        "augment": AugmentConfig(hflip=0.0),
    }
    train(
        TrainConfig(
            out=str(folder / "run"),
            targets=str(folder / "pca.h5"),
            method="tcs-probe",
            steps=150,
            optimiser=OptimiserConfig(lr=5e-3),
            **common,
        )
    )
    return folder


def score(folder: pathlib.Path, store: str = "test.store", **options: Any) -> dict[str, Any]:
    (row,) = evaluate(EvalConfig(run=str(folder / "run"), store=str(folder / store), **options))
    return row


def test_accuracy_is_that_of_the_plain_timm_model_image_by_image(folder: pathlib.Path) -> None:
    store = cache.open(folder / "test.store")
    model = timm.create_model("resnet18", layers=(1, 1, 1, 1), channels=(4, 4, 8, 8), num_classes=3)
    (weights,) = (folder / "run").glob("*/folded.safetensors")
    model.load_state_dict(load_file(weights))
    hits = 0
    for row in range(len(store)):
        pixels = torch.from_numpy(decode_square(store.image_bytes(row), 16, PixelRules())).permute(2, 0, 1) / 255
        normal = (pixels - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
            [0.229, 0.224, 0.225]
        ).view(3, 1, 1)
        with torch.no_grad():
            hits += int(model.eval()(normal[None]).argmax()) == store.labels_N[row]
    row = score(folder)
    assert row["top1"] == pytest.approx(100 * hits / 30, abs=1e-3)
    assert row["top1"] > 60  # three easy classes
    assert row["top5"] == 100
    assert row["seen"] == 0


def test_rows_that_training_saw_are_counted(folder: pathlib.Path) -> None:
    assert score(folder, "train.store")["seen"] == 60


def test_classes_are_matched_by_name(folder: pathlib.Path) -> None:
    store = make_store(folder / "reordered.store", seed=9, rows=30, classes=("cow", "ant", "bee"))
    matched = match_classes(store, CLASSES)
    assert [CLASSES[label] for label in matched] == [store.classes[label] for label in store.labels_N]
    make_store(folder / "fewer.store", seed=9, rows=30, classes=("ant", "cow"))
    assert score(folder, "fewer.store")["rows"] == 30
    make_store(folder / "more.store", seed=9, rows=30, classes=("ant", "dog"))
    with pytest.raises(DataError, match="classes that the student was not trained on: dog"):
        score(folder, "more.store")
    make_store(folder / "bare.store", seed=9, labelled=False)
    with pytest.raises(DataError, match="has no labels, so nothing can be scored"):
        score(folder, "bare.store")


def test_accuracy_counts_by_hand() -> None:
    logits_NC = np.array(
        [[3.0, 2, 1, 0, -1, -2], [0, 1, 2, 3, 4, 5], [0, 9, 1, 2, 3, 4], [1, 0, 0, 0, 0, 0]], np.float32
    )
    result = accuracy(logits_NC, np.array([0, 5, 0, 5]))
    assert result == {"top1": 50.0, "top1_err": 50.0, "top5": 50.0, "top5_err": 50.0}


def test_runs_and_students_that_are_not_there_are_refused(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ArtefactError, match="holds no student"):
        evaluate(EvalConfig(run=str(tmp_path), store=str(folder / "test.store")))
    with pytest.raises(ArtefactError, match="has no student 'resnet34'; it has resnet18-layers"):
        score(folder, models=("resnet34",))
    student = tmp_path / "half" / "student"
    student.mkdir(parents=True)
    (student / "config.json").write_text('{"state": "training"}')
    with pytest.raises(ArtefactError, match="is not finished; run the same tcs train command again"):
        evaluate(EvalConfig(run=str(tmp_path / "half"), store=str(folder / "test.store")))
    (student / "config.json").write_text('{"state": "failed", "error": "loss is nan"}')
    with pytest.raises(ArtefactError, match=r"failed in training \(loss is nan\); name the others with --model"):
        evaluate(EvalConfig(run=str(tmp_path / "half"), store=str(folder / "test.store")))
    (student / "config.json").write_text("{")
    with pytest.raises(ArtefactError, match="cannot be read"):
        evaluate(EvalConfig(run=str(tmp_path / "half"), store=str(folder / "test.store")))


@pytest.mark.parametrize("turn_bytes", [1, 3 * 16 * 16 * 8, 3 * 16 * 16 * 23])
def test_images_are_scored_in_turns_of_whole_batches(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, turn_bytes: int
) -> None:
    store = cache.open(folder / "test.store")
    (path,) = (folder / "run").glob("*/")
    student, rows_N = load_student(path), np.arange(30)[::-1].copy()
    images_N3HW = torch.stack(
        [
            torch.from_numpy(decode_square(store.image_bytes(int(row)), 16, PixelRules())).permute(2, 0, 1)
            for row in rows_N
        ]
    )
    mean, std = student.record["student"]["mean"], student.record["student"]["std"]
    expected_NC = logits_of(student.model, images_N3HW, mean, std, torch.device("cpu"), 8)
    config = EvalConfig(run=str(folder / "run"), store=str(store.path), batch_size=8)
    most: list[int] = []
    whole = evaluation.decode_quietly
    monkeypatch.setattr(evaluation, "TURN_BYTES", turn_bytes)
    monkeypatch.setattr(
        evaluation, "decode_quietly", lambda *given, **more: (most.append(len(given[1])), whole(*given, **more))[1]
    )
    logits_NC, seconds = predict_rows(student, store, rows_N, config)
    assert np.array_equal(logits_NC, expected_NC)
    assert seconds > 0
    assert most == ([8, 8, 8, 6] if turn_bytes < 3 * 16 * 16 * 16 else [16, 14])


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "labels"),
        ({"targets": "pca.h5"}, "labels"),
        ({"shots": 2, "targets": "pca.h5"}, "tcs-pool"),
        ({"shots": 2}, "tcs-pool"),
        ({"method": "bottleneck", "targets": "pca.h5"}, "bottleneck"),
        ({"loss": "ce + 0.5*rkd"}, "ce + 0.5*rkd"),
    ],
)
def test_the_method_is_named_though_no_option_named_it(
    folder: pathlib.Path, tmp_path: pathlib.Path, options: dict[str, Any], name: str
) -> None:
    if "targets" in options:
        options |= {"targets": str(folder / options["targets"])}
    store = str(folder / "train.store")
    config = TrainConfig(store=store, models=(STUDENT,), out=str(tmp_path / "run"), steps=1, img_size=16, **options)  # type: ignore[arg-type]
    train(config)
    (row,) = evaluate(EvalConfig(run=config.out, store=str(folder / "test.store")))
    assert row["method"] == name


def test_a_recorded_method_has_its_name_whatever_was_said_about_it() -> None:
    for name, method in METHODS.items():
        recorded = json.loads(json.dumps(dataclasses.asdict(method))) | {"about": "in other words"}
        assert name_of(recorded) == name
        assert name_of(recorded | {"loss": "ce + 3*l2"}) == "ce + 3*l2"
        assert name_of({"loss": method.loss}) == method.loss  # a record with fewer fields


def test_a_batch_has_images() -> None:
    with pytest.raises(ConfigError, match="--batch-size is 0; it must be 1 or more"):
        EvalConfig(run="run", store="test.store", batch_size=0)


@pytest.mark.parametrize(
    ("method", "unlabelled", "seen"),
    [("kd", "20", 12 + 20), ("kd", "all", 60), ("kd", "none", 12), ("labels", "20", 12)],
)
def test_rows_of_the_pool_count_as_seen_and_rows_outside_the_run_do_not(
    folder: pathlib.Path, tmp_path: pathlib.Path, method: str, unlabelled: str, seen: int
) -> None:
    """The rows of a run, labelled or not, are all that a teacher's probe or labels spread over the pool are fitted on."""
    store = cache.open(folder / "train.store")
    options: dict[str, Any] = {"loss": "ce + 0.9*kd"} if method == "kd" else {"method": method}
    config = TrainConfig(
        store=str(store.path),
        models=(STUDENT,),
        out=str(tmp_path / "run"),
        steps=1,
        img_size=16,
        shots=4,
        unlabelled=unlabelled,
        held_out=0,
        **options,
    )
    train(config)
    (row,) = evaluate(EvalConfig(run=config.out, store=str(store.path)))
    assert row["seen"] == seen
    (elsewhere,) = evaluate(EvalConfig(run=config.out, store=str(folder / "test.store")))
    assert elsewhere["seen"] == 0


def test_a_cpu_scores_fewer_images_at_once_the_larger_they_are() -> None:
    assert [scored_at_once(size, torch.device("cpu")) for size in (32, 64, 96, 224, 518)] == [64, 64, 28, 16, 16]
    assert scored_at_once(32, torch.device("cuda")) == scored_at_once(224, torch.device("cuda")) == 256
