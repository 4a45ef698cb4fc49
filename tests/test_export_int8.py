"""8-bit ONNX files. Legend: N images, C classes."""

import json
import pathlib
import shutil
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime
import pytest
from artefacts import CLASSES, make_store
from finished import RESNET, save_student

import cache
from tcs.config.export import ExportConfig
from tcs.config.pixels import PixelRules
from tcs.errors import ArtefactError, ConfigError, DataError
from tcs.export import int8, int8_files, stage
from tcs.export.sources import open_pictures
from tcs.export.stage import export_students
from tcs.images.decode import decode_square

SMALLER = "resnet18,layers=(1,1,1,1),channels=(4,4,4,4)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A run of one student, its float file, and a store to calibrate with."""
    folder = tmp_path_factory.mktemp("int8")
    store = make_store(folder / "train.store")
    make_store(folder / "other.store", seed=9, rows=45)
    save_student(folder / "run", RESNET, store, classes=CLASSES, size=16)
    export_students(ExportConfig(run=str(folder / "run"), to="onnx", out=str(folder / "m.onnx")))
    save_student(folder / "few", RESNET, store, classes=("only",), size=16)
    save_student(folder / "few", SMALLER, store, classes=(), size=16)
    return folder


def export(folder: pathlib.Path, **options: Any) -> dict[str, Any]:
    given = {"run": str(folder / "run"), "int8": str(folder / "other.store"), "out": str(folder / "m.onnx")}
    (row,) = export_students(ExportConfig(to="onnx", **{**given, **options}))
    return row


