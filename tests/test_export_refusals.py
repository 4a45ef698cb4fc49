"""What `tcs export` refuses, each in one line; and the command line around it."""

import importlib.util
import json
import pathlib
import resource
import shutil
from typing import Any

import pytest
from artefacts import CLASSES, make_store
from finished import RESNET, save_student

from cache.errors import StoreWriteError
from tcs.cli import main
from tcs.config.export import ExportConfig
from tcs.errors import ArtefactError, ConfigError, DataError, ModelError
from tcs.export import folders, graphs, stage
from tcs.export.metadata import read_metadata
from tcs.export.stage import export_students


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A run of one student, to be read only."""
    folder = tmp_path_factory.mktemp("refusals")
    store = make_store(folder / "train.store")
    make_store(folder / "bare.store", images="none")
    save_student(folder / "run", RESNET, store, classes=CLASSES, size=16)
    return folder


@pytest.fixture
def folder(whole: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The same run, to be spoilt; no second process proves anything."""
    monkeypatch.setattr(stage, "differences", lambda claims: [0.0 for _ in claims])
    shutil.copytree(whole / "run", tmp_path / "run")
    return tmp_path


def export(folder: pathlib.Path, **options: Any) -> list[dict[str, Any]]:
    return export_students(
        ExportConfig(**{"run": str(folder / "run"), "to": "timm", "out": str(folder / "out"), **options})
    )


def change(folder: pathlib.Path, **changes: Any) -> None:
    (path,) = (folder / "run").glob("*/config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state": "training"}, "is not finished; run the same tcs train command again to resume it"),
        ({"state": "failed", "error": "loss is nan"}, r"failed in training \(loss is nan\)"),
        ({"format": 9}, "is of format 9, and this release reads no later one than 1"),
        ({"classes": "ant"}, r"is not as any release wrote it \(Expected `array`, got `str` - at `\$.classes`\)"),
        (
            {"stores_read": ["/nowhere/x.store"]},
            "the store /nowhere/x.store of .* is not here, .*name another one, with --store",
        ),
        ({"stores_read": []}, r"the store \? of .* is not here"),
    ],
)
def test_a_run_that_cannot_be_exported_says_why(folder: pathlib.Path, changes: dict[str, Any], message: str) -> None:
    change(folder, **changes)
    with pytest.raises(ArtefactError, match=message):
        export(folder)
    assert not (folder / "out").exists()


def test_what_is_no_run_is_refused(folder: pathlib.Path, whole: pathlib.Path) -> None:
    for place in (whole / "train.store", folder / "nowhere", folder):
        with pytest.raises(ArtefactError, match="holds no student; give the --out folder of a tcs train command"):
            export(folder, run=str(place))
    export(folder, to="hf", out=str(folder / "hf"))
    with pytest.raises(
        ArtefactError, match=r"hf/config.json is not of a student that tcs train made; give a run of it"
    ):
        export(folder, run=str(folder / "hf"))
    with pytest.raises(ArtefactError, match="has no student 'vit'; it has resnet18-layers"):
        export(folder, models=("vit",))


