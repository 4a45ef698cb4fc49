"""`tcs predict`: the pixels and decisions of `tcs eval`, from every kind of PATHS, into every kind of table."""

import csv
import io
import json
import pathlib
import sys
import tarfile
import threading

import numpy as np
import pyarrow.parquet
import pytest
import torch
from artefacts import make_store, png
from finished import FOLDER, TEXT, make_student, write_images

import cache
import tcs
from tcs.calibration import probabilities
from tcs.cli import main
from tcs.config.evaluate import EvalConfig
from tcs.errors import DivergedError
from tcs.evaluation.students import predict_rows
from tcs.images.decode import Square
from tcs.inference.network import require_finite
from tcs.inference.opening import open_model
from tcs.inference.runs import load_student
from tcs.inference.sources import named_images
from tcs.inference.stream import AHEAD, Flow, score_images

HEADER = "path,class,probability,class2,probability2,class3,probability3"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """`run` of one student, `test.store` and its images as files in `images`. To be read only."""
    folder = tmp_path_factory.mktemp("predict")
    write_images(folder / "images", make_store(folder / "test.store", seed=9, rows=30))
    make_student(folder / "run", temperature=1.7)
    return folder


def predicted(folder: pathlib.Path, *paths: object, model: str = "run", **options: object) -> tcs.predict:
    return tcs.predict(tcs.PredictConfig(model=folder / model, paths=tuple(map(str, paths)), **options))


def command(capsys: pytest.CaptureFixture[str], *line: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in line])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def test_predictions_are_those_of_eval_bit_for_bit(folder: pathlib.Path) -> None:
    store = cache.open(folder / "test.store")
    config = EvalConfig(run=str(folder / "run"), store=str(store.path), batch_size=8)
    by_key = dict(zip(store.keys, range(30), strict=True))
    found = predicted(folder, folder / "images", batch_size=8)
    rows_N = np.array([by_key[row["path"].removeprefix(f"{folder}/images/")] for row in found.rows])
    logits_NC, _ = predict_rows(load_student(folder / "run" / FOLDER), store, rows_N, config)
    shares_NC = probabilities(logits_NC, 1.7)
    assert len({row["class"] for row in found.rows}) > 1  # not all alike, or the test would show nothing
    for row, logits_C, shares_C in zip(found.rows, logits_NC, shares_NC, strict=True):
        best = np.argsort(-logits_C, kind="stable")
        names, numbers = ("class", "class2", "class3"), ("probability", "probability2", "probability3")
        assert [row[name] for name in names] == [("ant", "bee", "cow")[c] for c in best]
        assert [row[name] for name in numbers] == [round(float(shares_C[c]), 6) for c in best]
    assert (found.temperature, found.broken, found.classes) == (1.7, (), ("ant", "bee", "cow"))


def test_logits_of_the_stream_are_those_of_the_store_to_the_last_bit(folder: pathlib.Path) -> None:
    store = cache.open(folder / "test.store")
    config = EvalConfig(run=str(folder / "run"), store=str(store.path), batch_size=7)
    student = load_student(folder / "run" / FOLDER)
    expected_NC, _ = predict_rows(student, store, np.arange(30), config)
    model = open_model(str(folder / "run"), None, torch.device("cpu"))
    images = named_images([str(folder / "images" / key) for key in store.keys])
    batches = list(score_images(images, model.network, model.pixels(), Flow(batch_size=7, workers=3, hashes=True)))
    assert [len(batch.places_b) for batch in batches] == [7, 7, 7, 7, 2]
    assert np.array_equal(np.concatenate([batch.logits_bC for batch in batches]), expected_NC)
    assert np.array_equal(np.concatenate([batch.hashes_b16 for batch in batches]), store.hashes_N16)


def test_a_student_whose_logits_are_not_finite_is_neither_scored_nor_used(folder: pathlib.Path) -> None:
    store = cache.open(folder / "test.store")
    student = load_student(folder / "run" / FOLDER)
    weights = student.model.get_classifier().weight
    with torch.no_grad():
        weights[0, 0] = float("inf")
    config = EvalConfig(run=str(folder / "run"), store=str(store.path), batch_size=7)
    with pytest.raises(DivergedError, match=r"logits are not finite for \d of 7 images.* lower --lr\."):
        predict_rows(student, store, np.arange(30), config)
    assert np.array_equal(require_finite(np.zeros((2, 3), np.float32)), np.zeros((2, 3)))


