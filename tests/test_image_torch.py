"""timm's torch/NAME, on files as torchvision keeps them."""

import io
import pathlib
import pickle
import struct
from typing import Any

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image

from tcs.config.extract import DataConfig
from tcs.errors import DataError
from tcs.images.listing import ImageList
from tcs.images.torchvision import open_torch


def listed(name: str, root: pathlib.Path | None, **options: Any) -> ImageList:
    return open_torch(DataConfig(data=name, data_dir=None if root is None else str(root), **options))


def idx(path: pathlib.Path, values: np.ndarray, kind: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, kind, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(header + values.tobytes())


def write_mnist(root: pathlib.Path, name: str = "MNIST") -> tuple[np.ndarray, np.ndarray]:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    labels = np.array([3, 0, 9, 3, 1], np.uint8)
    for part in ("train", "t10k"):
        idx(root / name / f"raw/{part}-images-idx3-ubyte", pixels if part == "train" else pixels[:2])
        idx(root / name / f"raw/{part}-labels-idx1-ubyte", labels if part == "train" else labels[:2])
    return pixels, labels


@pytest.mark.parametrize(("name", "folder"), [("torch/mnist", "MNIST"), ("TORCH/Fashion_MNIST", "FashionMNIST")])
def test_small_arrays_become_png_by_their_place(tmp_path: pathlib.Path, name: str, folder: str) -> None:
    pixels, labels = write_mnist(tmp_path, folder)
    found = listed(name, tmp_path, split="train")
    assert found.keys == tuple(f"{i:08}" for i in range(5))
    assert found.labels == tuple(labels)
    assert len(found.classes) == 10
    for key, one in zip(found.keys, pixels, strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(found.read(key)))), one)
    assert found.size_bytes() == sum(len(found.read(key)) for key in found.keys)
    assert len(listed(name, tmp_path, split="validation").keys) == len(listed(name, tmp_path, split="test").keys) == 2
    assert (found.origin["kind"], found.origin["split"]) == ("torch", "train")
    assert listed(name, tmp_path, split="train", labels="none").classes == ()


def test_qmnist_has_the_digit_as_its_label(tmp_path: pathlib.Path) -> None:
    targets = np.zeros((3, 8), ">i4")
    targets[:, 0], targets[:, 1] = [4, 7, 4], 99
    idx(tmp_path / "QMNIST/raw/qmnist-test-images-idx3-ubyte", np.zeros((3, 28, 28), np.uint8))
    idx(tmp_path / "QMNIST/raw/qmnist-test-labels-idx2-int", targets, kind=12)
    assert listed("torch/qmnist", tmp_path, split="test").labels == (4, 7, 4)


def test_cifar_is_read_from_torchvisions_batches(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "test_batch").write_bytes(pickle.dumps({"data": pixels.reshape(4, -1), "labels": [1, 0, 1, 1]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["plane", "auto"]}))
    cifar = torchvision.datasets.CIFAR10
    monkeypatch.setattr(cifar, "train_list", [])
    monkeypatch.setattr(cifar, "test_list", [["test_batch", None]])
    monkeypatch.setattr(cifar, "meta", cifar.meta | {"md5": None})
    found = listed("torch/cifar10", tmp_path, split="val")
    assert (found.labels, found.classes) == ((1, 0, 1, 1), ("plane", "auto"))
    image = Image.open(io.BytesIO(found.read("00000002")))
    assert np.array_equal(np.asarray(image), pixels[2].transpose(1, 2, 0))


def test_image_folder_is_the_folder(tmp_path: pathlib.Path) -> None:
    (tmp_path / "train/cat").mkdir(parents=True)
    (tmp_path / "train/cat/1.png").write_bytes(b"1")
    found = listed("torch/image_folder", tmp_path, split="train")
    assert (found.keys, found.classes, found.read("cat/1.png")) == (("cat/1.png",), ("cat",), b"1")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("torch/nope", {}, r"there is no torch/nope; torch/NAME is one of cifar10, cifar100, mnist, "),
        ("torch/cifar", {}, r"Did you mean cifar10"),
        ("torch/mnist", {}, "has the splits train and test, --split is None; name one of them"),
        ("torch/mnist", {"split": "all"}, "--split is all; name one of them"),
        (
            "torch/imagenet",
            {},
            "is not read by that name: its images are files; give their folder as DATA, with --split",
        ),
        ("torch/places365", {}, "listed in a text file; write a CSV table of them"),
        ("torch/mnist", {"split": "train"}, r"cannot be read in .* \(Dataset not found\); correct --data-dir, or add"),
        (
            "torch/cifar100",
            {"split": "train"},
            r"\(Dataset not found or corrupted\); correct --data-dir, or add --dataset-do",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(
    tmp_path: pathlib.Path, name: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        listed(name, tmp_path, **options)


def test_the_folder_must_be_named_and_there(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DataError, match="torch/mnist needs --data-dir, the folder where torchvision keeps it"):
        listed("torch/mnist", None, split="train")
    with pytest.raises(
        DataError, match=r"--data-dir .*nowhere is no folder; give the one with torch/mnist, or add --datase"
    ):
        listed("torch/mnist", tmp_path / "nowhere", split="train")


def test_damaged_files_are_one_line(tmp_path: pathlib.Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / "MNIST/raw/train-images-idx3-ubyte").write_bytes(b"garbage")
    with pytest.raises(DataError, match=r"torch/mnist cannot be read in .* \(.+\); correct --data-dir"):
        listed("torch/mnist", tmp_path, split="train")


def test_nothing_is_fetched_unless_asked(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(self: object) -> None:
        asked.append(1)
        raise OSError("no network here")

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", download)
    with pytest.raises(DataError, match="Dataset not found"):
        listed("torch/mnist", tmp_path, split="train")
    assert not asked
    with pytest.raises(DataError, match=r"torch/mnist cannot be read in .* \(no network here\); try again later"):
        listed("torch/mnist", tmp_path / "new", split="train", dataset_download=True)
    assert asked