def test_images_to_compare_on(folder: pathlib.Path, whole: pathlib.Path) -> None:
    with pytest.raises(DataError, match=r"holds no images \(--images none\); give them with --data"):
        export(folder, store=str(whole / "bare.store"))
    change(folder, stores_read=["gone.store"])
    (row,) = export(folder, store=str(whole / "train.store"))
    assert pathlib.Path(row["path"]).is_dir()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "tflite"}, "--to is 'tflite'; it must be one of timm, hf, onnx, torch-export"),
        ({"out": ""}, "--out is empty"),
        ({"max_drop": 101.0, "to": "onnx", "int8": "d"}, "--max-drop is 101; it must be 0 to 100 percentage points"),
        ({"max_drop": 2.0, "to": "onnx"}, "--max-drop has no effect without --int8"),
        ({"int8": "d"}, "--int8 has no effect without --to onnx"),
        (
            {"with_preprocess": True, "to": "hf"},
            "--with-preprocess has no effect without --to onnx or --to torch-export",
        ),
        ({"test": "t.store"}, "--test has no effect without --to hf"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ExportConfig(**{"run": "run", "to": "timm", "out": "out", **options})


@pytest.mark.parametrize(("to", "ending"), [("onnx", ".onnx"), ("torch-export", ".pt2")])
def test_a_file_has_the_ending_of_its_format(folder: pathlib.Path, to: str, ending: str) -> None:
    with pytest.raises(ConfigError, match=rf"--to {to} writes one file; name it .*/out\{ending}"):
        export(folder, to=to)


def test_missing_packages_are_named(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name.startswith("onnxr") else whole(name))
    with pytest.raises(
        ConfigError, match=r"needs onnxruntime, which is not installed: pip install 'tcs-distill\[export\]'"
    ):
        export(folder, to="onnx", out="m.onnx")


def test_graphs_that_cannot_be_made_are_one_line(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("data-dependent\nwith a long story")

    monkeypatch.setattr(graphs.torch.export, "export", fails)
    with pytest.raises(ModelError, match=r"cannot be exported as a graph \(data-dependent\); use --to timm or --to hf"):
        export(folder, to="onnx", out=str(folder / "m.onnx"))
    monkeypatch.setattr(graphs, "MOST_BYTES", 100)
    with pytest.raises(ModelError, match="GiB of weights, and an ONNX file holds 2; use --to torch-export"):
        export(folder, to="onnx", out=str(folder / "m.onnx"))


def test_arguments_that_a_hub_folder_cannot_hold_are_one_line(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise ValueError("Model argument 'act_layer' is not serializable")

    monkeypatch.setattr(folders.timm.models, "save_for_hf", fails)
    with pytest.raises(
        ModelError, match=r"as a Hub folder \(Model argument 'act_layer' is not serial.*\); use --to timm"
    ):
        export(folder, to="hf")
    assert not (folder / "out").exists()


def test_a_full_disk_is_one_line_and_leaves_nothing(folder: pathlib.Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(StoreWriteError, match=r"model\.safetensors: .*; free space and rerun") as error:
            export(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(error.value)
    assert [path.name for path in folder.iterdir()] == ["run"]


def test_a_folder_that_cannot_be_made_is_one_line(folder: pathlib.Path) -> None:
    (folder / "file").write_text("x")
    with pytest.raises(ArtefactError, match=r"folder .*/file cannot be made \(File exists\); name another --out"):
        export(folder, out=str(folder / "file" / "deeper"))


def test_metadata_of_other_files_is_none(tmp_path: pathlib.Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"PK\x05\x06" + bytes(18))  # an empty archive
    (tmp_path / "x.onnx").write_bytes(b"")
    (tmp_path / "tcs.json").write_text('{"format": 1}')
    for path in (tmp_path / "x.zip", tmp_path / "x.onnx", tmp_path / "gone", tmp_path):
        assert read_metadata(path) is None


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    output = capsys.readouterr()
    return int(str(ended.value.code)), output.out, output.err


def test_the_command_prints_paths_or_one_object(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "new" / "out"
    code, printed, said = run(capsys, "export", str(folder / "run"), "--to", "timm", "--out", str(out))
    assert (code, printed) == (0, f"{out}  (largest difference from the run 0.0e+00)\n")
    assert "exporting to timm" in said
    code, printed, _ = run(capsys, "export", str(folder / "run"), "--to", "timm", "--out", str(out), "--json")
    (row,) = json.loads(printed)["exports"]
    assert (code, row["path"], row["max_difference"]) == (0, str(out), None)
    code, printed, said = run(capsys, "export", str(folder), "--to", "timm", "--out", str(out))
    assert (code, printed) == (1, "")
    assert said.startswith("Error: run ")
    assert said.count("\n") == 1


def test_ctrl_c_ends_the_command_with_130(
    folder: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(_: Any) -> list[float]:
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "differences", stopped)
    code, printed, _ = run(capsys, "export", str(folder / "run"), "--to", "hf", "--out", str(folder / "out"))
    assert (code, printed) == (130, "")
    assert [path.name for path in folder.iterdir()] == ["run"]
