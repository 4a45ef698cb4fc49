"""Labels of a store that follows its data set: those of its label file, and those that people gave it."""

import json
import pathlib
import shutil

import pytest
import torch
from click.testing import CliRunner
from extraction import config, encoded, fill

import cache
import tcs
from tcs.cli.cache.update import command as update_command
from tcs.config.extract import RepairConfig
from tcs.config.update import UpdateConfig
from tcs.errors import ConfigError, DataError
from tcs.extraction.extract import extract
from tcs.maintenance.repair import repair
from tcs.maintenance.update import update

torch.set_num_threads(1)


def labels_by_key(path: pathlib.Path) -> dict[str, str | None]:
    store = cache.open(path)
    return {
        key: store.classes[label] if label >= 0 else None for key, label in zip(store.keys, store.labels_N, strict=True)
    }


@pytest.fixture
def labelled(tmp_path: pathlib.Path, teacher: pathlib.Path) -> pathlib.Path:
    """Images in class folders, a label file that says otherwise of some, and a store of both."""
    fill(tmp_path / "data", 12)
    (tmp_path / "labels.csv").write_text("key,class\nc0/0.jpg,mine\nc0/2.png,mine\nc1/1.png,other\nc1/3.jpg,c0\n")
    extract(config(tmp_path / "data", tmp_path / "x.store", teacher, label_file=str(tmp_path / "labels.csv")))
    return tmp_path


FEWER = "key,class\nc0/0.jpg,mine\nc1/3.jpg,other\n"
LOST = "labels.csv: 2 images have a label no more, and lose it: c0/2.png, c1/1.png."


@pytest.mark.parametrize("grown", [False, True])
def test_labels_that_the_label_file_has_no_more_go(
    labelled: pathlib.Path, teacher: pathlib.Path, capsys: pytest.CaptureFixture[str], grown: bool
) -> None:
    identity = cache.open(labelled / "x.store").identity
    (labelled / "labels.csv").write_text(FEWER)
    if grown:
        (labelled / "data/c1/100.png").write_bytes(encoded(100))
    dry = update(UpdateConfig(store=str(labelled / "x.store"), dry_run=True))
    told = capsys.readouterr().err
    assert LOST.replace("lose it", "would lose it") in told
    assert "x.store: 0 labels would be added and 1 corrected, 2 taken away by" in told
    assert {name: keys for name, keys in dry.to_json().items() if "labels" in name} == {
        "labels_added": [],
        "labels_corrected": ["c1/3.jpg"],
        "labels_removed": ["c0/2.png", "c1/1.png"],
    }
    assert "nothing to do" not in told
    assert labels_by_key(labelled / "x.store")["c0/2.png"] == "mine"
    assert update(UpdateConfig(store=str(labelled / "x.store"))).is_none == dry.is_none == (not grown)
    told = capsys.readouterr().err
    assert LOST in told
    assert "x.store: 0 labels added and 1 corrected, 2 taken away by" in told
    assert ".update" not in told
    if not grown:
        assert "0 labels added and 1 corrected, 2 taken away by" in told
        assert cache.open(labelled / "x.store").identity == identity
    fresh = extract(
        config(labelled / "data", labelled / "fresh.store", teacher, label_file=str(labelled / "labels.csv"))
    )
    assert labels_by_key(labelled / "x.store") == labels_by_key(fresh)
    assert cache.open(labelled / "x.store").classes == cache.open(fresh).classes
    assert cache.open(labelled / "x.store").manifest.gate is not None
    assert update(UpdateConfig(store=str(labelled / "x.store"))).is_none
    assert "nothing to do" in capsys.readouterr().err


