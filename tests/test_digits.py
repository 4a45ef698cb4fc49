"""The digit images: the same files everywhere, the split fixed, and a foreign folder left alone."""

import importlib.util
import pathlib
import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tcs.demonstration import demo, digits
from tcs.errors import ArtefactError, ConfigError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return digits.write_digits(tmp_path_factory.mktemp("data") / "digits")


def test_every_image_is_written_once_with_its_label(folder):
    labels = load_digits().target
    paths = sorted(folder.rglob("*.png"), key=lambda path: path.name)
    assert [int(path.stem) for path in paths] == list(range(1797))
    assert [int(path.parent.name) for path in paths] == labels.tolist()
    assert len(list((folder / "train").rglob("*.png"))) == 1297
    assert len(list((folder / "test").rglob("*.png"))) == 500


def test_split_is_pinned():
    # A change would let test images into the embedded teacher's training set: it would have to be made anew.
    test = sorted(int(key[-8:-4]) for key in digits._digit_pixels() if key.startswith("test/"))
    assert test[:8] == PINNED


PINNED = [3, 4, 6, 7, 11, 17, 18, 23]


def test_no_test_image_is_a_train_image():
    by_part = {"train": set(), "test": set()}
    for key, pixels in digits._digit_pixels().items():
        by_part[key.partition("/")[0]].add(pixels.tobytes())
    assert not by_part["train"] & by_part["test"]
    assert len(by_part["train"]) == 1297


def test_pixels_are_the_digits_enlarged(folder):
    values = load_digits().images
    for path in sorted(folder.rglob("00*.png"))[::20]:
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("L", (32, 32))
            small = np.asarray(image, float).reshape(8, 4, 8, 4).mean(axis=(1, 3)) * 16 / 255
        expected = values[int(path.stem)]
        assert np.corrcoef(small.ravel(), expected.ravel())[0, 1] > 0.98
        assert abs(small.mean() - expected.mean()) < 0.3  # bicubic overshoot below 0 is clipped


def test_mean_and_std_are_those_of_the_train_part(folder):
    pixels = np.stack([np.asarray(Image.open(path)) for path in (folder / "train").rglob("*.png")]) / 255
    assert pytest.approx([pixels.mean()] * 3, abs=1e-3) == digits.MEAN
    assert pytest.approx([pixels.std()] * 3, abs=1e-3) == digits.STD


def test_second_call_writes_nothing(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert digits.write_digits(folder) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_interrupted_call_leaves_no_folder_and_the_next_one_finishes(tmp_path, monkeypatch):
    pixels = dict(list(digits._digit_pixels().items())[:5])
    monkeypatch.setattr(digits, "_digit_pixels", lambda: pixels | {"train/0/bad.png": None})
    with pytest.raises(AttributeError):
        digits.write_digits(tmp_path / "digits")
    assert not (tmp_path / "digits").exists()
    monkeypatch.setattr(digits, "_digit_pixels", lambda: pixels)
    digits.write_digits(tmp_path / "digits")
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]
    assert len(list((tmp_path / "digits").rglob("*.png"))) == 5


def test_foreign_folders_are_refused(tmp_path, monkeypatch):
    pixels = dict(list(digits._digit_pixels().items())[:3])
    monkeypatch.setattr(digits, "_digit_pixels", lambda: pixels)
    folder = digits.write_digits(tmp_path / "digits")
    victim = folder / next(iter(pixels))
    Image.new("L", (32, 32)).save(victim)
    with pytest.raises(ArtefactError, match=r"in it has other pixels than the digit images; choose another folder"):
        digits.write_digits(folder)
    victim.unlink()
    with pytest.raises(ArtefactError, match=rf"'.*{victim.name}' is missing or foreign"):
        digits.write_digits(folder)


def test_the_demo_ends_well_where_no_figure_can_be_drawn(tmp_path, monkeypatch, capsys):
    shutil.copytree(pathlib.Path(__file__).parent / "fixtures" / "grid_v1", tmp_path / "grid")
    assert demo._reported(tmp_path) == ["report.md", "report.csv", "accuracy.png"]
    for name in ("accuracy.png", "report.csv", "report.md"):
        (tmp_path / name).unlink()
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(ConfigError, match="is not drawn"):  # by a matplotlib that is there
        demo._reported(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert demo._reported(tmp_path) == ["report.md", "report.csv"]
    assert (tmp_path / "report.csv").exists()
    assert "accuracy.png is not drawn; pip install 'tcs-distill[plots]'" in capsys.readouterr().err
    assert f"{tmp_path}/report.md, {tmp_path}/report.csv.\n" in demo._closing(
        tmp_path, ["report.md", "report.csv"], 1, 0
    )
