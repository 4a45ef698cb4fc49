"""MODEL, whatever it is: runs, exported folders, timm's own, ONNX files; and what none of them is. B images, S side, C classes."""

import importlib
import io
import json
import pathlib
import shutil
from typing import Any

import numpy as np
import pytest
import timm
import timm.data
import timm.models
import torch
from artefacts import make_store, png
from exported_files import CARD, graph
from finished import FOLDER, KWARGS, MEAN, NAME, STD, make_student, write_images
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.data import create_transform

import cache
import tcs
from tcs.errors import ArtefactError, ConfigError, ModelError
from tcs.inference.opening import find_models, open_model
from tcs.students import bounds

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """`run`, its student exported as `timm` and `hub`, `images` and their `test.store`. To be read only."""
    folder = tmp_path_factory.mktemp("using")
    write_images(folder / "images", make_store(folder / "test.store", seed=9, rows=12))
    make_student(folder / "run", temperature=1.3)
    state = load_file(folder / "run" / FOLDER / "folded.safetensors")
    (folder / "timm").mkdir()
    save_file(state, folder / "timm" / "model.safetensors")
    (folder / "timm" / "tcs.json").write_text(json.dumps(CARD))
    model = timm.create_model(NAME, num_classes=3, **KWARGS)
    model.load_state_dict(state)
    facts = {"input_size": (3, 16, 16), "crop_pct": 0.8, "interpolation": "bilinear", "mean": MEAN, "std": STD}
    labels = {"label_names": CARD["classes"]}
    timm.models.save_for_hf(
        model, folder / "hub", model_config=labels, model_args=KWARGS, data_config=facts, safe_serialization=True
    )
    return folder


def rows_of(folder: pathlib.Path, model: object, **options: object) -> list[dict[str, Any]]:
    paths = (str(folder / "images"),)
    return list(tcs.predict(tcs.PredictConfig(model=model, paths=paths, **options)).rows)


def test_an_export_says_what_its_run_says(folder: pathlib.Path) -> None:
    expected = rows_of(folder, folder / "run")
    assert len({row["class"] for row in expected}) > 1
    assert rows_of(folder, folder / "timm") == expected
    config = tcs.EvalConfig(run=folder / "timm", store=folder / "test.store")
    (row,), (of_run,) = (
        tcs.evaluate(config),
        tcs.evaluate(tcs.EvalConfig(run=folder / "run", store=folder / "test.store")),
    )
    assert row["confusion"] == of_run["confusion"]
    assert (row["ece"], row["temperature"], row["cache_id"]) == (of_run["ece"], 1.3, of_run["cache_id"])
    assert (row["seen"], of_run["seen"], row["method"], row["param_count"]) == (
        None,
        0,
        "tcs-pool",
        of_run["param_count"],
    )