def test_every_kind_of_path_gives_the_same_rows(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    expected = {row["path"]: row for row in predicted(folder, "images").rows}
    assert len(expected) == 30
    keys = list(cache.open(folder / "test.store").keys)
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        archive.add(folder / "images", arcname=".")
    (folder / "images" / "table.csv").write_text("path,key\n" + "".join(f"{key},k{n}\n" for n, key in enumerate(keys)))
    for path, prefix in ((tmp_path / "all.tar", f"{tmp_path}/all.tar/"), ("images/table.csv", "images/")):
        rows = predicted(folder, path).rows
        assert {row["path"].removeprefix(prefix) for row in rows} == set(keys)
        for row in rows:
            assert {**row, "path": ""} == {**expected[f"images/{row['path'].removeprefix(prefix)}"], "path": ""}
    (folder / "images" / "table.csv").unlink()
    files = [f"images/{key}" for key in keys[:5]]
    assert [row["path"] for row in predicted(folder, *files).rows] == files
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join([*files, ""]).encode())))
    for row, file in zip(predicted(folder, "-", files[0]).rows, [*files, files[0]], strict=True):
        wanted = expected[file]  # of a larger batch, in which sums may end in other bits
        assert [row[name] for name in ("path", "class", "class3")] == [wanted[n] for n in ("path", "class", "class3")]
        assert row["probability"] == pytest.approx(wanted["probability"], abs=1e-5)


def test_lines_on_stdin_end_where_lines_of_a_file_do(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a\u2028b.jpg\r\n\nc d.jpg\n"  # the first name holds what Unicode takes for the end of a line
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert [image.path for image in named_images(["-"])] == ["a\u2028b.jpg", "c d.jpg"]


@pytest.mark.parametrize("end", ["csv", "json", "parquet"])
def test_tables_hold_the_rows(folder: pathlib.Path, tmp_path: pathlib.Path, end: str) -> None:
    out = tmp_path / f"deep/p.{end}"
    found = predicted(folder, folder / "images", out=out, topk=2)
    if end == "csv":
        read = list(csv.DictReader(io.StringIO(out.read_text())))
        rows = [{name: float(v) if "prob" in name else v for name, v in row.items()} for row in read]
    elif end == "json":
        content = json.loads(out.read_text())
        rows = content["results"]
        assert {**content, "results": None} == {**found.facts(), "results": None}
    else:
        table = pyarrow.parquet.read_table(out)
        rows = table.to_pylist()
        assert json.loads(table.schema.metadata[b"tcs"]) == found.facts()
    assert rows == list(found.rows)
    assert list(rows[0]) == ["path", "class", "probability", "class2", "probability2"]
    with pytest.raises(tcs.ArtefactError, match="exists; name another place, or pass overwrite to replace it"):
        predicted(folder, folder / "images", out=out)
    predicted(folder, folder / "images/ant", out=out, overwrite=True)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_the_command_prints_csv_names_broken_images_and_fails(
    folder: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a,b").mkdir()
    good = cache.open(folder / "test.store").image_bytes(0)
    for name, data in (("ü.png", good), ("cut.png", good[:60]), ("empty.png", b"")):
        (tmp_path / "a,b" / name).write_bytes(data)
    code, out, err = command(capsys, "predict", folder / "run", tmp_path, "--topk", 9)
    assert code == 1
    header, line = out.splitlines()
    assert header == HEADER
    assert line.startswith(f'"{tmp_path}/a,b/ü.png",')
    assert f"{tmp_path}/a,b/empty.png: empty file" in err
    assert "2 of 3 images have no prediction." in err
    assert "Probabilities are at temperature 1.7, fitted on labelled images held out of training." in err
    code, out, _ = command(capsys, "predict", folder / "run", folder / "images/ant", "--json", "--temperature", "1")
    content = json.loads(out)
    assert (code, content["temperature"], len(content["results"]), content["broken"]) == (0, 1.0, 10, [])


def test_probabilities_that_are_not_calibrated_are_called_so(
    tmp_path: pathlib.Path, folder: pathlib.Path, capsys
) -> None:
    make_student(tmp_path / "run")
    found = predicted(tmp_path, folder / "images/ant")
    assert found.temperature is None
    assert "has no temperature, so its probabilities are not calibrated" in capsys.readouterr().err


def test_class_names_of_any_letters_survive(tmp_path: pathlib.Path, folder: pathlib.Path) -> None:
    classes = ('a, "b"', "Käfer", "牛")
    make_student(tmp_path / "run", classes)
    predicted(tmp_path, folder / "images", out=tmp_path / "p.csv", topk=1)
    with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as file:
        assert {row["class"] for row in csv.DictReader(file)} <= set(classes)


def test_a_student_of_one_class_is_sure(tmp_path: pathlib.Path, folder: pathlib.Path) -> None:
    make_student(tmp_path / "run", ("ant",))
    rows = predicted(tmp_path, folder / "images/ant").rows
    assert {(row["class"], row["probability"]) for row in rows} == {("ant", 1.0)}
    assert len(rows[0]) == 3


def test_one_of_several_students_is_named(tmp_path: pathlib.Path, folder: pathlib.Path) -> None:
    make_student(tmp_path / "run")
    make_student(tmp_path / "run", ("x", "y"), folder="resnet9")
    with pytest.raises(
        tcs.ArtefactError, match=rf"has 2 students \({FOLDER}, resnet9\); name one of them with student"
    ):
        predicted(tmp_path, folder / "images")
    assert set(predicted(tmp_path, folder / "images/ant", student="resnet9").classes) == {"x", "y"}
    assert predicted(tmp_path, folder / "images/ant", student=TEXT).classes == ("ant", "bee", "cow")
    assert predicted(tmp_path, folder / "images/ant", model="run/resnet9").classes == ("x", "y")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topk": 0}, "--topk is 0; it must be 1 or more"),
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"workers": 0}, "--workers is 0; it must be 1 or more"),
        ({"temperature": 0.0}, "--temperature is 0.0; it must be above 0"),
        ({"out": "p.txt"}, r"--out is 'p.txt'; its name must end in .csv, .json or .parquet"),
        ({"out": "p/"}, "--out is 'p/', the name of a folder"),
        ({"paths": ()}, "there are no paths; name images"),
    ],
)
def test_options_without_sense_are_refused(options: dict, message: str) -> None:
    with pytest.raises(tcs.ConfigError, match=message):
        tcs.PredictConfig(**{"model": "run", "paths": ("x",), **options})


