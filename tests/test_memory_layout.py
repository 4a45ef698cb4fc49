"""The memory layout of a teacher's pass: chosen by a table that was measured, recorded before the first shard, and followed ever after."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import pytest
import timm
import torch
from extraction import config, fill, full_at
from safetensors.torch import load_file, save_file
from store_folders import shard_files

import cache
from benchmarks.memory_layout import RESULTS
from tcs.config.extract import ExtractConfig, RecomputeConfig, RepairConfig
from tcs.config.update import UpdateConfig
from tcs.extraction.extract import extract
from tcs.images.decode import decode_image
from tcs.images.stored import rules_of
from tcs.maintenance.recompute import recompute
from tcs.maintenance.repair import repair
from tcs.maintenance.update import update
from tcs.plain_files import load_table
from tcs.teacher.memory_layout import CHANNELS_LAST_FAMILIES, LEAST_GAIN, family_of, is_faster_channels_last
from tcs.teacher.model import load_teacher

torch.set_num_threads(1)
SIDE = 64  # pixels; smaller maps come out the same to the last bit in both layouts


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """26 images and the weights of a small ResNet."""
    folder = tmp_path_factory.mktemp("layout")
    fill(folder / "data", 26)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), folder / "w.safetensors")
    return folder


def wanted(place: pathlib.Path, out: pathlib.Path, **options: Any) -> ExtractConfig:
    plain = {"teacher": "test_resnet", "img_size": SIDE, "dtype": "float32", "batch_size": 8} | options
    return dataclasses.replace(config(place / "data", out, place / "w.safetensors"), **plain)


def layout_of(path: pathlib.Path) -> bool | None:
    return json.loads((path / "manifest.json").read_text())["provenance"]["config"].get("teacher_channels_last")


def as_of_earlier_release(path: pathlib.Path) -> pathlib.Path:
    """The store with the provenance of a release that knew one layout."""
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["provenance"]["config"]["teacher_channels_last"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


def test_the_families_of_the_table_are_those_that_gained_in_every_row_that_was_measured() -> None:
    rows = load_table(RESULTS)
    assert len(rows) >= 40
    gains: dict[str, list[float]] = {}
    for row in rows:
        gains.setdefault(row["family"], []).append(float(row["gain"]))
    assert {family for family, found in gains.items() if min(found) >= LEAST_GAIN} == CHANNELS_LAST_FAMILIES


def test_what_was_not_measured_keeps_the_default_layout() -> None:
    resnet = timm.create_model("test_resnet", num_classes=0)
    assert family_of(resnet) == "resnet"
    assert is_faster_channels_last(resnet, torch.device("cpu"))
    assert not is_faster_channels_last(resnet, torch.device("cuda"))
    assert not is_faster_channels_last(timm.create_model("test_vit", num_classes=0), torch.device("cpu"))
    assert family_of(torch.nn.Conv2d(3, 3, 3)) is None
    assert not is_faster_channels_last(torch.nn.Conv2d(3, 3, 3), torch.device("cpu"))


def test_features_are_those_of_a_plain_loop_in_the_layout_that_is_recorded(
    place: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    stores = {}
    for name, asked in (("default", False), ("channels_last", True), ("unasked", None)):
        stores[name] = cache.open(extract(wanted(place, tmp_path / name, teacher_channels_last=asked)))
    assert [layout_of(store.path) for store in stores.values()] == [False, True, True]
    assert len({store.identity for store in stores.values()}) == 1  # it is what went in
    loaded = load_teacher(wanted(place, tmp_path / "none"))
    images_N3HW = torch.stack([loaded.transform(store_image) for store_image in images_of(stores["default"])])
    model = timm.create_model("test_resnet", num_classes=0, global_pool="avg").eval()
    model.load_state_dict(load_file(place / "w.safetensors"))
    with torch.inference_mode():
        plain_ND = model(images_N3HW).numpy()
    features = {name: store.features("avg").gather(np.arange(len(store))) for name, store in stores.items()}
    for found_ND in features.values():
        np.testing.assert_allclose(found_ND, plain_ND, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(features["channels_last"], features["unasked"])
    assert (features["default"] != features["channels_last"]).any()  # else the tests below see nothing


def images_of(store: cache.Store) -> list[Any]:
    return [decode_image(store.image_bytes(row), rules_of(store)) for row in range(len(store))]


@pytest.mark.parametrize("begun", [False, True])
def test_a_pass_goes_on_in_the_layout_it_was_begun_in(
    place: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    begun: bool,
) -> None:
    whole = extract(wanted(place, tmp_path / "whole", teacher_channels_last=begun))
    for name, later in (("unasked", None), ("other", not begun)):
        with full_at(2, monkeypatch):
            extract(wanted(place, tmp_path / name, teacher_channels_last=begun))
        capsys.readouterr()
        out = extract(wanted(place, tmp_path / name, teacher_channels_last=later))
        assert (f"{out} was begun in " in capsys.readouterr().err) == (name == "other")
        assert shard_files(out) == shard_files(whole)
        assert layout_of(out) is begun
    anew = extract(wanted(place, tmp_path / "other", teacher_channels_last=not begun, overwrite=True))
    assert layout_of(anew) is not begun
    assert shard_files(anew) != shard_files(whole)


def test_a_pass_of_an_earlier_release_goes_on_in_the_default_layout(
    place: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = extract(wanted(place, tmp_path / "whole", teacher_channels_last=False))
    with full_at(2, monkeypatch):
        extract(wanted(place, tmp_path / "s", teacher_channels_last=False))
    as_of_earlier_release(tmp_path / "s")
    assert shard_files(extract(wanted(place, tmp_path / "s"))) == shard_files(whole)


@pytest.mark.parametrize("layout", ["earlier", False, True])
def test_what_is_computed_again_is_computed_in_the_recorded_layout(
    place: pathlib.Path, tmp_path: pathlib.Path, layout: bool | str
) -> None:
    out = extract(wanted(place, tmp_path / "s", teacher_channels_last=layout is True))
    if layout == "earlier":
        as_of_earlier_release(out)
    before = shard_files(out)
    assert recompute(RecomputeConfig(store=str(out), sample=26))["avg"].differing == 0
    (out / "shard-00001.h5").unlink()
    assert repair(RepairConfig(store=str(out))).is_sound
    assert shard_files(out) == before
    (place / "data/c1/25.png").rename(tmp_path / "moved.png")
    try:
        update(UpdateConfig(store=str(out)))
    finally:
        (tmp_path / "moved.png").rename(place / "data/c1/25.png")
    assert layout_of(out) is (layout is True)
