"""DATA of every kind by one function, and stores that do not depend on the kind."""

import csv
import pathlib
import tarfile
from typing import Any

import datasets
import numpy as np
import pytest
from artefacts import png
from extraction import SIDE

import cache
from tcs.cli import main
from tcs.config.extract import DataConfig, ExtractConfig
from tcs.errors import ConfigError, DataError
from tcs.extraction.extract import extract
from tcs.images.sources import open_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    root = tmp_path_factory.mktemp("data") / "set"
    for i in range(12):
        path = root / f"c{i % 3 * 5}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(np.random.default_rng(i).integers(0, 256, (20, 24, 3), dtype=np.uint8)))
    (root / "c0/broken.png").write_bytes(b"no image")
    return root


def store(data: pathlib.Path | str, out: pathlib.Path, teacher: pathlib.Path, **options: Any) -> cache.Store:
    plain = {"img_size": SIDE, "rows_per_shard": 5, "batch_size": 4, "workers": 0, "max_bad": 2}
    made = ExtractConfig(
        data=str(data), out=str(out), teacher="test_vit", teacher_checkpoint=str(teacher), **(plain | options)
    )
    return cache.open(extract(made))


def write_tar(folder: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
    with tarfile.open(path, "w") as archive:
        for file in sorted(folder.rglob("*.png"), reverse=True):
            archive.add(file, file.relative_to(folder).as_posix())
    return path


def write_csv(folder: pathlib.Path, path: pathlib.Path, *extra: str) -> pathlib.Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["label", "path"])
        files = sorted(folder.rglob("*.png"), reverse=True)
        writer.writerows([each.parent.name, each.relative_to(folder)] for each in files)
        writer.writerows(["c0", name] for name in extra)
    return path


def test_folder_tar_and_table_of_the_same_images_give_the_same_store(
    folder: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    first = store(folder, tmp_path / "folder", teacher)
    by_tar = store(write_tar(folder, tmp_path / "x.tar"), tmp_path / "tar", teacher, workers=2)
    by_csv = store(write_csv(folder, tmp_path / "x.csv"), tmp_path / "csv", teacher, data_dir=str(folder))
    assert len(first) == 12
    for other, kind in ((by_tar, "tar"), (by_csv, "csv")):
        assert other.identity == first.identity
        assert (other.keys, other.classes) == (first.keys, ("c0", "c5", "c10"))
        assert np.array_equal(other.labels_N, first.labels_N)
        assert np.array_equal(other.hashes_N16, first.hashes_N16)
        assert np.array_equal(other.features()[:], first.features()[:])
        assert [other.image_bytes(row) for row in range(12)] == [first.image_bytes(row) for row in range(12)]
        assert [entry.key for entry in other.manifest.quarantine] == ["c0/broken.png"]
        assert other.manifest.provenance["data"]["kind"] == kind


def test_hugging_face_rows_of_the_same_images_differ_in_their_keys_alone(
    folder: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    first = store(folder, tmp_path / "folder", teacher)
    plain = open_images(DataConfig(data=str(folder)))
    images = [{"bytes": plain.read(key), "path": None} for key in plain.keys]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(plain.classes))})
    made = datasets.Dataset.from_dict({"image": images, "label": list(plain.labels)}, features=features)
    made.to_parquet(tmp_path / "x.parquet")
    other = store(f"hfds/{tmp_path}/x.parquet", tmp_path / "hfds", teacher, data_dir=str(tmp_path / "kept"), workers=2)
    assert other.keys == [f"{plain.keys.index(key):08}" for key in first.keys]
    assert other.classes == first.classes
    assert np.array_equal(other.labels_N, first.labels_N)
    assert np.array_equal(other.hashes_N16, first.hashes_N16)
    assert np.array_equal(other.features()[:], first.features()[:])


