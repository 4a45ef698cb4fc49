"""A store follows its data set: the same store as a fresh extraction would make, whatever was added, changed, moved or taken away."""

import io
import json
import pathlib
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from extraction import config, encoded, fill
from PIL import Image
from safetensors.torch import load_file, save_file
from store_folders import manifest_of, shard_files, stood

import cache
from cache.errors import IdentityError, StoreNotFoundError
from tcs.cli import main
from tcs.cli.cache.info import lines
from tcs.config.extract import RecomputeConfig, RepairConfig
from tcs.config.update import UpdateConfig
from tcs.errors import ArtefactError, ConfigError, DataError
from tcs.extraction.extract import extract
from tcs.maintenance.changes import StoreChanges
from tcs.maintenance.facts import store_facts
from tcs.maintenance.recompute import recompute
from tcs.maintenance.repair import repair
from tcs.maintenance.update import update

torch.set_num_threads(1)
MAX_RELATIVE = 1e-3  # of a row: what other places in a batch may change; tcs cache verify tolerates 0.01


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory, teacher: pathlib.Path) -> pathlib.Path:
    """26 images of two classes, and a store of them."""
    folder = tmp_path_factory.mktemp("origin")
    extract(config(fill(folder / "data", 26), folder / "x.store", teacher))
    return folder


