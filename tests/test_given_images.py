"""Stores without images, and --data: the same students, and nothing that the teacher did not see."""

import csv
import pathlib
import shutil
import tarfile
from typing import Any

import pytest
import torch
import yaml
from artefacts import make_store, make_targets
from safetensors.torch import load_file

import cache
from tcs.config.evaluate import EvalConfig, FewshotConfig
from tcs.config.extract import DataConfig
from tcs.config.train import TrainConfig
from tcs.errors import ConfigError, DataError
from tcs.evaluation.students import evaluate
from tcs.grid.run import fewshot
from tcs.images import stored as module
from tcs.images.stored import find_images, given_images
from tcs.training.train import train

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"


def write_sources(folder: pathlib.Path, store: cache.Store) -> None:
    """The images of a store as a folder, a tar of it, and a table whose keys are those of the folder."""
    lines = ["path,key"]
    for row, key in enumerate(store.keys):
        (folder / "images" / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / "images" / key).write_bytes(store.image_bytes(row))
        (folder / "flat").mkdir(exist_ok=True)
        shutil.copy(folder / "images" / key, folder / "flat" / f"{row}.png")
        lines.append(f"flat/{row}.png,{key}")
    (folder / "images.csv").write_text("\n".join(lines) + "\n")
    with tarfile.open(folder / "images.tar", "w") as tar:
        tar.add(folder / "images", arcname=".")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("given")
    for name, seed in (("train", 0), ("test", 9)):
        write_sources(folder / name, make_store(folder / f"{name}.store", seed=seed, rows=60 if seed == 0 else 30))
        make_store(folder / f"{name}-bare.store", seed=seed, rows=60 if seed == 0 else 30, images="none")
    make_targets(folder)
    (folder / "pca.h5").rename(folder / "whole.h5")
    (folder / "pca.safetensors").unlink()
    make_targets(folder, "train-bare.store")
    return folder


def run(folder: pathlib.Path, out: pathlib.Path, **options: Any) -> dict[str, torch.Tensor]:
    settings = {"store": "train-bare.store", "targets": "pca.h5"} | options
    paths = {name: str(folder / value) for name, value in settings.items() if name in ("store", "targets")}
    common = {"models": (STUDENT,), "method": "tcs-probe", "shots": 4, "steps": 6, "batch_size": 16, "img_size": 16}
    (path,) = train(TrainConfig.from_options({"out": str(out)} | common | settings | paths))  # type: ignore[arg-type]
    return load_file(path / "folded.safetensors")


def test_students_are_those_of_a_store_with_its_images(made: pathlib.Path, tmp_path: pathlib.Path) -> None:
    expected = run(made, tmp_path / "whole", store="train.store", targets="whole.h5")
    for name in ("images", "images.tar", "images.csv"):
        for share in (0.25, 0.0):
            found = run(made, tmp_path / f"{name} {share}", data=str(made / "train" / name), resident_share=share)
            assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("kept", ["original", "resized:16"])
def test_a_store_with_images_is_not_given_others(made: pathlib.Path, tmp_path: pathlib.Path, kept: str) -> None:
    store = make_store(tmp_path / "own.store", images=kept)
    with pytest.raises(ConfigError, match=rf"--data .* is for a store without images, and .* \({kept}\).*leave it out"):
        find_images(store, str(made / "train" / "images"))
    assert find_images(store, None)(3) == store.image_bytes(3)


def test_a_store_without_images_asks_for_them(made: pathlib.Path) -> None:
    with pytest.raises(DataError, match=r"holds no images .* give them with --data"):
        find_images(cache.open(made / "train-bare.store"), None)


def test_images_that_are_missing_changed_or_unreadable_are_named(made: pathlib.Path, tmp_path: pathlib.Path) -> None:
    store = cache.open(made / "train-bare.store")
    images = shutil.copytree(made / "train" / "images", tmp_path / "images")
    read = given_images(store, str(images))
    (images / store.keys[5]).write_bytes((images / store.keys[6]).read_bytes())
    with pytest.raises(
        DataError, match=rf"image '{store.keys[5]}' of .* is not the one that the teacher saw \(its conten"
    ):
        read(5)
    with pytest.raises(DataError, match=f"image '{store.keys[5]}' .* is not the one that the teacher saw"):
        run(made, tmp_path / "run", data=str(images), resident_share=0.0, workers=2)
    (images / store.keys[5]).unlink()
    with pytest.raises(DataError, match=rf"image '{store.keys[5]}' of .* cannot be read \(No such file"):
        read(5)
    with pytest.raises(DataError, match=rf"lacks 1 images of .*, such as '{store.keys[5]}'; give the images that the"):
        given_images(store, str(images))
    with pytest.raises(DataError, match="'nowhere' does not exist"):
        given_images(store, "nowhere")


def test_options_of_the_recorded_source_are_those_that_say_where_images_are(
    made: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, images = cache.open(made / "train-bare.store"), made / "train"
    recorded = DataConfig(
        data="old.csv", data_dir="/gone", input_key="path", target_key="label", class_map="gone.txt", labels="folder"
    )
    monkeypatch.setattr(module, "recorded_data", lambda provenance: recorded)
    for name in ("images", "images.tar", "images.csv"):
        assert cache.content_hash(given_images(store, str(images / name))(7)) == store.hashes_N16[7].tobytes()
    recorded = DataConfig(data="old", split="images")
    (images.parent / "splits").mkdir()
    shutil.copytree(images / "images", images.parent / "splits" / "images")
    assert given_images(store, str(images.parent / "splits"))(7)


def test_students_are_scored_on_a_store_without_images(made: pathlib.Path, tmp_path: pathlib.Path) -> None:
    run(made, tmp_path / "run", store="train.store", targets="whole.h5")
    rows = [
        evaluate(EvalConfig(run=str(tmp_path / "run"), store=str(made / name), data=data))[0]
        for name, data in (("test.store", None), ("test-bare.store", str(made / "test" / "images.tar")))
    ]
    assert rows[0]["top1"] == rows[1]["top1"]
    with pytest.raises(DataError, match=r"holds no images .* give them with --data"):
        evaluate(EvalConfig(run=str(tmp_path / "run"), store=str(made / "test-bare.store")))


def test_a_grid_of_stores_without_images_has_the_same_results(made: pathlib.Path, tmp_path: pathlib.Path) -> None:
    results = []
    for bare, targets in (("", "whole.h5"), ("-bare", "pca.h5")):
        recipe = {
            "train": str(made / f"train{bare}.store"),
            "test": str(made / f"test{bare}.store"),
            "targets": str(made / targets),
            "students": [STUDENT],
            "methods": ["labels", "tcs-probe"],
            "shots": [4],
            "seeds": [0],
            "unlabelled": ["all"],
            "references": ["same-pixels"],
            "options": {"img_size": 16, "steps": 3, "batch_size": 16, "resident_share": 0.0},
        }
        if bare:
            recipe |= {"data": str(made / "train" / "images"), "test_data": str(made / "test" / "images")}
        (tmp_path / f"recipe{bare}.yaml").write_text(yaml.safe_dump(recipe))
        out = tmp_path / f"grid{bare}"
        assert fewshot(FewshotConfig(recipe=str(tmp_path / f"recipe{bare}.yaml"), out=str(out))) == 0
        with (out / "results.csv").open(newline="") as file:
            results.append([(row["model"], row["method"], row["top1"]) for row in csv.DictReader(file)])
    assert len(results[0]) == 3
    assert results[0] == results[1]
