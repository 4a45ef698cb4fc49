"""The stage `tcs export`: each format, over one student a family, read back by code of its own. Legend: B images, C classes."""

import json
import pathlib
import runpy
import subprocess
import sys
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from artefacts import make_store
from finished import FAMILIES, RESNET, SWIN, VIT, save_student
from PIL import Image
from safetensors import safe_open

import cache
from tcs.config.export import ExportConfig
from tcs.config.pixels import PixelRules
from tcs.errors import ArtefactError
from tcs.export import check, stage
from tcs.export.graphs import with_metadata
from tcs.export.metadata import reconstruction
from tcs.export.stage import export_students
from tcs.images.decode import decode_square
from tcs.inference.runs import FinishedStudent, load_student
from tcs.students.backbone import parse_student

ROOT = pathlib.Path(__file__).parent.parent
BACKBONE = "resnet18,layers=(1,1,1,1),channels=(4,4,4,8)"  # without classes
ONE = "resnet18,layers=(1,1,1,1),channels=(4,4,4,4)"  # of one class
ODD_CLASSES = ("a,b", 'say "x" \\', "Ährenmaus | 猫")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A store, and a run of one student a family, one that is a backbone alone and one of one class."""
    folder = tmp_path_factory.mktemp("export")
    store = make_store(folder / "train.store")
    for model in FAMILIES:
        save_student(folder / "run", model, store, classes=ODD_CLASSES)
    save_student(folder / "run", BACKBONE, store, classes=(), size=16)
    save_student(folder / "run", ONE, store, classes=("only",), size=16)
    return folder


@pytest.fixture(scope="module")
def onnx_folder(folder: pathlib.Path) -> pathlib.Path:
    """The students of the run as ONNX files."""
    rows = export_students(ExportConfig(run=str(folder / "run"), models=FAMILIES, to="onnx", out=str(folder / "onnx")))
    assert sorted(row["model"] for row in rows) == sorted(FAMILIES)
    return folder / "onnx"


def place_of(model: str) -> str:
    return parse_student(model).folder


def pixels(store: cache.Store, size: int, rows: tuple[int, ...] = (3, 7, 20)) -> torch.Tensor:
    """uint8 (B, 3, S, S)."""
    images = [
        torch.from_numpy(decode_square(store.image_bytes(row), size, PixelRules())).permute(2, 0, 1) for row in rows
    ]
    return torch.stack(images)


def inputs(student: FinishedStudent, images: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(student.record["student"][name]).view(3, 1, 1) for name in ("mean", "std"))
    return (images / 255 - mean) / std


@torch.no_grad()
def expected_logits(folder: pathlib.Path, model: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, and what the run's own student says of them."""
    student = load_student(folder / "run" / place_of(model))
    images = pixels(cache.open(folder / "train.store"), student.record["student"]["image_size"])
    return images, student.model(inputs(student, images))


def paths_in(path: pathlib.Path) -> list[str]:
    """Which folders of this machine an export tells of."""
    told = path.read_bytes()
    return [place for place in (str(ROOT), "site-packages", str(pathlib.Path(sys.prefix))) if place.encode() in told]


def test_onnx_files_of_every_family_give_the_logits_of_the_run(folder: pathlib.Path, onnx_folder: pathlib.Path) -> None:
    assert sorted(path.name for path in onnx_folder.iterdir()) == sorted(f"{place_of(m)}.onnx" for m in FAMILIES)
    for model in FAMILIES:
        path = onnx_folder / f"{place_of(model)}.onnx"
        images, expected_BC = expected_logits(folder, model)
        session = onnxruntime.InferenceSession(path)
        told = json.loads(session.get_modelmeta().custom_metadata_map["tcs"])
        student = load_student(folder / "run" / place_of(model))
        for batch in (1, 3):
            (found,) = session.run(["logits"], {"images": inputs(student, images[:batch]).numpy()})
            assert np.allclose(found, expected_BC[:batch], rtol=0, atol=1e-4 * float(expected_BC.abs().max()))
        assert [item.shape for item in session.get_inputs()] == [["batch", 3, 32, 32]]
        assert not paths_in(path)
        assert told["format"] == 1
        assert told["classes"] == list(ODD_CLASSES)
        assert told["architecture"] == model.partition(",")[0]
        assert told["transform"]["img_size"] == 32
        assert told["preprocess_in_graph"] is False
        assert told["temperature"] is None
        assert told["run"]["store_identity"] == cache.open(folder / "train.store").identity
        assert told["teacher"]["name"] == "made-up"
        assert not any(
            tensor.HasField("data_location") and tensor.data_location for tensor in onnx.load(path).graph.initializer
        )