def test_labels_of_others_stay_and_it_is_told(labelled: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache.set_labels(labelled / "x.store", {"c1/5.png": "theirs"}, source={"by": "them"})
    (labelled / "labels.csv").write_text(FEWER)
    update(UpdateConfig(store=str(labelled / "x.store")))
    told = capsys.readouterr().err
    assert "3 images keep a label that" in told
    assert "(c0/2.png, c1/1.png, c1/5.png): not all labels of" in told
    found = labels_by_key(labelled / "x.store")
    assert [found[key] for key in ("c0/2.png", "c1/1.png", "c1/3.jpg", "c1/5.png")] == [
        "mine",
        "other",
        "other",
        "theirs",
    ]


def test_images_without_a_class_of_their_own_have_none_again(tmp_path: pathlib.Path, teacher: pathlib.Path) -> None:
    fill(tmp_path / "data", 6)
    labels = tmp_path / "labels.csv"
    labels.write_text("key,class\nc0/0.jpg,a\nc0/2.png,b\n")
    extract(config(tmp_path / "data", tmp_path / "x.store", teacher, labels="none", label_file=str(labels)))
    labels.write_text("key,class\nc0/0.jpg,a\n")
    update(UpdateConfig(store=str(tmp_path / "x.store")))
    assert {key: name for key, name in labels_by_key(tmp_path / "x.store").items() if name} == {"c0/0.jpg": "a"}
    later = cache.open(tmp_path / "x.store").manifest.later_labels
    assert later is not None
    assert (later.classes, later.history[-1]["removed"]) == (("a",), 1)


@pytest.mark.parametrize("grown", [False, True])
def test_a_recorded_label_file_that_is_gone_is_an_error_or_kept_out(labelled: pathlib.Path, grown: bool) -> None:
    (labelled / "labels.csv").unlink()
    if grown:
        (labelled / "data/c1/100.png").write_bytes(encoded(100))
    before = labels_by_key(labelled / "x.store")
    with pytest.raises(
        ConfigError,
        match=r"x\.store was extracted with the labels in .*labels\.csv, which is not here; say where .*--label-file, or .*--keep-labels",
    ):
        update(UpdateConfig(store=str(labelled / "x.store")))
    update(UpdateConfig(store=str(labelled / "x.store"), keep_labels=True))
    assert labels_by_key(labelled / "x.store") == before | ({"c1/100.png": None} if grown else {})
    with pytest.raises(ConfigError, match=r"--keep-labels goes without --label-file x\.csv"):
        UpdateConfig(store="x", keep_labels=True, label_file="x.csv")


LABELS = {"c0/0.jpg": "mine", "c0/2.png": "mine", "c1/1.png": "other", "c1/3.jpg": "c0"}


def follow(place: pathlib.Path, **options: bool | str) -> None:
    update(UpdateConfig(store=str(place / "x.store"), **options))  # type: ignore[arg-type]


def test_a_line_of_an_image_that_has_gone_is_passed_over_by_every_update(
    labelled: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (labelled / "data/c0/2.png").unlink()
    note = "labels.csv: 1 image that it names is in the data no more; its line is passed over: c0/2.png.\n"
    rest = {key: name for key, name in LABELS.items() if key != "c0/2.png"}
    for grown in (None, None, "c1/100.png"):  # the store forgets the row, and its label file does not
        if grown:
            (labelled / "data" / grown).write_bytes(encoded(100))
        follow(labelled)
        assert note in capsys.readouterr().err
        assert {key: name for key, name in labels_by_key(labelled / "x.store").items() if name} == rest
    tcs.label_store(tcs.LabelConfig(store=labelled / "x.store", label_file=labelled / "labels.csv"))
    assert note in capsys.readouterr().err
    (labelled / "data/c1/1.png").unlink()
    follow(labelled, keep_labels=True)  # without a look at the file
    follow(labelled)
    told = capsys.readouterr().err
    assert "2 images that it names are in the data no more; their lines are passed over: c0/2.png, c1/1.png.\n" in told
    (labelled / "x.store/shard-00001.h5").unlink()
    assert repair(RepairConfig(store=str(labelled / "x.store"))).is_sound
    with (labelled / "labels.csv").open("a") as file:
        file.write("c0/nowhere.png,mine\n")
    with pytest.raises(DataError, match=r"line 6 names 'c0/nowhere\.png', which is no image of .*data"):
        follow(labelled)


@pytest.mark.parametrize("named", [True, False])
def test_rows_that_are_kept_keep_their_labels(labelled: pathlib.Path, named: bool) -> None:
    for key in ("c0/2.png", "c1/1.png"):
        (labelled / "data" / key).unlink()
    if not named:
        (labelled / "labels.csv").write_text("key,class\nc0/0.jpg,mine\nc1/3.jpg,c0\n")
    for _ in range(2):
        follow(labelled, keep_gone=True)
        assert {key: name for key, name in labels_by_key(labelled / "x.store").items() if name} == LABELS
    (labelled / "labels.csv").write_text("key,class\nc0/2.png,other\n")  # the rest has lost its line
    follow(labelled, keep_gone=True)
    assert {key: name for key, name in labels_by_key(labelled / "x.store").items() if name} == {
        "c0/2.png": "other",
        "c1/1.png": "other",
    }


@pytest.mark.parametrize("grown", [False, True])
def test_a_label_file_that_was_moved_is_the_same_source(labelled: pathlib.Path, grown: bool) -> None:
    (labelled / "labels").mkdir()
    moved = labelled / "labels/l.csv"
    shutil.move(labelled / "labels.csv", moved)
    if grown:
        (labelled / "data/c1/100.png").write_bytes(encoded(100))
    follow(labelled, label_file=str(moved))
    follow(labelled)  # finds it where it is now
    moved.write_text("key,class\nc0/0.jpg,mine\n")
    follow(labelled)
    assert {key: name for key, name in labels_by_key(labelled / "x.store").items() if name} == {"c0/0.jpg": "mine"}
    provenance = cache.open(labelled / "x.store").manifest.provenance
    assert provenance["config"]["label_file"] == str(moved)
    assert provenance["label_files"]["files"] == [str(labelled / "labels.csv"), str(moved)]


def test_a_label_file_that_is_spelled_otherwise_is_the_same_source(
    labelled: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(labelled)
    table = pathlib.Path("labels.csv")
    table.write_text(table.read_text() + "c1/5.png,mine\n")
    tcs.label_store(tcs.LabelConfig(store="x.store", label_file="./labels.csv"))
    table.write_text("key,class\nc0/0.jpg,mine\n")
    follow(labelled, label_file="data/../labels.csv")
    assert {key: name for key, name in labels_by_key(labelled / "x.store").items() if name} == {"c0/0.jpg": "mine"}
    assert "label_files" not in cache.open("x.store").manifest.provenance


def test_a_label_file_that_is_given_to_a_store_of_class_folders_is_followed(
    tmp_path: pathlib.Path, teacher: pathlib.Path
) -> None:
    extract(config(fill(tmp_path / "data", 6), tmp_path / "x.store", teacher))
    before = labels_by_key(tmp_path / "x.store")
    table = tmp_path / "labels.csv"
    table.write_text("key,class\nc0/0.jpg,mine\nc0/2.png,mine\n")
    follow(tmp_path, label_file=str(table))
    table.write_text("key,class\nc0/0.jpg,mine\n")
    follow(tmp_path)
    assert labels_by_key(tmp_path / "x.store") == before | {"c0/0.jpg": "mine"}
    table.unlink()
    with pytest.raises(ConfigError, match=r"x\.store was updated with the labels in .*labels\.csv, which is not here"):
        follow(tmp_path)


def test_a_label_that_was_taken_away_does_not_come_back(tmp_path: pathlib.Path, teacher: pathlib.Path) -> None:
    extract(config(fill(tmp_path / "data", 6), tmp_path / "x.store", teacher))
    cache.set_labels(tmp_path / "x.store", {"c0/0.jpg": None}, source={"by": "me"})
    (tmp_path / "data/c1/100.png").write_bytes(encoded(100))
    follow(tmp_path)
    assert [key for key, name in labels_by_key(tmp_path / "x.store").items() if name is None] == ["c0/0.jpg"]


def test_the_command_tells_what_labels_would_become(labelled: pathlib.Path) -> None:
    (labelled / "labels.csv").write_text(FEWER + "c1/5.png,mine\n")
    found = CliRunner().invoke(
        update_command, [str(labelled / "x.store"), "--dry-run", "--json"], catch_exceptions=False
    )
    assert "x.store: 1 label would be added and 1 corrected, 2 taken away by" in found.stderr
    told = json.loads(found.stdout)["changes"]
    assert [told[f"labels_{kind}"] for kind in ("added", "corrected", "removed")] == [
        ["c1/5.png"],
        ["c1/3.jpg"],
        ["c0/2.png", "c1/1.png"],
    ]
