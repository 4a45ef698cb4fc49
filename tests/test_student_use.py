"""A student in a person's own code: the answers of `tcs predict`, for files and for what is in memory; what is no image."""

import csv
import dataclasses
import io
import json
import pathlib
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from artefacts import make_store, png
from exported_files import CARD, graph
from finished import FOLDER, make_student, write_images
from PIL import Image
from safetensors.torch import load_file, save_file

import tcs
from tcs.cli import main
from tcs.config.pixels import EARLIER, PixelRules
from tcs.images.decode import decode_square
from tcs.inference.memory import listed_images

TURNED = 6  # EXIF: the camera lay on its side


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """`run` of one student, and `images` as files. To be read only."""
    folder = tmp_path_factory.mktemp("student")
    write_images(folder / "images", make_store(folder / "test.store", seed=9, rows=30))
    make_student(folder / "run", temperature=1.7)
    return folder


def files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in (folder / "images").rglob("*") if path.is_file())


def test_a_student_says_what_the_command_writes(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "predictions.csv"
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(folder / "run"), str(folder / "images"), "--out", str(out), "-b", "8"])
    assert ended.value.code in (0, None)
    written = list(csv.DictReader(io.StringIO(out.read_text())))
    found = tcs.load_student(folder / "run").predict(folder / "images", batch_size=8)
    assert len(found) == len(written) == 30
    assert len({each.label for each in found}) > 1
    for each, row in zip(found, written, strict=True):
        shares = [float(row[name]) for name in ("probability", "probability2", "probability3")]
        assert (each.path, each.classes) == (row["path"], (row["class"], row["class2"], row["class3"]))
        assert [round(share, 6) for share in each.probabilities] == shares
        assert (each.label, each.probability) == (each.classes[0], each.probabilities[0])
        assert sum(each.probabilities) == pytest.approx(1)


def test_temperature_and_topk(folder: pathlib.Path) -> None:
    student, path = tcs.load_student(folder / "run"), files(folder)[0]
    (own,), (soft,), (first,) = (student.predict(path, **o) for o in ({}, {"temperature": 1e6}, {"topk": 1}))
    assert student.temperature == 1.7
    assert soft.probabilities == pytest.approx([1 / 3] * 3, abs=1e-3)
    assert own.classes[0] == soft.classes[0]
    assert (first.classes, first.probabilities) == (own.classes[:1], own.probabilities[:1])


def test_images_in_memory_are_what_their_files_are(folder: pathlib.Path) -> None:
    student, paths = tcs.load_student(folder / "run"), files(folder)[:6]
    arrays = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    expected = student.predict(paths)
    assert [each.path for each in expected] == [str(path) for path in paths]
    bare = [dataclasses.replace(each, path=None) for each in expected]
    assert student.predict([Image.open(path) for path in paths]) == bare
    assert student.predict(arrays) == student.predict(np.stack(arrays)) == bare
    assert student.predict([paths[0], arrays[1], *paths[2:]]) == [expected[0], bare[1], *expected[2:]]
    for one, answer in ((paths[0], expected[0]), (str(paths[0]), expected[0]), (arrays[0], bare[0])):
        assert student.predict(one)[0].label == answer.label
    logits_BC = student.model(torch.zeros(1, 3, student.image_size, student.image_size))
    assert logits_BC.shape == (1, len(student.classes))


