"""`tcs eval` on labelled images as they lie: what it says of a store, without one. Legend: N images."""

import csv
import dataclasses
import functools
import json
import pathlib
import tarfile

import numpy as np
import pytest
import torch
from artefacts import make_store
from finished import FOLDER, TEXT, make_student, write_images
from killed import kill_while
from PIL import Image

import cache
import tcs
import tcs.evaluation.students
from tcs.cli import main

OF_STORES = ("store", "cache_id", "infer_samples_per_sec")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """`run`, `test.store` and its images in `images`. To be read only. Seven of the images count as seen."""
    folder = tmp_path_factory.mktemp("eval")
    store = make_store(folder / "test.store", seed=9, rows=30)
    write_images(folder / "images", store)
    make_student(folder / "run", seen=[store.image_bytes(row) for row in range(7)])
    return folder


def scored(folder: pathlib.Path, data: object, model: object = None, /, **options: object) -> dict:
    config = tcs.EvalConfig(run=str(model or folder / "run"), store=str(data), **options)
    (row,) = tcs.evaluate(config)
    return row


def test_images_are_scored_as_the_store_of_them_is(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    by_store = scored(folder, folder / "test.store")
    assert by_store["seen"] == 7
    assert 0 < by_store["top1"] < 100
    assert by_store["confusion"] != [[0] * 3] * 3
    store = cache.open(folder / "test.store")
    with tarfile.open(tmp_path / "i.tar", "w") as archive:
        archive.add(folder / "images", arcname=".")
    lines = [f"{key},{key.partition('/')[0]}" for key in store.keys]
    (tmp_path / "t.csv").write_text("\n".join(["file,kind", *lines, "ant/none.png,"]))
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "val").symlink_to(folder / "images")
    table = {"data_dir": str(folder / "images"), "input_key": "file", "target_key": "kind"}
    for data, options in (
        (folder / "images", {}),
        (tmp_path / "i.tar", {}),
        (tmp_path / "t.csv", table),
        (tmp_path / "deep", {"split": "validation"}),
    ):
        row = scored(folder, data, **options)
        assert row["store"] == str(data)
        assert {**row, **dict.fromkeys(OF_STORES)} == {**by_store, **dict.fromkeys(OF_STORES)}


def test_scores_are_those_of_single_images(folder: pathlib.Path) -> None:
    """Accuracy, recall and precision, image by image with plain timm."""
    student = tcs.load_student(folder / "run" / FOLDER)
    mean, std = (torch.tensor(student.record["student"][name]).view(3, 1, 1) for name in ("mean", "std"))
    pairs = []
    for path in sorted((folder / "images").glob("*/*.png")):
        pixels = torch.from_numpy(np.asarray(Image.open(path).convert("RGB"), np.float32)).permute(2, 0, 1) / 255
        with torch.no_grad():
            number = int(student.model(((pixels - mean) / std)[None]).argmax())
        pairs.append((path.parent.name, student.record["classes"][number]))
    row = scored(folder, folder / "images")
    assert row["top1"] == pytest.approx(100 * np.mean([true == said for true, said in pairs]), abs=1e-3)
    for item in row["classes"]:
        name = item["class"]
        hits = sum(true == said == name for true, said in pairs)
        taken = sum(said == name for _, said in pairs)
        assert item["recall"] == pytest.approx(100 * hits / 10, abs=1e-3)
        assert item["precision"] == (pytest.approx(100 * hits / taken, abs=1e-3) if taken else None)


def test_classes_are_matched_by_name(folder: pathlib.Path, tmp_path: pathlib.Path, capsys) -> None:
    store = cache.open(folder / "test.store")
    write_images(tmp_path / "more", store)
    (tmp_path / "more" / "ant").rename(tmp_path / "more" / "dog")
    with pytest.raises(
        tcs.DataError, match="more has classes that the student was not trained on: dog; it knows ant, bee, cow"
    ):
        scored(folder, tmp_path / "more")
    for path in (tmp_path / "more" / "dog").iterdir():
        path.unlink()
    row = scored(folder, tmp_path / "more")
    assert (row["rows"], row["classes"][0]["recall"]) == (20, None)
    assert "has no images of 1 of the 3 classes: ant." in capsys.readouterr().err


def test_images_without_labels_and_broken_ones_are_told(folder: pathlib.Path, tmp_path: pathlib.Path, capsys) -> None:
    write_images(tmp_path / "images", cache.open(folder / "test.store"))
    with pytest.raises(tcs.DataError, match="has no labels, so nothing can be scored; give one sub-folder per class"):
        scored(folder, tmp_path / "images" / "ant")
    (tmp_path / "images" / "bee" / "x.png").write_bytes(b"no image")
    with pytest.raises(SystemExit) as ended:
        main(["eval", str(folder / "run"), str(tmp_path / "images"), "--json"])
    told = capsys.readouterr()
    (row,) = json.loads(told.out)["results"]
    assert (ended.value.code, row["rows"], row["broken"]) == (1, 30, 1)
    assert "bee/x.png: not an image file; left out" in told.err
    for path in (tmp_path / "images").glob("*/*"):
        path.write_bytes(b"no image")
    with pytest.raises(
        tcs.DataError, match=r"no image of .*images can be read; the first is ant/9-0000.png: not an image"
    ):
        scored(folder, tmp_path / "images")