def test_an_int8_file_is_measured_on_images_it_was_not_calibrated_with(folder: pathlib.Path) -> None:
    row = export(folder, max_drop=100.0)
    assert (row["int8"], row["int8_n"], row["int8_labelled"]) == (str(folder / "m.int8.onnx"), 23, 23)
    model = onnx.load(row["int8"])
    kinds = {node.op_type for node in model.graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Conv"} <= kinds
    scales = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    weights = [node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in scales]
    assert any(scales[node.input[1]].shape == (4,) for node in weights)  # one scale a channel
    assert pathlib.Path(row["int8"]).stat().st_size < pathlib.Path(row["path"]).stat().st_size

    # The same counts by hand, image by image.
    store = cache.open(folder / "other.store")
    order_N = np.random.default_rng(int8.seed_for(0, "int8")).permutation(45)
    sessions = [onnxruntime.InferenceSession(row[name]) for name in ("path", "int8")]
    told = json.loads(sessions[1].get_modelmeta().custom_metadata_map["tcs"])
    decided = []
    for number in order_N[22:]:
        pixels = decode_square(store.image_bytes(int(number)), 16, PixelRules()).transpose(2, 0, 1)[None] / np.float32(
            255
        )
        normal = (pixels - np.array([0.485, 0.456, 0.406]).reshape(3, 1, 1)) / np.array([0.229, 0.224, 0.225]).reshape(
            3, 1, 1
        )
        both = [int(session.run(None, {"images": normal.astype(np.float32)})[0].argmax()) for session in sessions]
        decided.append([*both, int(store.labels_N[number])])
    decided_N3 = np.array(decided)
    assert row["int8_agreement"] == pytest.approx(100 * (decided_N3[:, 0] == decided_N3[:, 1]).mean())
    assert row["int8_top1_float"] == pytest.approx(100 * (decided_N3[:, 0] == decided_N3[:, 2]).mean())
    assert row["int8_top1_int8"] == pytest.approx(100 * (decided_N3[:, 1] == decided_N3[:, 2]).mean())
    assert told["int8"]["calibrated_with"] == 22
    assert told["classes"] == list(CLASSES)

    assert export(folder, max_drop=100.0) == row  # and nothing is made again


def test_an_int8_file_that_loses_too_much_is_kept_under_another_name(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without labels what is lost is agreement; the decisions of int8 are turned to others here."""
    (tmp_path / "m.onnx").write_bytes((folder / "m.onnx").read_bytes())
    make_store(tmp_path / "bare.store", rows=8, labelled=False)
    for module in (int8_files, stage):
        monkeypatch.setattr(module, "differences", lambda claims: [0.0])
    compare = int8.compare
    monkeypatch.setattr(int8, "compare", lambda float_NC, int8_NC, labels_N: compare(float_NC, -float_NC, labels_N))
    with pytest.raises(
        ArtefactError,
        match=r"int8 loses more than --max-drop 1: resnet18.* loses 100.00 points, kept as .*int8-refused",
    ):
        export(folder, out=str(tmp_path / "m.onnx"), int8=str(tmp_path / "bare.store"))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["bare.store", "m.int8-refused.onnx", "m.onnx"]

    # With another limit it gets the name it then deserves; with other images it is another file.
    row = export(folder, out=str(tmp_path / "m.onnx"), int8=str(tmp_path / "bare.store"), max_drop=100.0)
    assert (row["int8_drop"], row["int8"]) == (100.0, str(tmp_path / "m.int8.onnx"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bare.store", "m.int8.onnx", "m.onnx"]
    with pytest.raises(ArtefactError, match="of another student, or was calibrated with other images; move it away"):
        export(folder, out=str(tmp_path / "m.onnx"))
    shutil.copy(tmp_path / "m.int8.onnx", tmp_path / "m.int8-refused.onnx")
    export(folder, out=str(tmp_path / "m.onnx"), int8=str(tmp_path / "bare.store"), max_drop=100.0, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bare.store", "m.int8.onnx", "m.onnx"]


def test_counts_of_a_comparison() -> None:
    float_NC = np.array([[2.0, 1], [0, 3], [5, 1], [1, 2]], np.float32)
    int8_NC = np.array([[2.0, 1], [3, 0], [5, 1], [1, 2]], np.float32)
    found = int8.compare(float_NC, int8_NC, np.array([0, 1, -1, 0]))
    assert (found.n, found.agreement, found.labelled) == (4, 75.0, 3)
    assert found.top1_float == pytest.approx(200 / 3)
    assert found.top1_int8 == pytest.approx(100 / 3)
    assert found.drop == pytest.approx(100 / 3)
    bare = int8.compare(float_NC, int8_NC, np.full(4, -1))
    assert (bare.top1_float, bare.top1_int8, bare.drop) == (None, None, 25.0)
    assert bare.in_words() == "agrees with float on 75.00 % of 4 images (without labels)"


def test_images_are_taken_from_a_folder_and_matched_by_class_name(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    store = cache.open(folder / "other.store")
    for row in range(6):
        place = tmp_path / ("zebra" if row == 5 else store.classes[store.labels_N[row]])
        place.mkdir(exist_ok=True)
        (place / f"{row}.png").write_bytes(store.image_bytes(row))
    pictures = open_pictures(str(tmp_path), ("cow", "ant", "bee"), PixelRules())
    told = {key: int(label) for key, label in zip(pictures.keys, pictures.labels_N, strict=True)}
    assert told == {"ant/0.png": 1, "ant/3.png": 1, "bee/1.png": 2, "bee/4.png": 2, "cow/2.png": 0, "zebra/5.png": -1}
    assert np.array_equal(
        pictures.pixels(np.array([0]), 16)[0].transpose(1, 2, 0), decode_square(store.image_bytes(0), 16, PixelRules())
    )
    (tmp_path / "ant" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"image 'ant/0.png' of .* cannot be decoded: not an image file; remove it"):
        pictures.pixels(np.array([0]), 16)


def test_int8_without_images_or_decisions_is_refused(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "ant").mkdir()
    with pytest.raises(DataError, match="no images"):
        export(folder, int8=str(tmp_path))
    shutil.copy(folder / "m.onnx", tmp_path / "m.onnx")
    make_store(tmp_path / "lone.store", rows=1)
    with pytest.raises(DataError, match=r"lone.store has 1 images; it needs 2 or more, one half to calibrate with"):
        export(folder, int8=str(tmp_path / "lone.store"), out=str(tmp_path / "m.onnx"))
    with pytest.raises(DataError, match=r"'nowhere' does not exist; DATA must be"):
        export(folder, int8="nowhere", out=str(tmp_path / "new.onnx"))
    assert not (tmp_path / "new.onnx").exists()  # told before the float file is made
    for model, count in ((RESNET, 1), (SMALLER, 0)):
        with pytest.raises(ConfigError, match=f"has {count} classes; export it without --int8"):
            export(folder, run=str(folder / "few"), models=(model,), out=str(tmp_path / "x.onnx"))


def test_an_int8_file_replaces_nothing_of_others(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "m.onnx").write_bytes((folder / "m.onnx").read_bytes())
    (tmp_path / "m.int8.onnx").write_bytes(b"thesis")
    with pytest.raises(ArtefactError, match=r"m.int8.onnx is there and is no 8-bit export of a student; move it away"):
        export(folder, out=str(tmp_path / "m.onnx"), max_drop=100.0)
    assert (tmp_path / "m.int8.onnx").read_bytes() == b"thesis"


def test_what_onnxruntime_cannot_quantise_is_one_line(folder: pathlib.Path) -> None:
    with pytest.raises(ArtefactError, match=r"the ONNX file cannot be quantised \(.*\); export without --int8"):
        int8.quantised(b"broken", np.zeros((1, 3, 16, 16), np.uint8), {})