def pictures() -> dict[str, bytes]:
    """Files whose pixels depend on more than their raw values: transparency, palettes, orientation, other colours, more bits."""
    generator = np.random.default_rng(0)
    rgb_HW3 = generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)
    rgb, rgba = Image.fromarray(rgb_HW3), Image.fromarray(generator.integers(0, 256, (20, 24, 4), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = TURNED
    made: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "rgb": (rgb, "PNG", {}),
        "rgba": (rgba, "PNG", {}),
        "grey": (rgb.convert("L"), "PNG", {}),
        "grey and alpha": (rgba.convert("LA"), "PNG", {}),
        "palette": (rgb.quantize(16), "PNG", {"transparency": 3}),
        "one colour clear": (rgb, "PNG", {"transparency": tuple(map(int, rgb_HW3[0, 0]))}),
        "16 bits": (Image.fromarray(generator.integers(0, 65536, (20, 24), dtype=np.uint16)), "PNG", {}),
        "bits": (rgb.convert("1"), "PNG", {}),
        "jpeg": (rgb, "JPEG", {}),
        "turned jpeg": (rgb, "JPEG", {"exif": exif}),
        "turned png": (rgb, "PNG", {"exif": exif}),
        "cmyk jpeg": (rgb.convert("CMYK"), "JPEG", {}),
        "gif": (rgb.quantize(16), "GIF", {}),
        "webp": (rgba, "WEBP", {"lossless": True}),
        "bmp": (rgb, "BMP", {}),
        "tiff": (rgba, "TIFF", {}),
    }
    files = {}
    for name, (image, kind, options) in made.items():
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        files[name] = buffer.getvalue()
    return files


@pytest.mark.parametrize(
    "rules", [EARLIER, PixelRules(), PixelRules(background="#00ff00"), PixelRules(orientation=False)], ids=str
)
@pytest.mark.parametrize("name", pictures())
def test_an_opened_image_has_the_pixels_of_its_file(name: str, rules: PixelRules) -> None:
    data = pictures()[name]
    ((image, path),) = listed_images(Image.open(io.BytesIO(data)))
    assert path is None
    assert np.array_equal(decode_square(image.read(), 16, rules), decode_square(data, 16, rules))


def test_students_are_loaded_from_wherever_they_are(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    path = files(folder)[0]
    expected = tcs.load_student(folder / "run" / FOLDER).predict(path)
    assert tcs.load_student(str(folder / "run")).predict(path) == expected
    assert tcs.load_student(folder / "run", FOLDER).record["state"] == "finished"
    exported = tmp_path / "timm"
    exported.mkdir()
    save_file(load_file(folder / "run" / FOLDER / "folded.safetensors"), exported / "model.safetensors")
    (exported / "tcs.json").write_text(json.dumps({**CARD, "temperature": 1.7}))
    student = tcs.load_student(exported)
    assert student.predict(path) == expected
    assert (student.record, student.folder, student.classes) == ({}, exported, ("ant", "bee", "cow"))
    shutil.copytree(folder / "run" / FOLDER, tmp_path / "run" / "a")
    shutil.copytree(folder / "run" / FOLDER, tmp_path / "run" / "b")
    assert tcs.load_student(tmp_path / "run", "b").folder == tmp_path / "run" / "b"
    with pytest.raises(tcs.ArtefactError, match=r"run has 2 students \(a, b\); name one of them"):
        tcs.load_student(tmp_path / "run")


def test_an_onnx_file_predicts_and_has_no_timm_model(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    student = tcs.load_student(graph(tmp_path / "x.onnx", metadata=json.dumps(CARD)))
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 1] = 255
    assert student.predict(red)[0].label == "bee"
    with pytest.raises(tcs.ArtefactError, match=r"x\.onnx is an ONNX file, and holds no timm model; load the run"):
        _ = student.model


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (3, r"^images are 3; give paths, images of PIL, or arrays uint8 of shape \(H, W, 3\) or \(H, W\)\.$"),
        ([], r"^images are empty; give paths"),
        ([None], r"^image 0 is None; give paths"),
        (torch.zeros(4, 4, 3), r"^images are a torch tensor of shape \(4, 4, 3\): \.numpy\(\); give paths"),
        ([torch.zeros(4, 4)], r"^image 0 is a torch tensor of shape \(4, 4\): \.numpy\(\); give paths"),
        ([{"a": np.zeros((3, 3))}], r"^image 0 is \{'a': array\(\[\[0\., 0\., 0\.\], \[0\., .*; give paths"),
        ([np.zeros((4, 4, 3), np.float32)], r"^image 0 is an array of float32 and shape \(4, 4, 3\); give paths"),
        (np.zeros((4, 4, 2), np.uint8), r"^image 0 is an array of uint8 and shape \(4, 4, 2\)"),
        (np.zeros((2, 4, 0, 3), np.uint8), r"^image 0 is an array of uint8 and shape \(4, 0, 3\)"),
        ("gone.jpg", r"^'gone\.jpg' does not exist; name images"),
        (
            "broken.jpg",
            r"broken\.jpg: not an image file.*; leave it out, or use tcs\.predict, which goes on without it\.$",
        ),
        ("short.png", r"short\.png: .*; leave it out"),
    ],
)
def test_what_is_no_image_is_told_in_one_line(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, images: Any, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.jpg").write_text("no image")
    (tmp_path / "short.png").write_bytes(png(np.zeros((64, 64, 3), np.uint8))[:-20])
    with pytest.raises(tcs.DataError, match=message) as caught:
        tcs.load_student(folder / "run").predict(images)
    assert "\n" not in str(caught.value)


def test_an_opened_image_that_is_cut_off_is_told(folder: pathlib.Path) -> None:
    data = png(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    with pytest.raises(tcs.DataError, match=r"^image 0 cannot be read \(.*\); give paths"):
        tcs.load_student(folder / "run").predict(Image.open(io.BytesIO(data[: len(data) // 2])))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topk": 0}, r"^topk is 0; it must be 1 or more\.$"),
        ({"topk": "3"}, r"^topk is '3'; it must be a whole number\.$"),
        ({"workers": "a"}, r"^workers is 'a'; it must be a whole number or None\.$"),
        ({"temperature": "x"}, r"^temperature is 'x'; it must be a number or None\.$"),
        ({"batch_size": 0}, r"^batch_size is 0; it must be 1 or more\.$"),
        ({"workers": 0}, r"^workers is 0; it must be 1 or more\.$"),
        ({"temperature": 0.0}, r"^temperature is 0\.0; it must be above 0\.$"),
    ],
)
def test_options_out_of_range_are_told(folder: pathlib.Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(tcs.ConfigError, match=message):
        tcs.load_student(folder / "run").predict(files(folder)[0], **options)


def test_a_student_without_classes_has_nothing_to_say(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    make_student(tmp_path / "run", ())
    with pytest.raises(tcs.ArtefactError, match=r"was trained without labels and has no classifier; fit a probe"):
        tcs.load_student(tmp_path / "run").predict(files(folder)[0])