def test_a_timm_folder_is_used_with_timms_own_transform(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    for number, (height, width) in enumerate([(40, 31), (16, 16), (20, 77)]):
        (tmp_path / f"{number}.png").write_bytes(png(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)))
    model = timm.create_model(f"local-dir:{folder / 'hub'}", pretrained=True).eval()
    transform = create_transform(**timm.data.resolve_model_data_config(model))
    inputs = [transform(Image.open(io.BytesIO((tmp_path / f"{n}.png").read_bytes())).convert("RGB")) for n in range(3)]
    with torch.no_grad():
        shares_BC = model(torch.stack(inputs)).softmax(dim=1).numpy()
    found = tcs.predict(tcs.PredictConfig(model=folder / "hub", paths=(str(tmp_path),)))
    for row, shares_C in zip(found.rows, shares_BC, strict=True):
        assert row["class"] == CARD["classes"][int(shares_C.argmax())]
        assert row["probability"] == pytest.approx(float(shares_C.max()), abs=1e-5)
    assert found.temperature is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_the_room_of_a_timm_folder_goes_by_its_values(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    """Twice their bytes in float32, of whatever type they are stored."""
    shutil.copytree(folder / "hub", tmp_path / "hub")
    state = {name: tensor.to(dtype) for name, tensor in load_file(folder / "hub" / "model.safetensors").items()}
    save_file(state, tmp_path / "hub" / "model.safetensors")
    rooms = []

    def noted(build: Any, kwargs: Any, room: bounds.Room) -> Any:
        rooms.append(room)
        return bounds.built(build, kwargs, room)

    monkeypatch.setattr("tcs.inference.exported.built", noted)
    open_model(str(tmp_path / "hub"), None, CPU)
    assert [room.bytes for room in rooms] == [
        2 * 4 * sum(tensor.numel() for tensor in state.values()) + bounds.SLACK_BYTES
    ]


def test_classes_without_names_are_numbers(folder: pathlib.Path, tmp_path: pathlib.Path, capsys) -> None:
    shutil.copytree(folder / "hub", tmp_path / "hub")
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    del config["label_names"]
    (tmp_path / "hub" / "config.json").write_text(json.dumps(config))
    assert {row["class"] for row in rows_of(folder, tmp_path / "hub")} <= {"0", "1", "2"}
    assert "hub does not name its 3 classes: they are called by their numbers, 0 to 2." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"std": [0.5, 0.5, ""]}, r"config.json is not as any release wrote it .*`\$\.std\[.*; export the model again"),
        ({"mean": [0.5, 0.5]}, r"length >= 3 - at `\$\.mean`"),
        ({"std": [0.5, 0.5, 0.0]}, r"`float` > 0\.0"),
        ({"input_size": [3, 16]}, r"timm cannot load .*hub .*; export the model again"),
        ({"input_size": [3, 16, 10**6]}, r"`int` <= 8192"),
        ({"input_size": [3, 16, 24]}, r"takes images of .*only squares of 3 colours can be made"),
        ({"crop_pct": 1e-9}, r"`float` >= 0\.01 - at `\$\.crop_pct`"),
        ({"interpolation": "nonsense"}, r"timm cannot make the images of .*hub .*; export the model again"),
        ({"input_size": 3}, r"hub.*; export the model again"),
    ],
)
def test_timm_folders_with_impossible_images_are_one_line(
    folder: pathlib.Path, tmp_path: pathlib.Path, changes: dict[str, Any], message: str
) -> None:
    shutil.copytree(folder / "hub", tmp_path / "hub")
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    (tmp_path / "hub" / "config.json").write_text(
        json.dumps({**config, "pretrained_cfg": {**config["pretrained_cfg"], **changes}})
    )
    with pytest.raises(ArtefactError, match=message):
        open_model(str(tmp_path / "hub"), None, CPU)