@pytest.fixture
def place(origin: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    shutil.copytree(origin / "data", tmp_path / "data")
    shutil.copytree(origin / "x.store", tmp_path / "x.store")
    return tmp_path


def updated(place: pathlib.Path, **options: Any) -> StoreChanges:
    return update(UpdateConfig(store=str(place / "x.store"), data=str(place / "data"), **options))


def change(data: pathlib.Path) -> None:
    """Two new images (one of a new class), one with other content, one taken away, one moved to the other class."""
    (data / "c1/100.png").write_bytes(encoded(100))
    (data / "b0").mkdir()
    (data / "b0/101.png").write_bytes(encoded(101))
    (data / "c0/4.png").write_bytes(encoded(104))
    (data / "c1/5.png").unlink()
    (data / "c0/2.png").rename(data / "c1/2.png")


def require_as_extracted(store: pathlib.Path, fresh: pathlib.Path) -> float:
    """The same store but for the last bits of features; returns the largest relative error of a row."""
    found, wanted = cache.open(store), cache.open(fresh)
    assert found.identity == wanted.identity
    assert (found.keys, found.classes, found.labels_N.tolist()) == (
        wanted.keys,
        wanted.classes,
        wanted.labels_N.tolist(),
    )
    assert np.array_equal(found.hashes_N16, wanted.hashes_N16)
    assert found.manifest.quarantine == wanted.manifest.quarantine
    worst = 0.0
    for name in wanted.readouts:
        mine, theirs = (
            np.asarray(item.features(name), np.float64).reshape(len(wanted), -1) for item in (found, wanted)
        )
        worst = max(worst, float((np.linalg.norm(mine - theirs, axis=1) / np.linalg.norm(theirs, axis=1)).max()))
    assert worst <= MAX_RELATIVE
    if wanted.has_images:
        assert [found.image_bytes(row) for row in range(len(found))] == [
            wanted.image_bytes(row) for row in range(len(found))
        ]
    assert cache.verify(store).is_sound
    return worst


def test_the_updated_store_is_the_freshly_extracted_one(
    place: pathlib.Path, teacher: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = cache.open(place / "x.store")
    change(place / "data")
    found = updated(place)
    assert found.counts == {
        "added": 2, "changed": 1, "moved": 1, "mended": 0, "relabelled": 0, "gone": 1, "kept": 24,
    }  # fmt: skip
    assert (found.added, found.changed, found.moved) == (("b0/101.png", "c1/100.png"), ("c0/4.png",), ("c1/2.png",))
    assert found.gone == ("c1/5.png",)
    said = capsys.readouterr().err
    assert f"{place / 'data'}: 2 images are new: b0/101.png, c1/100.png.\n" in said
    assert f"{place / 'data'}: 24 of 27 images keep the features they have.\n" in said
    assert "to be extracted: 3 images in 1 shard: " in said
    assert (
        f"{place / 'x.store'} is updated; what it was before is {place / 'x.store.old'}, which may be deleted." in said
    )
    fresh = extract(config(place / "data", place / "fresh.store", teacher))
    assert require_as_extracted(place / "x.store", fresh) == 0  # batches of 8 and more agree bit for bit on a CPU
    assert cache.open(fresh).classes == ("b0", "c0", "c1")
    former = cache.open(place / "x.store.old")
    assert (former.identity, former.keys) == (before.identity, before.keys)
    assert manifest_of(place / "x.store")["gate"] == manifest_of(fresh)["gate"] is not None
    assert sorted(path.name for path in place.iterdir()) == ["data", "fresh.store", "x.store", "x.store.old"]
    assert not (place / "x.store/.lock").exists()
    assert not (place / "x.store.old/.lock").exists()
    after = stood(place / "x.store")
    extract(config(place / "data", place / "x.store", teacher))  # which finds its store finished
    assert "x.store is finished already; nothing to do" in capsys.readouterr().err
    assert stood(place / "x.store") == after
    told = lines(store_facts(place / "x.store"))["update of"]
    assert told == f"a store of 26 rows: 2 added, 1 changed, 1 moved, 1 gone; it was {before.identity}"


def test_an_extraction_of_a_data_set_that_has_grown_points_here(place: pathlib.Path, teacher: pathlib.Path) -> None:
    change(place / "data")
    with pytest.raises(IdentityError, match=r"--overwrite, or let the store follow its data: tcs cache update\.$"):
        extract(config(place / "data", place / "x.store", teacher))


def test_a_store_that_follows_already_is_left_alone(place: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, manifest = stood(place / "x.store"), (place / "x.store/manifest.json").stat().st_mtime_ns
    assert updated(place).is_none
    assert update(UpdateConfig(store=str(place / "x.store"), data=str(place / "data"), dry_run=True)).is_none
    assert capsys.readouterr().err.count("is what would be made of these images now; nothing to do.") == 2
    assert (stood(place / "x.store"), (place / "x.store/manifest.json").stat().st_mtime_ns) == (before, manifest)
    assert not (place / "x.store.old").exists()


def test_a_dry_run_tells_changes_and_cost_and_writes_nothing(
    place: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(place / "data")
    (place / "data/c0/notes.txt").write_text("x")
    before = stood(place / "x.store")
    assert updated(place, dry_run=True).counts["added"] == 2
    told = capsys.readouterr().err
    assert "to be extracted: 3 images in 1 shard: " in told
    assert "1 file left out that by" in told
    assert stood(place / "x.store") == before
    assert sorted(path.name for path in place.iterdir()) == ["data", "x.store"]


def test_another_data_set_does_not_take_the_place_of_this_one(
    place: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in (place / "x.store").iterdir()}
    for path in sorted((place / "data/c0").iterdir()):
        path.unlink()
    (place / "data/c0").rmdir()
    for path in sorted((place / "data/c1").iterdir())[2:]:
        path.unlink()
    with pytest.raises(
        DataError, match=r"data has 2 of the 26 images of .*x\.store; if it is another data set, extract it, and"
    ):
        updated(place)
    assert "no image any more of the class c0." in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (place / "x.store").iterdir() if path.name != ".lock"} == before
    (place / "data/d9").mkdir()
    (place / "data/d9/1.png").write_bytes(encoded(300))
    updated(place, out=str(place / "y.store"))
    assert "images of the class d9, new." in capsys.readouterr().err
    assert len(cache.open(place / "y.store")) == 3


def sideways(path: pathlib.Path, seed: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(io.BytesIO(encoded(seed))).save(path, exif=exif)


def test_counts_of_pixels_are_those_of_all_images_and_a_bad_one_is_named(
    place: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sideways(place / "data/c0/200.png", 200)
    updated(place)
    assert "1 image turned upright by its EXIF orientation." in capsys.readouterr().err
    sideways(place / "data/c1/201.png", 201)
    (place / "data/c1/202.png").write_bytes(b"x")
    updated(place, max_bad=1)
    told = capsys.readouterr().err
    assert "1 image turned upright by its EXIF orientation." in told  # of those extracted now
    assert "left out: c1/202.png (not an image file)." in told
    pixels = cache.open(place / "x.store").manifest.provenance["pixels"]
    assert (pixels["images"], pixels["counts"]) == (28, {"turned_upright": 2})


def turned(place: pathlib.Path) -> dict[str, Any]:
    found: dict[str, Any] = cache.open(place / "x.store").manifest.provenance["pixels"]
    return found


def test_counts_of_pixels_follow_images_that_go_move_and_are_copied(
    place: pathlib.Path, teacher: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (200, 201, 202):
        sideways(place / f"data/c0/{number}.png", number)
    updated(place)
    (place / "data/c1/5.png").unlink()  # one of the others
    (place / "data/c0/200.png").unlink()
    (place / "data/c0/201.png").rename(place / "data/c1/201.png")
    sideways(place / "data/c0/201.png", 203)  # another image by the name of one that has moved
    shutil.copy(place / "data/c0/202.png", place / "data/c1/202.png")
    updated(place)
    wanted = ["c0/201.png", "c0/202.png", "c1/201.png", "c1/202.png"]
    assert turned(place) == {"images": 29, "counts": {"turned_upright": 4}, "keys": {"turned_upright": wanted}}
    assert "pixels changed: turned upright 4.\n" in capsys.readouterr().err
    fresh = cache.open(extract(config(place / "data", place / "fresh.store", teacher))).manifest.provenance
    found = cache.open(place / "x.store").manifest.provenance
    assert [found[name] for name in ("pixels", "seen")] == [fresh[name] for name in ("pixels", "seen")]


def test_counts_that_cannot_be_known_say_of_how_many_images_they_are(
    origin: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(origin / "data", tmp_path / "data")
    sideways(tmp_path / "data/c0/200.png", 200)
    extract(config(tmp_path / "data", tmp_path / "x.store", teacher, images="none"))
    (tmp_path / "data/c1/5.png").unlink()
    (tmp_path / "data/c1/300.png").write_bytes(encoded(300))
    updated(tmp_path)
    assert turned(tmp_path) == {"images": 1, "counts": {}, "keys": {}}
    assert "pixels changed: none (of 1 of the 27 images; the others were not counted).\n" in capsys.readouterr().err
    (tmp_path / "data/c1/300.png").unlink()
    updated(tmp_path)
    told = lines(store_facts(tmp_path / "x.store"))
    assert told["pixels changed"] == told["image sizes"] == "not counted of the images that are there"


def test_out_leaves_the_store_alone(place: pathlib.Path, teacher: pathlib.Path) -> None:
    change(place / "data")
    before = stood(place / "x.store")
    updated(place, out=str(place / "y.store"))
    assert stood(place / "x.store") == before
    fresh = extract(config(place / "data", place / "fresh.store", teacher))
    require_as_extracted(place / "y.store", fresh)
    updated(place, out=str(place / "y.store"))  # the same again finds it done
    assert cache.open(place / "y.store").identity == cache.open(fresh).identity
    with pytest.raises(ArtefactError, match=r"fresh\.store is there, and no update began it; name another --out\."):
        updated(place, out=str(fresh))


def test_one_update_follows_another_and_the_parents_are_told(place: pathlib.Path, teacher: pathlib.Path) -> None:
    first = cache.open(place / "x.store")
    (place / "data/c0/200.png").write_bytes(encoded(200))
    updated(place)
    second = cache.open(place / "x.store")
    change(place / "data")
    updated(place)
    parent = manifest_of(place / "x.store")["provenance"]["parent"]
    assert (parent["identity"], parent["rows"], parent["store"]) == (second.identity, 27, "x.store")
    assert parent["earlier"] == [{"identity": first.identity, "rows": 26}]
    assert cache.open(place / "x.store.old").identity == second.identity
    require_as_extracted(place / "x.store", extract(config(place / "data", place / "fresh.store", teacher)))


def test_rows_that_are_gone_stay_when_asked(place: pathlib.Path) -> None:
    before = cache.open(place / "x.store")
    features_ND = before.features()[:]
    shutil.rmtree(place / "data/c0")
    (place / "data/c1/3.jpg").rename(place / "data/c1/2.jpg")  # which has moved, and is not gone
    (place / "data/c1/300.png").write_bytes(encoded(300))
    found = updated(place, keep_gone=True)
    assert (len(found.gone), found.counts["kept"]) == (13, 26)
    store = cache.open(place / "x.store")
    assert len(store) == 27
    now = ["c1/2.jpg" if key == "c1/3.jpg" else key for key in before.keys]
    assert store.keys == sorted([*now, "c1/300.png"], key=lambda key: (key[:2], int(key[3:].split(".")[0])))
    assert store.classes == ("c1", "c0")
    names = dict(zip(store.keys, (store.classes[label] for label in store.labels_N), strict=True))
    assert all(names[key] == key[:2] for key in store.keys)
    rows = [store.keys.index(key) for key in now]
    assert np.array_equal(store.features()[rows], features_ND)
    assert cache.verify(place / "x.store").is_sound
    assert updated(place, keep_gone=True).is_none
    assert len(updated(place).gone) == 13
    assert set(cache.open(place / "x.store").classes) == {"c1"}


def test_bad_images_count_as_in_an_extraction_and_mended_ones_are_taken(
    place: pathlib.Path, teacher: pathlib.Path
) -> None:
    good = (place / "data/c1/7.png").read_bytes()
    (place / "data/c1/7.png").write_bytes(b"no image")
    (place / "data/c0/400.png").write_bytes(encoded(400))
    before = stood(place / "x.store")
    with pytest.raises(DataError, match=r"1 of 27 images are bad, --max-bad is 0: c1/7\.png \(not an image file\)"):
        updated(place)
    assert stood(place / "x.store") == before
    updated(place, max_bad=1)
    assert [entry.key for entry in cache.open(place / "x.store").manifest.quarantine] == ["c1/7.png"]
    require_as_extracted(place / "x.store", extract(config(place / "data", place / "fresh", teacher, max_bad=1)))
    assert updated(place, max_bad=1).is_none
    (place / "data/c1/7.png").write_bytes(good)
    assert updated(place).mended == ("c1/7.png",)
    require_as_extracted(place / "x.store", extract(config(place / "data", place / "whole", teacher)))


@pytest.mark.parametrize(
    "options",
    [
        {"views": 2, "hflip": 0.5},
        {"project": {"avg": 8}, "projection": "pca", "projection_images": 40},
        {"images": "none", "dtype": "float32"},
        {"images": "resized:16", "readouts": ("cls", "map"), "batch_size": 16},
    ],
    ids=["views", "fitted projection", "no images", "maps of resized images"],
)
def test_whatever_the_store_holds(
    origin: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, options: Any
) -> None:
    data = pathlib.Path(shutil.copytree(origin / "data", tmp_path / "data"))
    before = cache.open(extract(config(data, tmp_path / "x.store", teacher, **options)))
    change(data)
    found = updated(tmp_path)
    assert len(found.moved) == (0 if "views" in options else 1)  # views are drawn by key
    if "project" not in options:
        fresh = extract(config(data, tmp_path / "fresh.store", teacher, **options))
        require_as_extracted(tmp_path / "x.store", fresh)
        return
    store = cache.open(tmp_path / "x.store")  # a fresh one would fit its axes to other images
    assert store.manifest.plan.constants == before.manifest.plan.constants
    assert store.manifest.plan.identity == before.manifest.plan.identity
    (tmp_path / "x.store/shard-00001.h5").unlink()
    assert repair(RepairConfig(store=str(tmp_path / "x.store"))).is_sound


def test_an_updated_store_is_repaired_and_recomputed_like_any(place: pathlib.Path) -> None:
    change(place / "data")
    updated(place)
    errors = recompute(RecomputeConfig(store=str(place / "x.store")))
    assert errors["avg"].max_rel <= MAX_RELATIVE
    whole = shard_files(place / "x.store")
    (place / "x.store/shard-00001.h5").unlink()
    assert repair(RepairConfig(store=str(place / "x.store"))).is_sound
    assert shard_files(place / "x.store") == whole


def test_labels_that_came_later_stay_unless_the_data_says_otherwise(
    origin: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    shutil.copytree(origin / "data", tmp_path / "data")
    table = tmp_path / "images.csv"
    names = {
        path.relative_to(tmp_path / "data").as_posix(): path.parent.name for path in (tmp_path / "data").rglob("*.*")
    }

    def write(**changes: str) -> None:
        rows = {key: changes.get(pathlib.Path(key).stem, name) for key, name in names.items()}
        table.write_text("path,label\n" + "".join(f"data/{key},{name}\n" for key, name in rows.items()))

    write()
    extract(config(table, tmp_path / "x.store", teacher))
    cache.set_labels(tmp_path / "x.store", {"data/c0/0.jpg": "mine", "data/c0/2.png": "mine"}, source={"by": "me"})
    write(**{"2": "c9", "3": "c9"})
    assert update(UpdateConfig(store=str(tmp_path / "x.store"))).relabelled == ("data/c0/2.png", "data/c1/3.jpg")
    store = cache.open(tmp_path / "x.store")
    label_of = {key: store.classes[label] for key, label in zip(store.keys, store.labels_N, strict=True)}
    assert [label_of[f"data/{key}"] for key in ("c0/0.jpg", "c0/2.png", "c1/3.jpg", "c1/5.png")] == [
        "mine",
        "c9",
        "c9",
        "c1",
    ]
    assert store.manifest.later_labels is not None
    assert store.manifest.later_labels.history[0]["history"][0]["by"] == "me"
    write(**{"2": "c9", "3": "c9", "9": "c9"})
    update(UpdateConfig(store=str(tmp_path / "x.store")))
    later = cache.open(tmp_path / "x.store").manifest.later_labels
    assert later is not None  # told flat, however many updates there were
    assert [set(entry) for entry in later.history] == [{"store", "identity", "history", "added", "changed"}]
    assert [entry.get("by") for entry in later.history[0]["history"]] == ["me", None]
    (tmp_path / "labels.csv").write_text("key,class\ndata/c1/5.png,c0\n")
    assert update(UpdateConfig(store=str(tmp_path / "x.store"), label_file=str(tmp_path / "labels.csv"))).is_none
    store = cache.open(tmp_path / "x.store")
    assert store.classes[store.labels_N[store.keys.index("data/c1/5.png")]] == "c0"
    assert store.manifest.gate is not None


def test_a_store_that_is_packed_is_updated_to_another_place(place: pathlib.Path, teacher: pathlib.Path) -> None:
    cache.pack(place / "x.store", place / "x.h5")
    change(place / "data")
    with pytest.raises(StoreNotFoundError, match=r"x\.h5 is a file, not the folder of a store"):
        update(UpdateConfig(store=str(place / "x.h5"), data=str(place / "data")))
    update(UpdateConfig(store=str(place / "x.h5"), data=str(place / "data"), out=str(place / "y.store")))
    require_as_extracted(place / "y.store", extract(config(place / "data", place / "fresh.store", teacher)))


def test_another_teacher_is_refused_by_name(place: pathlib.Path, teacher: pathlib.Path) -> None:
    change(place / "data")
    weights = load_file(teacher)
    other = place / "other.safetensors"
    save_file({name: value + 1 for name, value in weights.items()}, other)
    before = stood(place / "x.store")
    with pytest.raises(ArtefactError, match=r"teacher_weights is '.*' in the store and '.*' for this teacher"):
        updated(place, teacher_checkpoint=str(other))
    assert stood(place / "x.store") == before
    assert not (place / "x.store.update").exists()


def test_what_cannot_be_updated_is_told_in_one_line(place: pathlib.Path) -> None:
    cache.subset(place / "x.store", place / "part.store", classes=["c0"])
    with pytest.raises(
        ArtefactError, match=r"part\.store does not record the options of a tcs extract run, .* tcs cache merge\."
    ):
        update(UpdateConfig(store=str(place / "part.store"), data=str(place / "data")))
    with pytest.raises(
        ConfigError, match=r"was extracted from .*nowhere, which is not here; say where it is now with DATA"
    ):
        update(UpdateConfig(store=str(place / "x.store"), data=str(place / "nowhere")))
    with pytest.raises(ConfigError, match=r"--max-bad is -1; it must be 0 or more"):
        UpdateConfig(store="x", max_bad=-1)


def test_a_state_of_other_images_that_a_kill_left_is_begun_anew(
    place: pathlib.Path, teacher: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change(place / "data")

    def stop(path: pathlib.Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tcs.maintenance.update.add_gate", stop)
        with pytest.raises(KeyboardInterrupt):
            updated(place)
    assert (place / "x.store.update/manifest.json").exists()
    (place / "data/c0/4.png").write_bytes(encoded(105))
    updated(place)
    assert "x.store.update was begun when the images were others; it is begun anew." in capsys.readouterr().err
    require_as_extracted(place / "x.store", extract(config(place / "data", place / "fresh.store", teacher)))
    assert not (place / "x.store.update").exists()


def test_what_was_asked_otherwise_meanwhile_is_begun_anew(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change(place / "data")
    with monkeypatch.context() as patch:
        patch.setattr("tcs.maintenance.update.add_gate", lambda path: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            updated(place)
    (place / "classes.txt").write_text("c1\nc0\nb0\n")
    updated(place, class_map=str(place / "classes.txt"))
    assert "it is begun anew" in capsys.readouterr().err
    assert cache.open(place / "x.store").classes == ("c1", "c0", "b0")
    assert updated(place, class_map=str(place / "classes.txt")).is_none


def test_ranks_of_torchrun_are_refused(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"tcs cache update runs in one process; start it without torchrun\."):
        updated(place)


def test_the_command_prints_changes_and_facts(place: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(place / "data")
    with pytest.raises(SystemExit) as ended:
        main(["cache", "update", str(place / "x.store"), str(place / "data"), "--json", "-j", "0"])
    assert ended.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert told["changes"]["added"] == ["b0/101.png", "c1/100.png"]
    assert (told["rows"], told["state"], told["changes"]["kept"]) == (27, "closed", 24)