def test_missing_image_of_a_table_is_quarantined(
    folder: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    table = write_csv(folder, tmp_path / "x.csv", "gone.png")
    with pytest.raises(
        DataError, match=r"2 of 14 images are bad, .* gone\.png \(cannot be read \(No such file or direc"
    ):
        store(table, tmp_path / "s", teacher, data_dir=str(folder), max_bad=1)
    assert len(store(table, tmp_path / "s", teacher, data_dir=str(folder))) == 12


def test_notes_are_said(
    folder: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "map.txt").write_text("c5\nc0\n")
    made = store(folder, tmp_path / "s", teacher, class_map=str(tmp_path / "map.txt"))
    assert "4 images of 1 classes that --class-map does not name are left out." in capsys.readouterr().err
    assert (made.classes, len(made)) == (("c5", "c0"), 8)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("tfds/mnist", "is a stream: its images have no place .*; save its images into one folder per class"),
        ("wds/x", "is a stream: .*; unpack its tars into a folder, or give one of them as DATA"),
        ("HFIDS/x", "is a stream: .*; read it with random access as hfds/"),
        ("x.tar.gz", "is a compressed archive; unpack it and give the folder, or pack it again as a plain .tar"),
        ("x.zip", "is a compressed archive"),
        (
            "nowhere",
            "'nowhere' does not exist; DATA must be a folder, a .tar, a .csv, a .parquet, torch/NAME or hfds/NAME",
        ),
        ("", "'' does not exist; DATA must be a folder"),
        ("x" * 5000, r"x{200} cannot be read \(File name too long\); correct DATA"),
        ("hfds/", "hfds/ names no data set; give a folder, a .parquet file or a name on the Hub"),
        ("hfds/x.csv", r"hfds/x\.csv names no data set; a CSV table is DATA itself"),
        ("torch/", "there is no torch/; torch/NAME is one of"),
    ],
)
def test_what_is_no_source_is_refused(data: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_images(DataConfig(data=data, data_dir="x" if data == "torch/" else None))


def test_file_of_another_kind_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"notes\.txt' is a file of another kind; DATA must be a folder"):
        open_images(DataConfig(data=str(tmp_path / "notes.txt")))


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (".", {"data_dir": "x"}, r"--data-dir x has no meaning for a folder of images such as \.; leave it out"),
        (".", {"dataset_download": True}, "--dataset-download has no meaning for a folder"),
        ("x.tar", {"input_key": "a"}, "--input-key a has no meaning for a tar of images such as x.tar"),
        ("x.csv", {"split": "train"}, "--split train has no meaning for a table of paths"),
        ("x.csv", {"labels": "folder"}, "--labels folder has no meaning for a table of paths"),
        ("torch/mnist", {"class_map": "x"}, "--class-map x has no meaning for a data set of torchvision"),
        ("hfds/x", {"labels": "folder"}, "--labels folder has no meaning for a Hugging Face data set"),
    ],
)
def test_options_without_a_meaning_are_refused(data: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_images(DataConfig(data=data, **options))


def test_folder_of_any_name_is_a_folder(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "x.tar").symlink_to(folder)
    assert open_images(DataConfig(data=str(tmp_path / "x.tar"))).classes == ("c0", "c5", "c10")
    with pytest.raises(
        ConfigError, match="--labels none reads no labels, so it excludes --target-key; give one of them"
    ):
        DataConfig(data="x.csv", labels="none", target_key="kind")


def test_command_line_passes_the_options_on(
    folder: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "x.csv"
    table.write_text("".join(f"{name}\n" for name in ("file,kind", "c0/0.png,a", "c5/1.png,b", "c10/2.png,a")))
    (tmp_path / "map.txt").write_text("b\na\n")
    options = ["--data-dir", folder, "--input-key", "file", "--target-key", "kind", "--class-map", tmp_path / "map.txt"]
    options += ["--teacher", "test_vit", "--teacher-checkpoint", teacher, "--img-size", SIDE, "-j", 0, "--json"]
    with pytest.raises(SystemExit) as end:
        main(["extract", str(table), "--out", str(tmp_path / "s"), *map(str, options)])
    assert end.value.code == 0
    made = cache.open(tmp_path / "s")
    assert (made.classes, made.labels_N.tolist()) == (("b", "a"), [1, 0, 1])
    with pytest.raises(SystemExit) as end:
        main(["extract", str(folder), "--out", str(tmp_path / "t"), "--teacher", "test_vit", "--dataset-download"])
    assert end.value.code == 1
    assert capsys.readouterr().err.endswith(f"no meaning for a folder of images such as {folder}; leave it out.\n")