def test_paths_without_images_are_refused(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "x.zip").write_bytes(b"PK")
    for path, message in (
        (tmp_path / "none", r"holds no images \(0 other files\)"),
        (tmp_path / "gone", "gone' does not exist; name images, folders, tars, tables, or - for a list on stdin"),
        ("no\nline", "does not exist"),
    ):
        with pytest.raises(tcs.DataError, match=message):
            predicted(folder, path)
    for text, message in ((b"\n \n", "no image is named by -"), (b"a\n\xff\n", "line 2 of stdin is not UTF-8")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        with pytest.raises(tcs.DataError, match=message):
            predicted(folder, "-")
    found = predicted(folder, tmp_path / "x.zip")  # a file that is no image is broken, whatever its name
    assert found.broken == ((f"{tmp_path}/x.zip", "not an image file"),)


def test_ctrl_c_is_130_and_leaves_nothing_half_written(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def interrupt(self: object, data: bytes) -> np.ndarray:
        calls.append(data)
        raise KeyboardInterrupt

    monkeypatch.setattr("tcs.inference.network.TorchNetwork.__call__", interrupt)
    code, _, err = command(capsys, "predict", folder / "run", folder / "images", "--out", tmp_path / "p.csv", "-b", 4)
    assert (code, len(calls)) == (130, 1)
    assert err.endswith("stopped; run the same command again to resume.\n")
    assert list(tmp_path.iterdir()) == []
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_few_images_wait_decoded(tmp_path: pathlib.Path) -> None:
    """Decoding runs ahead of a slow student by AHEAD batches and no more, whatever the number of images."""
    image = png(np.zeros((4, 4, 3), np.uint8))
    paths = [tmp_path / f"{number}.png" for number in range(60)]
    for path in paths:
        path.write_bytes(image)
    decoded: list[int] = []
    begun: list[int] = []

    def pixels(data: bytes) -> Square:
        decoded.append(1)
        return Square(np.zeros((4, 4, 3), np.uint8))

    class Network:
        def __call__(self, images_B3SS: torch.Tensor) -> np.ndarray:
            begun.append(len(images_B3SS))
            assert len(decoded) <= (len(begun) + AHEAD) * 3
            return np.zeros((len(images_B3SS), 2), np.float32)

    batches = score_images(named_images([str(tmp_path)]), Network(), pixels, Flow(batch_size=3, workers=2))
    assert sum(batch.images for batch in batches) == 60
    assert len(begun) == 20
