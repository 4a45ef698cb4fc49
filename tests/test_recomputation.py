"""A store against its data set and its teacher: what has changed is named, and rows computed again are the same."""

import dataclasses
import json
import pathlib
import shutil

import h5py
import numpy as np
import pytest
import timm
import torch
from artefacts import make_store, png
from safetensors.torch import save_file

import cache
from tcs.cli import main
from tcs.config.extract import ExtractConfig, RecomputeConfig
from tcs.errors import ArtefactError, ConfigError, DataError
from tcs.extraction.extract import extract
from tcs.maintenance.recompute import recompute
from tcs.maintenance.verify import measure_drift

torch.set_num_threads(1)
BAD = "c0/4.png"


def save_teacher(path, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), path)


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recompute")
    for i in range(30):
        path = folder / f"data/c{i % 2}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(np.random.default_rng(i).integers(0, 256, (24, 24, 3), dtype=np.uint8)))
    (folder / "data" / BAD).write_bytes(b"no image")
    save_teacher(folder / "w.safetensors", 0)
    config = ExtractConfig(
        data=str(folder / "data"),
        out=str(folder / "x.store"),
        teacher="test_resnet",
        teacher_checkpoint=str(folder / "w.safetensors"),
        readouts=("avg", "pool"),
        img_size=32,
        rows_per_shard=12,
        batch_size=8,
        workers=0,
        max_bad=1,
    )
    extract(config)
    extract(dataclasses.replace(config, out=str(folder / "bare.store"), images="none", dtype="float32"))
    return folder


@pytest.fixture
def data(origin, tmp_path):
    return pathlib.Path(shutil.copytree(origin / "data", tmp_path / "data"))


def test_the_data_set_it_was_made_from_has_not_drifted(origin):
    drift = measure_drift(cache.open(origin / "x.store"), str(origin / "data"))
    assert drift.is_none
    assert drift.describe() == [f"{origin / 'data'}: all 29 images are those that the store was made from."]


def test_changed_missing_and_new_images_are_named(origin, data):
    (data / "c1/1.png").write_bytes(png(np.zeros((8, 8, 3), np.uint8)))
    (data / "c1/3.png").unlink()
    (data / "c1/5.png").unlink()
    (data / "c1/5.png").symlink_to("nowhere.png")
    for i in range(12):
        (data / f"c0/new{i}.png").write_bytes(b"x")
    drift = measure_drift(cache.open(origin / "x.store"), str(data))
    assert (drift.changed, drift.missing) == (("c1/1.png",), ("c1/3.png", "c1/5.png"))
    assert drift.new == tuple(f"c0/new{i}.png" for i in range(12))
    lines = drift.describe()
    assert lines[0] == f"{data}: 1 image has changed: c1/1.png"
    assert lines[1] == f"{data}: 2 images are missing: c1/3.png, c1/5.png"
    assert lines[2].startswith(f"{data}: 12 images are new: c0/new0.png, ")
    assert lines[2].endswith("c0/new9.png and 2 more")
    assert drift.to_json()["missing"] == ["c1/3.png", "c1/5.png"]


def test_a_store_that_records_no_options_is_compared_all_the_same(tmp_path, data):
    store = make_store(tmp_path / "y.store", rows=3)
    drift = measure_drift(store, str(data))
    assert (len(drift.missing), len(drift.new), drift.changed) == (3, 30, ())


@pytest.mark.parametrize("name", ["x.store", "bare.store"])
@pytest.mark.parametrize("sample", [1, 5, 1000])
def test_rows_computed_again_are_equal_to_the_last_bit(origin, name, sample):
    found = recompute(RecomputeConfig(store=str(origin / name), sample=sample))
    assert set(found) == {"avg", "pool"}
    for error in found.values():
        assert error.rows == min(sample, 29)
        assert (error.max_abs, error.mean_abs, error.max_rel, error.mean_rel, error.differing) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("method", ["orthogonal", "pca"])
def test_projected_readouts_are_computed_again_with_the_stored_matrix(origin, tmp_path, method):
    options = dict(cache.read_manifest(origin / "bare.store").provenance["config"])
    options |= {"out": str(tmp_path / "p.store"), "readouts": ("avg",), "project": {"avg": 5}, "projection": method}
    extract(ExtractConfig(**options))
    found = recompute(RecomputeConfig(store=str(tmp_path / "p.store")))
    assert (found["avg"].rows, found["avg"].max_abs) == (29, 0)


