"""timm's hfds/NAME, on local data sets: parquet files, folders, and what datasets saves to disk."""

import io
import pathlib
import pickle
import socket
import sys
from typing import Any

import datasets.config
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from tcs.config.extract import DataConfig
from tcs.errors import DataError
from tcs.images.hfds import open_hfds
from tcs.images.listing import ImageList


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((6, 5, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def rows(count: int, **more: Any) -> Any:
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["z", "b", "a"])}
    images = [{"bytes": png(i), "path": f"{i}.png"} for i in range(count)]
    plain = {"image": images, "label": [i % 3 for i in range(count)]}
    kinds = {name: datasets.Value("string" if isinstance(v[0], str) else "int64") for name, v in more.items()}
    return datasets.Dataset.from_dict(plain | more, features=datasets.Features(features | kinds))


@pytest.fixture
def home(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path


@pytest.fixture
def folder(home: pathlib.Path) -> pathlib.Path:
    (home / "set/data").mkdir(parents=True)
    rows(7).to_parquet(home / "set/data/train-00000-of-00001.parquet")
    rows(4).to_parquet(home / "set/data/validation-00000-of-00001.parquet")
    return home / "set"


def listed(name: object, **options: Any) -> ImageList:
    return open_hfds(DataConfig(data=f"hfds/{name}", **options))


def check_seven(found: ImageList) -> None:
    assert found.keys == tuple(f"{i:08}" for i in range(7))
    assert (found.classes, found.labels) == (("z", "b", "a"), (0, 1, 2, 0, 1, 2, 0))
    assert [found.read(key) for key in found.keys] == [png(i) for i in range(7)]
    assert found.size_bytes() == sum(len(png(i)) for i in range(7))


def test_folder_of_parquet_files_gives_the_stored_bytes(folder: pathlib.Path) -> None:
    found = listed(folder, split="train")
    check_seven(found)
    check_seven(pickle.loads(pickle.dumps(found)))  # noqa: S301 as spawned workers receive it
    assert (found.origin["kind"], found.origin["datasets"]) == ("hfds", datasets.__version__)
    assert len(listed(folder, split="val").keys) == 4
    assert listed(folder, split="train", labels="none").classes == ()


def test_one_file_the_parquet_reader_and_saved_sets(folder: pathlib.Path, home: pathlib.Path) -> None:
    check_seven(listed(folder / "data/train-00000-of-00001.parquet"))
    check_seven(listed("parquet", data_dir=str(folder), split="train"))
    rows(7).save_to_disk(home / "saved")
    check_seven(listed(home / "saved"))
    datasets.DatasetDict({"train": rows(7), "test": rows(2)}).save_to_disk(home / "both")
    check_seven(listed(home / "both", split="train"))


def test_relative_path_is_a_local_folder(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    check_seven(listed("./set", split="training"))


def test_other_columns_and_kinds_of_labels(home: pathlib.Path) -> None:
    made = rows(3, kind=["owl", "", "ant"], code=[10, 9, 10]).rename_column("image", "picture")
    made.to_parquet(home / "x.parquet")
    found = listed(home / "x.parquet", input_key="picture", target_key="kind")
    assert (found.classes, found.labels) == (("ant", "owl"), (1, -1, 0))
    assert listed(home / "x.parquet", input_key="picture", target_key="code").classes == ("9", "10")
    assert listed(home / "x.parquet", input_key="picture").classes == ("z", "b", "a")
    made.remove_columns("label").to_parquet(home / "y.parquet")
    assert listed(home / "y.parquet", input_key="picture").labels == (-1, -1, -1)


def test_bytes_columns_missing_images_and_files(home: pathlib.Path) -> None:
    datasets.Dataset.from_dict({"image": [b"one", b"three"]}).to_parquet(home / "b.parquet")
    found = listed(home / "b.parquet")
    assert ([found.read(key) for key in found.keys], found.size_bytes()) == ([b"one", b"three"], 8)
    (home / "a.png").write_bytes(b"12345")
    images = [
        {"bytes": b"x", "path": None},
        None,
        {"bytes": None, "path": str(home / "a.png")},
        {"bytes": None, "path": "no"},
    ]
    pyarrow.parquet.write_table(pyarrow.table({"image": images}), home / "mixed.parquet")  # a plain struct
    mixed = listed(home / "mixed.parquet")
    assert (mixed.read("00000000"), mixed.read("00000002"), mixed.size_bytes()) == (b"x", b"12345", 6)
    with pytest.raises(OSError, match="the data set has no image in this row"):
        mixed.read("00000001")
    with pytest.raises(OSError, match="No such file"):
        mixed.read("00000003")


def test_class_map_orders_and_leaves_out_by_name(folder: pathlib.Path, home: pathlib.Path) -> None:
    (home / "map.txt").write_text("a\nz\n")
    found = listed(folder, split="train", class_map=str(home / "map.txt"))
    assert found.keys == tuple(f"{i:08}" for i in (0, 2, 3, 5, 6))
    assert (found.labels, found.classes) == ((1, 0, 1, 0, 1), ("a", "z"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "holds the splits train, validation; choose one, as --split train"),
        (
            {"split": "tran"},
            r"--split is 'tran', but .* has no such split \(it has train, validation\)\. Did you mean train",
        ),
        ({"split": "train[:2]"}, r"--split is 'train\[:2\]', but"),
        (
            {"split": "train", "input_key": "imag"},
            r"no column 'imag' \(it has image, label\); name one with --input-key\. Did",
        ),
        (
            {"split": "train", "input_key": "label"},
            r"column label of kind ClassLabel.*; it must hold images, name one with",
        ),
        (
            {"split": "train", "target_key": "kind"},
            r"no column 'kind' \(it has image, label\); name one with --target-key",
        ),
        (
            {"split": "train", "target_key": "image"},
            r"a label is a class, a text or a whole number: name another column",
        ),
    ],
)
def test_what_is_not_there_is_refused(folder: pathlib.Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        listed(folder, **options)


def test_empty_folders_garbage_and_empty_sets_are_one_line(home: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "empty").mkdir()
    with pytest.raises(
        DataError, match=r"empty cannot be loaded \(.* doesn't contain any data files\); correct its name or"
    ):
        listed(home / "empty")
    (home / "x.parquet").write_bytes(b"garbage")
    with pytest.raises(DataError, match=r"x\.parquet cannot be loaded \(.+\); correct its name or its files"):
        listed(home / "x.parquet")
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: {"train": rows(1).select([])})
    with pytest.raises(DataError, match=r"x\.parquet holds no rows; choose another split"):
        listed(home / "x.parquet")
    rows(1).save_to_disk(home / "one")
    with pytest.raises(DataError, match="is one split, None; leave out --split test"):
        listed(home / "one", split="test")


def test_hub_is_asked_only_with_dataset_download(home: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(name: str, **options: object) -> object:
        asked.append((name, options))
        return {"train": rows(7)}

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(
        DataError, match=r"no folder or file org/set here; correct it, or add --dataset-download to take org"
    ):
        listed("org/set")
    assert not asked
    check_seven(listed("org/set", dataset_download=True, data_dir="kept"))
    assert asked == [("org/set", {"cache_dir": "kept"})]


def test_without_datasets_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"reading hfds/x needs datasets: pip install tcs-distill\[data\]$"):
        listed("x")


CARD = """---
licence: mit
configs:
- config_name: default
  data_files:
  - split: train
    path: {path}
---
# Notes, with a link: https://example.org/paper
"""


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was asked of the network, which takes no connection."""
    asked: list[object] = []

    def refuse(*arguments: object, **_: object) -> None:
        asked.append(arguments)
        raise OSError("no network in this test")

    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return asked


@pytest.mark.parametrize(
    "path", ["https://example.org/x.parquet", "[data/*.parquet, 'hf://datasets/a/b/x.parquet']", "s3://b/x"]
)
def test_a_card_that_names_files_elsewhere_asks_no_network(
    folder: pathlib.Path, no_network: list[object], path: str
) -> None:
    (folder / "README.md").write_text(CARD.format(path=path))
    with pytest.raises(
        DataError, match=r"its card .*README\.md names \w+://.*, which is not here; add --dataset-download"
    ):
        listed(folder)
    (folder / "README.md").rename(folder / ".huggingface.yaml")
    with pytest.raises(DataError, match=r"its card .*\.huggingface\.yaml names \w+://"):
        listed(folder)
    assert no_network == []


def test_a_card_of_local_files_and_one_without_a_head_are_read(folder: pathlib.Path, no_network: list[object]) -> None:
    (folder / "README.md").write_text(CARD.format(path="data/train-*.parquet"))
    check_seven(listed(folder))
    (folder / "README.md").write_text("# A folder from https://example.org/set\n---\nhttps://example.org\n---\n")
    check_seven(listed(folder, split="train"))
    assert no_network == []