@pytest.mark.parametrize(("uint8", "in_graph"), [(False, False), (False, True), (True, True)])
def test_onnx_files_are_fed_what_they_take(
    folder: pathlib.Path, tmp_path: pathlib.Path, uint8: bool, in_graph: bool
) -> None:
    card = {**CARD, "preprocess_in_graph": in_graph}
    path = graph(tmp_path / "x.onnx", uint8=uint8, metadata=json.dumps(card))
    images_B3SS = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels = images_B3SS.numpy().astype(np.float64)
    if not uint8:
        pixels = pixels / 255
    if not in_graph:
        pixels = (pixels - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    model = open_model(str(path), None, CPU)
    assert np.allclose(model.network(images_B3SS), 9 * pixels.mean(axis=(2, 3)), rtol=1e-5, atol=1e-5)
    assert (model.card.classes, model.card.temperature) == (("ant", "bee", "cow"), 1.3)
    assert len(rows_of(folder, path)) == 12
    (row,) = tcs.evaluate(tcs.EvalConfig(run=path, store=folder / "images"))
    assert (row["model"], row["rows"], row["param_count"]) == ("x", 12, None)


def test_folders_of_exports_hold_several_students(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(folder / "timm", tmp_path / "folders" / name)
    (tmp_path / "files").mkdir()
    graph(tmp_path / "files" / "a.onnx", metadata=json.dumps(CARD))
    graph(tmp_path / "files" / "b.onnx", metadata=json.dumps(CARD))
    for kind in ("folders", "files"):
        assert len(find_models(str(tmp_path / kind))) == 2
        assert open_model(str(tmp_path / kind), "b", CPU).name == "b"
        with pytest.raises(ArtefactError, match=r"has 2 students \(a, b\); name one of them with --model"):
            open_model(str(tmp_path / kind), None, CPU)
        with pytest.raises(ArtefactError, match="has no student 'c'; it has a, b"):
            find_models(str(tmp_path / kind), ("c",))
    assert [
        row["model"] for row in tcs.evaluate(tcs.EvalConfig(run=tmp_path / "folders", store=folder / "images"))
    ] == ["a", "b"]


def test_what_is_no_model_is_told(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "empty").mkdir()
    shutil.copytree(folder / "timm", tmp_path / "bare")
    (tmp_path / "bare" / "model.safetensors").unlink()
    shutil.copytree(folder / "timm", tmp_path / "chain" / "run" / "timm")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "vit"}')
    cases = (
        ("gone", "gone' does not exist; MODEL is a run of tcs train, RUN/<student>"),
        (folder / "images", "images holds images and no student; MODEL is a run"),
        (tmp_path / "empty", "empty holds no student; MODEL is a run"),
        (folder / "timm" / "model.safetensors", r"is a file of another kind; .*Did you mean its folder .*timm\?"),
        (tmp_path / "chain", r"chain holds no student; MODEL is .*Did you mean .*/chain/run\?$"),
        (
            tmp_path / "other",
            r"other/config.json is not of a student that tcs train made; give a run of it, or RUN/<student>",
        ),
        (tmp_path / "bare", "bare says what its model is, and has no model.safetensors; export the model again"),
    )
    for model, message in cases:
        with pytest.raises(ArtefactError, match=message):
            open_model(str(model), None, CPU)
    for model in ("timm", f"run/{FOLDER}"):
        with pytest.raises(ArtefactError, match="is one student, and --model names 'resnet50'; leave --model out"):
            find_models(str(folder / model), ("resnet50",))


def test_students_that_are_not_finished_or_newer_are_refused(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    cases = (
        ({"state": "training"}, "is not finished; run the same"),
        ({"state": "failed"}, "failed in training"),
        ({"format": 9}, "is of format 9"),
    )
    for number, (changes, message) in enumerate(cases):
        make_student(tmp_path / str(number))
        path = tmp_path / str(number) / FOLDER / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
        with pytest.raises(ArtefactError, match=message):
            rows_of(folder, tmp_path / str(number))


def test_a_student_that_cannot_be_scored_is_told_before_the_others_are(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_student(tmp_path / "run", folder="a")
    make_student(tmp_path / "run", (), folder="b")

    def scored(*_: object) -> None:
        raise AssertionError("a student was scored")

    monkeypatch.setattr("tcs.evaluation.students.judge_images", scored)
    with pytest.raises(ArtefactError, match=r"student .*b was trained without labels and has no classifier"):
        tcs.evaluate(tcs.EvalConfig(run=tmp_path / "run", store=folder / "images"))


def test_students_without_classes_have_nothing_to_predict(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    make_student(tmp_path / "run", ())
    with pytest.raises(
        ArtefactError, match="was trained without labels and has no classifier; fit a probe of its features"
    ):
        rows_of(folder, tmp_path / "run")
    with pytest.raises(
        ArtefactError, match=r"has no classifier; fit a probe .*: tcs eval .*run .*images --probe X.store"
    ):
        tcs.evaluate(tcs.EvalConfig(run=tmp_path / "run", store=folder / "images"))
    with pytest.raises(
        ConfigError, match=r"^probe goes with students of a run, and .*timm is none; give RUN or RUN/<student>"
    ):
        tcs.evaluate(tcs.EvalConfig(run=folder / "timm", store=folder / "test.store", probe=folder / "test.store"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "is of format 2, and this release reads no later one than 1; use the release that wrote it"),
        ({"format": None}, "is of format None"),
        ({"classes": "abc"}, "has abc for 'classes'"),
        ({"transform": {**CARD["transform"], "mean": [0.5]}}, "has mean 0.5 and std 0.485|has mean 0.5 and std"),
        ({"transform": {**CARD["transform"], "std": [1, 0, 1]}}, "has an image size or a std of 0"),
        (
            {"transform": {**CARD["transform"], "crop": "whole"}},
            "asks for images of crop 'whole', and this release makes",
        ),
        ({"transform": {**CARD["transform"], "interpolation": "area"}}, "asks for images of interpolation 'area'"),
        ({"temperature": -1}, "has -1 for 'temperature', which is a number above 0"),
        ({"classes": ["a"]}, "does not fit resnet18"),
    ],
)
def test_cards_that_cannot_be_followed_are_refused(
    folder: pathlib.Path, tmp_path: pathlib.Path, changes: dict[str, Any], message: str
) -> None:
    shutil.copytree(folder / "timm", tmp_path / "timm")
    (tmp_path / "timm" / "tcs.json").write_text(json.dumps({**CARD, **changes}))
    with pytest.raises(ArtefactError, match=message):
        open_model(str(tmp_path / "timm"), None, CPU)


def test_broken_cards_and_models_are_told(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shutil.copytree(folder / "timm", tmp_path / "timm")
    for text, message in (("{", "is no JSON"), ("[]", r"is \[\], no JSON object")):
        (tmp_path / "timm" / "tcs.json").write_text(text)
        with pytest.raises(ArtefactError, match=message):
            open_model(str(tmp_path / "timm"), None, CPU)
    (tmp_path / "timm" / "tcs.json").write_text(json.dumps({**CARD, "architecture": "resnet19"}))
    with pytest.raises(ModelError, match=r"names 'resnet19', which timm .* does not have"):
        open_model(str(tmp_path / "timm"), None, CPU)
    for kwargs, message in (
        (
            {"layers": [10**12, 1, 1, 1]},
            r"given the number 1,000,000,000,000, and no architecture takes one above 100,000",
        ),
        (
            {"layers": [1, 1, 1, 1], "channels": [2048, 8, 8, 8]},
            r"more than \d+ MiB, and its file has weights of 0\.\d MiB",
        ),
        ({"checkpoint_path": "/dev/stdin"}, "gives checkpoint_path"),
    ):
        (tmp_path / "timm" / "tcs.json").write_text(json.dumps({**CARD, "kwargs": kwargs}))
        with pytest.raises((ArtefactError, ModelError), match=message):
            open_model(str(tmp_path / "timm"), None, CPU)
    shutil.copytree(folder / "hub", tmp_path / "hub")
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    (tmp_path / "hub" / "config.json").write_text(json.dumps({**config, "model_args": {"layers": [10**12, 1, 1, 1]}}))
    with pytest.raises(ArtefactError, match=r"timm cannot load .*hub .*the number 1,000,000,000,000"):
        open_model(str(tmp_path / "hub"), None, CPU)
    (tmp_path / "hub" / "config.json").write_text(json.dumps(config))
    (tmp_path / "hub" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ArtefactError, match=r"timm cannot load .*hub .*; export the model again"):
        open_model(str(tmp_path / "hub"), None, CPU)


def test_onnx_files_that_are_none_of_ours_are_told(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, path, message in (
        (
            "plain",
            graph(tmp_path / "plain.onnx"),
            "does not say which classes it has .*use a file that tcs export RUN --to onnx",
        ),
        (
            "newer",
            graph(tmp_path / "newer.onnx", metadata=json.dumps({**CARD, "format": 7})),
            "newer.onnx is of format 7",
        ),
        ("opset", graph(tmp_path / "opset.onnx", opset=99), "onnxruntime .* cannot load .*opset.onnx .*newer opset"),
    ):
        with pytest.raises(ArtefactError, match=message):
            open_model(str(path), None, CPU)
        assert name in str(path)
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(ArtefactError, match=r"cannot load .*text.onnx"):
        open_model(str(tmp_path / "text.onnx"), None, CPU)
    good = graph(tmp_path / "good.onnx", metadata=json.dumps(CARD))
    with pytest.raises(ArtefactError, match=r"does not take images of shape \(2, 3, 8, 8\)"):
        open_model(str(good), None, CPU).network(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(
        ConfigError, match=r"--device is 'meta', which onnxruntime .* was not built for; use --device cpu"
    ):
        open_model(str(good), None, torch.device("meta"))

    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(
        ConfigError, match=r"needs onnxruntime, which is not installed; pip install \"tcs-distill\[export\]\""
    ):
        open_model(str(good), None, CPU)


def test_the_store_keeps_its_images_for_exports(folder: pathlib.Path) -> None:
    """`known` of an export: nobody can tell; a store without images is refused as for a run."""
    store = cache.open(folder / "test.store")
    assert store.has_images
    bare = make_store(folder / "bare.store", seed=9, rows=12, images="none")
    with pytest.raises(tcs.DataError, match=r"bare\.store holds no images"):
        tcs.evaluate(tcs.EvalConfig(run=folder / "timm", store=bare.path))