def test_what_differs_is_measured(origin, tmp_path):
    store = pathlib.Path(shutil.copytree(origin / "bare.store", tmp_path / "x.store"))
    with h5py.File(store / "shard-00000.h5", "r+") as file:
        row_D = file["features/avg"][3]
        file["features/avg"][3, 0] = row_D[0] + 1
    manifest = json.loads((store / "manifest.json").read_text())
    size = (store / "shard-00000.h5").stat().st_size
    manifest["shards"][0]["bytes"] = size
    (store / "manifest.json").write_text(json.dumps(manifest))
    found = recompute(RecomputeConfig(store=str(store), sample=1000))
    assert found["avg"].max_abs == pytest.approx(1, abs=1e-4)
    assert found["avg"].mean_abs == pytest.approx(1 / (29 * len(row_D)), rel=1e-3)
    assert found["avg"].max_rel == pytest.approx(1 / np.linalg.norm(row_D), rel=1e-3)
    assert found["avg"].differing == pytest.approx(1 / (29 * len(row_D)))
    assert found["pool"].max_abs == 0
    assert "readout avg: 29 rows computed again; error of a value 1 at most" in found["avg"].describe("avg")


def test_another_teacher_is_refused_by_the_field_that_differs(origin, tmp_path):
    save_teacher(tmp_path / "other.safetensors", 1)
    config = RecomputeConfig(store=str(origin / "x.store"), teacher_checkpoint=str(tmp_path / "other.safetensors"))
    with pytest.raises(
        ArtefactError, match=r"teacher_weights is '.*' in the store and '.*' for this teacher, so it is"
    ):
        recompute(config)
    store = pathlib.Path(shutil.copytree(origin / "x.store", tmp_path / "x.store"))
    manifest = json.loads((store / "manifest.json").read_text())
    manifest["provenance"]["config"]["mean"] = [0.1, 0.1, 0.1]
    (store / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtefactError, match=r"preprocessing.mean is \[.*\] in the store and \[0.1, 0.1, 0.1\]"):
        recompute(RecomputeConfig(store=str(store)))


def test_images_that_have_changed_are_named_and_stored_ones_serve_instead(origin, data, tmp_path, capsys):
    for path in data.rglob("*.png"):
        path.write_bytes(png(np.zeros((8, 8, 3), np.uint8)))
    with pytest.raises(DataError, match=r"5 of 5 sampled images are not those that the store was made from \(first: c"):
        recompute(RecomputeConfig(store=str(origin / "x.store"), data=str(data), sample=5))
    stores = {name: pathlib.Path(shutil.copytree(origin / name, tmp_path / name)) for name in ("x.store", "bare.store")}
    for store in stores.values():
        manifest = json.loads((store / "manifest.json").read_text())
        manifest["provenance"]["config"]["data"] = str(tmp_path / "gone")
        (store / "manifest.json").write_text(json.dumps(manifest))
    found = recompute(RecomputeConfig(store=str(stores["x.store"]), sample=1000))
    assert found["avg"].max_abs == 0
    assert (
        f"{tmp_path / 'gone'} is not here; the images kept in {stores['x.store']} are used." in capsys.readouterr().err
    )
    with pytest.raises(
        ConfigError, match=r"which is not here, and keeps no original images \(images: none\); say with"
    ):
        recompute(RecomputeConfig(store=str(stores["bare.store"])))
    found = recompute(RecomputeConfig(store=str(stores["bare.store"]), data=str(origin / "data")))
    assert found["avg"].max_abs == 0


def verify_command(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["cache", "verify", *map(str, arguments)])
    return ended.value.code, capsys.readouterr()


def test_the_command_does_both_and_says_so(origin, data, capsys):
    code, output = verify_command(capsys, origin / "x.store", "--against", data, "--teacher", "--sample", 4)
    lines = output.out.splitlines()
    assert (code, len(lines)) == (0, 4)
    assert "is sound" in lines[0]
    assert "all 29 images are those" in lines[1]
    assert lines[2].startswith("readout avg: 4 rows computed again; error of a value 0 at most, 0 in the mean;")
    (data / "c1/1.png").unlink()
    code, output = verify_command(capsys, origin / "x.store", "--against", data, "--teacher", "--json")
    found = json.loads(output.out)
    assert code == 1
    assert (found["sound"], found["against"]["missing"]) == (True, ["c1/1.png"])
    assert found["recomputed"]["pool"]["differing"] == 0


def test_options_without_sense_are_refused(origin, capsys):
    with pytest.raises(ConfigError, match="--sample is 0; it must be 1 or more"):
        RecomputeConfig(store="x", sample=0)
    code, output = verify_command(capsys, origin / "x.store", "--tolerance", "-1")
    assert (code, output.err) == (1, "Error: --tolerance is -1.0; it must be 0 or more.\n")