def test_wrong_images_are_shown_surest_first(folder: pathlib.Path, tmp_path: pathlib.Path, capsys) -> None:
    row = scored(folder, folder / "images", errors=str(tmp_path / "wrong"), out=str(tmp_path / "o/e.csv"))
    wrong = round(row["rows"] * (100 - row["top1"]) / 100)
    with (tmp_path / "wrong" / f"{FOLDER}.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    assert len(listed) == wrong > 1
    assert all(item["path"].startswith(f"{item['class']}/") and item["predicted"] != item["class"] for item in listed)
    sure = [float(item["probability"]) for item in listed]
    assert sure == sorted(sure, reverse=True)
    across = int(np.ceil(np.sqrt(wrong)))
    with Image.open(tmp_path / "wrong" / f"{FOLDER}.jpg") as sheet:
        assert sheet.size == (132 * across, 160 * int(np.ceil(wrong / across)))
        first = (
            Image.open(folder / "images" / listed[0]["path"])
            .convert("RGB")
            .resize((128, 128), Image.Resampling.BICUBIC)
        )
        gap = np.abs(np.asarray(sheet.crop((2, 4, 130, 132)), float) - np.asarray(first, float)).mean()
    assert gap < 12  # levels: JPEG
    assert f"shows {wrong} of the {wrong} images" in capsys.readouterr().err
    with (tmp_path / "o" / "e.csv").open(newline="") as file:
        (saved,) = csv.DictReader(file)
    assert (saved["model"], float(saved["balanced"])) == (TEXT, row["balanced"])
    assert not {"classes", "confusion"} & set(saved)
    for options, message in (
        (
            {"errors": str(tmp_path / "wrong")},
            "^errors .*wrong is not empty; name another folder, or pass overwrite",
        ),
        ({"errors": str(tmp_path / "o/e.csv")}, "^errors .*e.csv is a file; name a folder"),
        ({"out": str(tmp_path / "o/e.csv")}, "^out .*e.csv exists; name another place, or pass overwrite"),
    ):
        with pytest.raises(tcs.ArtefactError, match=message):
            scored(folder, folder / "images", **options)
    again = scored(folder, folder / "images/", errors=str(tmp_path / "wrong"), overwrite=True)
    assert again["top1"] == row["top1"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("renames", [0, 1, 2])
def test_sheets_of_a_killed_command_are_made_again(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    given = {"errors": str(tmp_path / "wrong"), "out": str(tmp_path / "e.csv")}
    command = functools.partial(scored, folder, folder / "images", **given)
    kill_while(monkeypatch, tcs.evaluation.students, "write_mistakes", renames, command)
    scored(folder, folder / "images", **given)
    scored(folder, folder / "images", errors=str(tmp_path / "fresh"))
    for path in (tmp_path / "fresh").iterdir():
        assert (tmp_path / "wrong" / path.name).read_bytes() == path.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.csv", "fresh", "wrong"]


def test_a_student_without_a_mistake_has_no_sheet(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    make_student(tmp_path / "run", ("ant",))
    images = tmp_path / "images" / "ant"
    images.mkdir(parents=True)
    (images / "x.png").write_bytes(cache.open(folder / "test.store").image_bytes(0))
    config = tcs.EvalConfig(run=tmp_path / "run", store=tmp_path / "images", errors=tmp_path / "wrong")
    with pytest.raises(tcs.DataError, match="has no labels"):
        tcs.evaluate(dataclasses.replace(config, store=str(images)))
    (row,) = tcs.evaluate(dataclasses.replace(config, labels="folder"))
    assert (row["top1"], row["balanced"], row["best_temperature"]) == (100.0, 100.0, 1.0)
    assert [path.name for path in (tmp_path / "wrong").iterdir()] == [f"{FOLDER}.csv"]
    assert (tmp_path / "wrong" / f"{FOLDER}.csv").read_text() == "path,class,predicted,probability\n"


def test_options_that_mean_nothing_there_are_refused(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for data, options, message in (
        ("test.store", {"labels": "folder"}, "^labels has no effect without images that are no store"),
        ("test.store", {"split": "val"}, "^split has no effect without images that are no store"),
        ("test.store", {"target_key": "x"}, "^target_key has no effect without images that are no store"),
        ("images", {"data": "images"}, "^data goes with a store, and .*images is none"),
        ("images", {"probe": "test.store"}, "^probe goes with a store, and .*images is none"),
        ("images", {"out": "x.json"}, "--out is 'x.json'; its name must end in .csv"),
        ("images", {"workers": 0}, "--workers is 0"),
        ("images", {"temperature": -1.0}, "--temperature is -1.0; it must be above 0"),
    ):
        with pytest.raises(tcs.ConfigError, match=message):
            scored(folder, folder / data, **options)
    with pytest.raises(tcs.DataError, match="'gone' does not exist; DATA must be a folder"):
        scored(folder, "gone")
    with pytest.raises(cache.errors.StoreNotFoundError, match=r"gone\.store is no feature store"):
        scored(folder, tmp_path / "gone.store")


def test_the_temperature_of_a_student_counts(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    make_student(tmp_path / "run", temperature=2.5)
    row = scored(folder, folder / "images", tmp_path / "run")
    assert row["temperature"] == 2.5
    plain = scored(folder, folder / "images", temperature=2.5)
    assert (plain["ece"], plain["top1"]) == (row["ece"], row["top1"])
    assert scored(folder, folder / "images")["ece"] != row["ece"]
