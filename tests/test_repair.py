"""Repair: exactly the bad shards are extracted again, to the same bytes, and nothing is discarded that cannot be made."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest
import timm
import torch
from artefacts import png
from safetensors.torch import save_file

import cache
from cache import errors
from tcs.cli import main
from tcs.config.extract import ExtractConfig, RecomputeConfig, RepairConfig
from tcs.errors import ArtefactError, ConfigError, DataError, ModelError
from tcs.extraction.extract import extract
from tcs.maintenance.recompute import recompute
from tcs.maintenance.repair import repair

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """A folder with 24 images, weights, and a store of three shards made from them with one bad image left out."""
    folder = tmp_path_factory.mktemp("repair")
    for i in range(24):
        path = folder / f"data/c{i % 2}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(np.random.default_rng(i).integers(0, 256, (24, 24, 3), dtype=np.uint8)))
    (folder / "data/c0/4.png").write_bytes(b"no image")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), folder / "w.safetensors")
    extract(
        ExtractConfig(
            data=str(folder / "data"),
            out=str(folder / "x.store"),
            teacher="test_resnet",
            teacher_checkpoint=str(folder / "w.safetensors"),
            img_size=32,
            rows_per_shard=8,
            batch_size=4,
            workers=0,
            max_bad=1,
        )
    )
    return folder


@pytest.fixture
def store(origin, tmp_path):
    return pathlib.Path(shutil.copytree(origin / "x.store", tmp_path / "x.store"))


def flip(path, at=-1):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def shards(store):
    return {path.name: path.read_bytes() for path in store.glob("shard-*.h5")}


def places(store):
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in store.glob("shard-*.h5")}


def harm_metadata(store):
    flip(store / "shard-00001.h5", 40)


def harm_several(store):
    flip(store / "shard-00000.h5")
    (store / "shard-00001.h5").write_bytes((store / "shard-00001.h5").read_bytes()[:1000])


def harm_swap(store):
    (store / "shard-00000.h5").rename(store / "a")
    (store / "shard-00001.h5").rename(store / "shard-00000.h5")
    (store / "a").rename(store / "shard-00001.h5")


HARMS = {
    "a byte": (lambda store: flip(store / "shard-00001.h5"), ["shard-00001.h5"]),
    "a byte of HDF5's own": (harm_metadata, ["shard-00001.h5"]),
    "cut and flipped": (harm_several, ["shard-00000.h5", "shard-00001.h5"]),
    "gone": (lambda store: (store / "shard-00002.h5").unlink(), ["shard-00002.h5"]),
    "swapped": (harm_swap, ["shard-00000.h5", "shard-00001.h5"]),
}


@pytest.mark.parametrize("name", HARMS)
def test_bad_shards_are_made_again_byte_for_byte_and_the_others_are_not_touched(store, origin, capsys, name):
    harm, bad = HARMS[name]
    harm(store)
    before, manifest = places(store), cache.read_manifest(store)
    result = repair(RepairConfig(store=str(store)))
    assert result.is_sound
    assert shards(store) == shards(origin / "x.store")
    after = places(store)
    assert {file for file in after if after[file] != before.get(file)} == set(bad)
    mended = cache.read_manifest(store)
    assert (mended.identity, mended.shards, mended.quarantine) == (
        manifest.identity,
        manifest.shards,
        manifest.quarantine,
    )
    assert mended.gate == manifest.gate
    said = capsys.readouterr().err
    assert f"{len(bad)} shards written again, equal to the former ones byte for byte." in said
    assert all(f"{store / file}: " in said for file in bad)


def test_a_sound_store_is_left_alone(store, capsys):
    before = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in store.iterdir()}
    assert repair(RepairConfig(store=str(store))).is_sound
    assert capsys.readouterr().err == f"{store} is sound; nothing to repair.\n"
    assert {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in store.iterdir()} == before


def test_a_repair_that_is_cut_short_is_taken_up_by_the_next(store, origin, monkeypatch):
    harm_several(store)
    whole = cache.StoreWriter.write_shard

    def stop_at_the_second(writer, index, rows):
        if index == 1:
            raise KeyboardInterrupt
        whole(writer, index, rows)

    monkeypatch.setattr(cache.StoreWriter, "write_shard", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        repair(RepairConfig(store=str(store)))
    monkeypatch.undo()
    found = cache.verify(store)
    assert (found.state, found.pending, found.problems) == ("open", ("shard-00001.h5",), ())
    assert repair(RepairConfig(store=str(store))).is_sound
    assert shards(store) == shards(origin / "x.store")


def test_a_gate_that_a_kill_left_out_is_made_up_for(store, origin, monkeypatch):
    harm_several(store)

    def stop(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("tcs.extraction.extract.add_gate", stop)
    with pytest.raises(KeyboardInterrupt):
        repair(RepairConfig(store=str(store)))
    monkeypatch.undo()
    assert cache.read_manifest(store).gate is None
    assert repair(RepairConfig(store=str(store))).is_sound
    assert cache.read_manifest(store).gate == cache.read_manifest(origin / "x.store").gate


def test_the_images_and_weights_may_have_moved(store, origin, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(origin / "data", moved / "data")
    shutil.copy(origin / "w.safetensors", moved / "v.safetensors")
    manifest = json.loads((store / "manifest.json").read_text())
    manifest["provenance"]["config"] |= {"data": "nowhere", "teacher_checkpoint": "nothing.safetensors"}
    (store / "manifest.json").write_text(json.dumps(manifest))
    harm_several(store)
    damaged = shards(store)
    with pytest.raises(
        ConfigError, match="was extracted from nowhere, which is not here; say where it is now with --data"
    ):
        repair(RepairConfig(store=str(store)))
    with pytest.raises(ConfigError, match=r"from nothing\.safetensors, .* with --teacher-checkpoint"):
        repair(RepairConfig(store=str(store), data=str(moved / "data")))
    assert shards(store) == damaged
    options = {"data": str(moved / "data"), "teacher_checkpoint": str(moved / "v.safetensors")}
    assert repair(RepairConfig(store=str(store), **options, device="cpu", workers=0)).is_sound
    assert shards(store) == shards(origin / "x.store")


def test_nothing_is_discarded_where_the_same_cannot_be_made_again(store, origin, tmp_path):
    harm_several(store)
    before = shards(store)
    data = shutil.copytree(origin / "data", tmp_path / "data")
    (data / "c1/1.png").write_bytes(png(np.zeros((9, 9, 3), dtype=np.uint8)))
    with pytest.raises(errors.IdentityError, match=r"inputs of shard-00000\.h5, shard-00001\.h5 are no longer those"):
        repair(RepairConfig(store=str(store), data=str(data)))
    shutil.copy(origin / "data/c1/1.png", data / "c1/1.png")
    (data / "c1/23.png").unlink()
    with pytest.raises(errors.IdentityError, match=r"keys\[.*\] is .* in the store \(24 keys\)"):
        repair(RepairConfig(store=str(store), data=str(data)))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(errors.IdentityError, match=r"teacher_weights is .* in the store and"):
        repair(RepairConfig(store=str(store), teacher_checkpoint=str(tmp_path / "other.safetensors")))
    assert shards(store) == before
    assert cache.read_manifest(store).state == "closed"


def test_an_image_that_cannot_be_read_any_more_is_named(store, origin, tmp_path, monkeypatch):
    harm_several(store)
    data = shutil.copytree(origin / "data", tmp_path / "data")
    before = shards(store)
    (data / "c1/1.png").unlink()
    (data / "c1/1.png").symlink_to(tmp_path / "nothing.png")
    with pytest.raises(DataError, match=r"the image c1/1\.png cannot be read \(.*\); restore it, or say with --data"):
        repair(RepairConfig(store=str(store), data=str(data)))
    assert shards(store) == before


def change_manifest(store, **changes):
    value = json.loads((store / "manifest.json").read_text())
    (store / "manifest.json").write_text(json.dumps(value | changes))


def test_a_damaged_manifest_is_made_again_from_its_own_record(store, origin):
    value = json.loads((store / "manifest.json").read_text())
    value["plan"]["keys"][0] = "c0/changed.png"
    change_manifest(store, plan=value["plan"])
    before = places(store)
    assert repair(RepairConfig(store=str(store))).is_sound
    assert places(store) == before
    assert cache.read_manifest(store).identity == cache.read_manifest(origin / "x.store").identity
    change_manifest(store, identity="0" * 32)
    assert repair(RepairConfig(store=str(store))).is_sound
    assert places(store) == before


def test_a_lost_manifest_is_made_again_by_the_extraction_itself(store, origin):
    config = ExtractConfig(**{**cache.read_manifest(origin / "x.store").provenance["config"], "out": str(store)})
    config = dataclasses.replace(config, readouts=tuple(config.readouts))
    before = places(store)
    (store / "manifest.json").write_bytes(b'{"format": "tcs-fea')
    with pytest.raises(
        ArtefactError, match=r"manifest\.json cannot be read \(.*\), so the options .* are lost; delete it"
    ):
        repair(RepairConfig(store=str(store)))
    with pytest.raises(errors.CorruptStoreError, match=r"is not readable as JSON .* delete this file and rerun"):
        extract(config)
    (store / "manifest.json").unlink()
    extract(config)
    assert places(store) == before
    assert cache.verify(store).is_sound
    (store / "manifest.json").write_bytes(b"")
    extract(dataclasses.replace(config, overwrite=True))
    assert shards(store) == shards(origin / "x.store")


def test_shards_without_manifest_that_are_of_another_plan_are_not_touched(store, origin):
    config = ExtractConfig(**{**cache.read_manifest(origin / "x.store").provenance["config"], "out": str(store)})
    (store / "manifest.json").unlink()
    before = places(store)
    with pytest.raises(errors.IdentityError, match="has lost its manifest, and none of its 3 shards fits this command"):
        extract(dataclasses.replace(config, readouts=("pool",)))
    assert places(store) == before


def test_a_store_that_records_no_extraction_is_refused(store):
    harm_several(store)
    before = shards(store)
    for provenance, message in [
        ({}, "does not record the options of a tcs extract run, .*; delete the files that tcs cache verify names"),
        ({"config": {"data": "x", "zoom": 3}}, "was extracted with the option zoom, which this release does not know"),
        ({"config": {"data": "x", "teacher": "t", "workers": -1}}, r"records options that make no sense \(--workers"),
        ({"config": {"data": "x", "teacher": "t", "workers": "two"}}, "records options that make no sense"),
        ({"config": {"data": "x"}}, "records options that make no sense"),
    ]:
        change_manifest(store, provenance=provenance)
        with pytest.raises(ArtefactError, match=message):
            repair(RepairConfig(store=str(store)))
    with pytest.raises(ConfigError, match="--workers is -1; it must be 0 or more"):
        RepairConfig(store="x", workers=-1)
    assert shards(store) == before


def test_a_file_that_is_none_of_the_stores_is_left_to_its_owner(store, capsys):
    shutil.copy(store / "shard-00000.h5", store / "shard-00009.h5")
    with pytest.raises(SystemExit) as ended:
        main(["cache", "repair", str(store)])
    assert ended.value.code == 1
    assert "belongs to no part of it; move it away" in capsys.readouterr().out
    assert (store / "shard-00009.h5").exists()


def test_the_command_repairs_and_says_so(store, origin, capsys):
    harm_several(store)
    with pytest.raises(SystemExit) as ended:
        main(["cache", "repair", str(store), "--json"])
    output = capsys.readouterr()
    assert ended.value.code == 0
    assert json.loads(output.out)["sound"] is True
    assert shards(store) == shards(origin / "x.store")


def test_code_that_a_store_names_is_not_run(store, tmp_path, monkeypatch):
    """A store is data: a teacher that is a Python function is imported only where the user names it."""
    (tmp_path / "evil.py").write_text("raise SystemExit('the code of the store was run')\n")
    monkeypatch.chdir(tmp_path)
    value = json.loads((store / "manifest.json").read_text())
    value["provenance"]["config"]["teacher"] = "evil:make"
    change_manifest(store, **value)
    with pytest.raises(ModelError, match="Python code that only you can ask for"):
        recompute(RecomputeConfig(store=str(store)))
    harm_several(store)
    before = shards(store)
    with pytest.raises(ModelError, match="the store's teacher is evil:make, Python code that only you can ask for"):
        repair(RepairConfig(store=str(store)))
    assert shards(store) == before