READ = """
import json, sys, timm, torch
if sys.argv[1] == "zoo":
    import tcs.students.zoo
from PIL import Image
loaded = []
for path in sys.argv[3:]:
    model = timm.create_model(f"local-dir:{path}", pretrained=True).eval()
    data = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**data, is_training=False)
    with torch.no_grad():
        logits = model(transform(Image.open(sys.argv[2]))[None])[0].tolist()
    loaded.append([logits, model.pretrained_cfg["label_names"]])
print(json.dumps([loaded, "tcs" in sys.modules]))
"""


def test_hub_folders_of_every_family_are_loaded_by_timm_alone(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    export_students(ExportConfig(run=str(folder / "run"), to="hf", out=str(folder / "hf")))
    shown = pixels(cache.open(folder / "train.store"), 32)[0].permute(1, 2, 0).numpy()
    Image.fromarray(shown).save(tmp_path / "shown.png")
    models = [model for model in FAMILIES if not model.startswith("cifar")]
    command = [sys.executable, "-P", "-c", READ, "none", str(tmp_path / "shown.png")]
    done = subprocess.run(
        [*command, *(str(folder / "hf" / place_of(model)) for model in models)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded, has_tcs = json.loads(done.stdout)
    assert not has_tcs
    for model, (logits_C, names) in zip(models, loaded, strict=True):
        _, expected_BC = expected_logits(folder, model)
        assert torch.allclose(torch.tensor(logits_C), expected_BC[0], atol=1e-5)
        assert names == list(ODD_CLASSES)
    config = json.loads((folder / "hf" / place_of(SWIN) / "config.json").read_text())
    assert config["model_args"]["depths"] == [1, 1]
    assert "license" not in config["pretrained_cfg"]  # of ImageNet weights, which are not in there
    assert {path.name for path in (folder / "hf" / place_of(VIT)).iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "tcs.json",
    }
    for name, classes, outputs in ((BACKBONE, 0, 8), (ONE, 1, 1)):
        loaded_model = timm.create_model(f"local-dir:{folder / 'hf' / place_of(name)}", pretrained=True).eval()
        images, expected_BC = expected_logits(folder, name)
        with torch.no_grad():
            found_BC = loaded_model(inputs(load_student(folder / "run" / place_of(name)), images))
        assert found_BC.shape == (3, outputs)
        assert torch.allclose(found_BC, expected_BC, atol=1e-5)
        assert loaded_model.num_classes == classes

    # A student that was built from such a folder, or from the Hub, is written by the architecture behind its name.
    store = cache.open(folder / "train.store")
    again = save_student(tmp_path / "run", f"local-dir:{folder / 'hf' / place_of(RESNET)}", store, classes=ODD_CLASSES)
    name, kwargs = reconstruction(again)
    assert name == "resnet18"
    rebuilt = timm.create_model(name, num_classes=3, **json.loads(json.dumps(kwargs)))
    rebuilt.load_state_dict(again.model.state_dict())


def test_timm_folders_of_every_family_are_loaded_by_their_script(folder: pathlib.Path) -> None:
    export_students(ExportConfig(run=str(folder / "run"), models=FAMILIES, to="timm", out=str(folder / "timm")))
    for model in FAMILIES:
        place = folder / "timm" / place_of(model)
        images, expected_BC = expected_logits(folder, model)
        loaded = runpy.run_path(str(place / "load.py"))
        shown = torch.stack([loaded["transform"](Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images])
        with torch.no_grad():
            assert torch.allclose(loaded["model"](shown), expected_BC, atol=1e-5)
        assert loaded["classes"] == ODD_CLASSES
        assert ("import tcs" in (place / "load.py").read_text()) == model.startswith("cifar")
        with safe_open(place / "model.safetensors", "pt") as file:
            assert json.loads(file.metadata()["tcs"]) == json.loads((place / "tcs.json").read_text())


def test_torch_programs_are_loaded_by_torch(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    model, out, extra = "cifar_resnet8", tmp_path / "m.pt2", {"tcs.json": ""}
    run = str(folder / "run" / place_of(model))
    export_students(ExportConfig(run=run, to="torch-export", out=str(out), with_preprocess=True))
    program = torch.export.load(out, extra_files=extra)
    images, expected_BC = expected_logits(folder, model)
    assert torch.allclose(program.module()(images), expected_BC, atol=1e-5)  # uint8 in
    assert json.loads(extra["tcs.json"])["preprocess_in_graph"] is True
    assert not paths_in(out)


def test_a_graph_with_preprocessing_takes_pixels(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "new" / "folder" / "vit.onnx"
    run = folder / "run" / place_of(VIT)
    (row,) = export_students(ExportConfig(run=str(run), to="onnx", out=str(out), with_preprocess=True))
    images, expected_BC = expected_logits(folder, VIT)
    session = onnxruntime.InferenceSession(out)
    (found_BC,) = session.run(None, {"images": images.numpy()})
    assert np.allclose(found_BC, expected_BC, atol=1e-5)
    assert [item.type for item in session.get_inputs()] == ["tensor(uint8)"]
    assert row["max_difference"] < 1e-5


def exported(folder: pathlib.Path, tmp_path: pathlib.Path, **options: Any) -> pathlib.Path:
    """One student of the run as a timm folder; options may say otherwise."""
    config = {"run": str(folder / "run" / place_of(BACKBONE)), "to": "timm", "out": str(tmp_path / "out")} | options
    export_students(ExportConfig(**config))
    return pathlib.Path(config["out"])


@pytest.fixture
def unproved(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second process: for tests of what lies around it."""
    monkeypatch.setattr(stage, "differences", lambda claims: [0.0 for _ in claims])


def test_an_export_that_is_there_is_kept_and_another_one_is_refused(
    folder: pathlib.Path, tmp_path: pathlib.Path, unproved: None, capsys: pytest.CaptureFixture[str]
) -> None:
    out = exported(folder, tmp_path)
    before = (out / "tcs.json").stat().st_mtime_ns
    capsys.readouterr()
    exported(folder, tmp_path)
    assert "is finished already; nothing to do (--overwrite makes it anew)" in capsys.readouterr().err
    assert (out / "tcs.json").stat().st_mtime_ns == before
    with pytest.raises(ArtefactError, match="is the export of another student, or made otherwise; name another"):
        exported(folder, tmp_path, run=str(folder / "run" / place_of(ONE)))
    exported(folder, tmp_path, run=str(folder / "run" / place_of(ONE)), overwrite=True)
    assert json.loads((out / "tcs.json").read_text())["classes"] == ["only"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_export_is_never_replaced(
    folder: pathlib.Path, tmp_path: pathlib.Path, unproved: None, overwrite: bool
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("x")
    with pytest.raises(ArtefactError, match="is there and is no export of a student; name another --out"):
        exported(folder, tmp_path, overwrite=overwrite)
    assert (tmp_path / "out" / "thesis.tex").read_text() == "x"
    (tmp_path / "m.onnx").write_text("no protobuf")
    with pytest.raises(ArtefactError, match=r"m\.onnx is there and is no export of a student"):
        exported(folder, tmp_path, to="onnx", out=str(tmp_path / "m.onnx"), overwrite=overwrite)


def test_an_export_that_differs_is_refused_and_leaves_nothing(
    folder: pathlib.Path, onnx_folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ONNX file that tells a mean other than that of the run."""

    def spoilt(student: FinishedStudent, metadata: Any) -> bytes:
        transform = metadata["transform"] | {"mean": [0.4, 0.4, 0.4]}
        return with_metadata(onnx.load(onnx_folder / f"{place_of(RESNET)}.onnx"), {**metadata, "transform": transform})

    monkeypatch.setattr(stage, "onnx_bytes", spoilt)
    options = {"run": str(folder / "run" / place_of(RESNET)), "to": "onnx", "out": str(tmp_path / "m.onnx")}
    with pytest.raises(
        ArtefactError, match=r"the onnx export of resnet18 differs from the run by .*nothing was written"
    ):
        exported(folder, tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_cannot_be_loaded_says_why(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "onnx_bytes", lambda *_: b"broken")
    with pytest.raises(
        ArtefactError, match=r"the onnx export cannot be loaded in a fresh process \(.*INVALID_PROTOBUF"
    ):
        exported(folder, tmp_path, to="onnx", out=str(tmp_path / "m.onnx"))
    assert list(tmp_path.iterdir()) == []


def test_outputs_of_another_shape_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setattr(check, "_outputs", lambda claims: [np.zeros((2, 5), np.float32)])
    claim = check.Claim(
        path=tmp_path,
        format="hf",
        architecture="resnet18",
        images_N3SS=np.zeros((2, 3, 4, 4), np.uint8),
        expected_NC=np.zeros((2, 3), np.float32),
    )
    with pytest.raises(ArtefactError, match=r"outputs of shape \(2, 5\), the run \(2, 3\); nothing was written"):
        check.differences([claim])


@pytest.mark.parametrize("to", ["hf", "onnx"])
def test_ctrl_c_leaves_nothing(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    def stopped(claims: list[check.Claim]) -> list[float]:
        assert claims[0].path.exists()  # whole, under another name
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "differences", stopped)
    monkeypatch.setattr(stage, "onnx_bytes", lambda *_: b"graph")
    with pytest.raises(KeyboardInterrupt):
        exported(folder, tmp_path, to=to, out=str(tmp_path / "m.onnx"))
    assert list(tmp_path.iterdir()) == []
