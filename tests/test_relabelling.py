"""Split files that say more than the store: labels of unlabelled rows, new classes, classes left out."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from artefacts import make_store

import cache
import tcs
from tcs.checkpoint import load_weights
from tcs.errors import ArtefactError, DataError
from tcs.splits.relabelling import relabelled

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"


def store_of(path, labels, classes=None):
    keys = [f"{row}.png" for row in range(len(labels))]
    features = np.eye(len(labels), dtype=np.float32)
    return cache.open(cache.create(path, {"avg": features}, keys=keys, labels=labels, classes=classes))


def table(path, classes):
    path.write_text("key,rank,reason,class\n" + "".join(f"{row}.png,1,,{name}\n" for row, name in classes.items()))
    return str(path)


def names(store):
    return [None if label < 0 else store.classes[label] for label in store.labels_N]


def test_new_classes_come_last_by_name_and_left_out_ones_go(tmp_path, capsys):
    store = store_of(tmp_path / "x.store", ["dog", "cat", None, "cow", "dog", None], classes=["dog", "cat", "cow"])
    file = table(tmp_path / "s.csv", {0: "dog", 2: "yak", 3: "cow", 5: "ape"})
    changed = relabelled(store, file)
    assert changed.classes == ("dog", "cow", "ape", "yak")
    assert names(changed) == ["dog", None, "yak", "cow", "dog", "ape"]
    assert capsys.readouterr().err == (
        f"{file} labels 2 rows that the store does not, names new classes (ape, yak), leaves out classes of the store (cat): "
        "4 classes in all.\n"
    )
    assert names(store) == ["dog", "cat", None, "cow", "dog", None]
    assert (changed.identity, store.classes) == (store.identity, ("dog", "cat", "cow"))


def test_a_store_without_labels_gets_those_of_the_file(tmp_path):
    store = make_store(tmp_path / "x.store", labelled=False, rows=6)
    (tmp_path / "s.txt").write_text("".join(f"{key[:3]} {key}\n" for key in store.keys[:5]))
    changed = relabelled(store, str(tmp_path / "s.txt"))
    assert changed.classes == ("ant", "bee", "cow")
    assert names(changed) == ["ant", "bee", "cow", "ant", "bee", None]
    assert changed.is_labelled
    assert not store.is_labelled


def test_a_file_that_changes_nothing_leaves_the_store_itself(tmp_path, capsys):
    store = store_of(tmp_path / "x.store", ["dog", "cat", None])
    assert relabelled(store, table(tmp_path / "s.csv", {0: "dog", 1: "cat"})) is store
    assert relabelled(store, None) is store
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({0: "cat", 1: "cat"}, r"labels rows of 1 class \(cat\); a run needs two or more: label more rows"),
        ({0: ""}, "labels no row; a run needs two or more: label more rows"),
        ({0: "dogg", 1: "cat"}, r"line 2 gives '0.png' the class 'dogg', but the store holds 'dog'; .* mean dog\?"),
        ({0: "cat", 2: "dog"}, "line 2 gives '0.png' the class 'cat', but the store holds 'dog'; correct the file"),
        ({9: "cat", 2: "dog"}, "line 2 names '9.png', which the store lacks"),
    ],
)
def test_what_a_file_may_not_say(tmp_path, classes, message):
    store = store_of(tmp_path / "x.store", ["dog", "cat", None])
    with pytest.raises(DataError, match=message):
        relabelled(store, table(tmp_path / "s.csv", classes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A labelled store, and one of the same rows without labels."""
    folder = tmp_path_factory.mktemp("relabelling")
    make_store(folder / "labelled.store", rows=40)
    make_store(folder / "bare.store", rows=40, labelled=False)
    make_store(folder / "test.store", rows=30, seed=9)
    keys = cache.open(folder / "labelled.store").keys
    (folder / "split.csv").write_text("key,class\n" + "".join(f"{key},{key[:3]}\n" for key in keys[:12]))
    (folder / "two.csv").write_text("key,class\n" + "".join(f"{key},{key[:3]}\n" for key in keys if key[:3] != "bee"))
    return folder


def train(folder, out, store, split="split.csv"):
    config = tcs.TrainConfig(
        store=folder / store, out=out, models=(STUDENT,), split_file=folder / split, img_size=16, batch_size=8, steps=3
    )
    (student,) = tcs.train(config)
    return student


def test_a_run_on_a_bare_store_is_that_on_the_labelled_one(folder, tmp_path):
    """The same rows, labels and classes, whoever says so: the same weights, bit for bit."""
    students = [train(folder, tmp_path / store, store) for store in ("labelled.store", "bare.store")]
    ours, theirs = (load_weights(student / "folded.safetensors") for student in students)
    records = [json.loads((student / "config.json").read_text()) for student in students]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert [record["classes"] for record in records] == [["ant", "bee", "cow"]] * 2
    rows = tcs.evaluate(tcs.EvalConfig(run=tmp_path / "bare.store", store=folder / "test.store"))
    assert [row["model"] for row in rows] == [STUDENT]


def test_a_class_left_out_is_no_output_of_the_student(folder, tmp_path, capsys):
    student = train(folder, tmp_path / "run", "labelled.store", "two.csv")
    assert json.loads((student / "config.json").read_text())["classes"] == ["ant", "cow"]
    assert capsys.readouterr().err.count("leaves out classes of the store (bee): 2 classes in all") == 1
    with pytest.raises(DataError, match="has classes that the student was not trained on: bee"):
        tcs.evaluate(tcs.EvalConfig(run=tmp_path / "run", store=folder / "test.store"))


def test_fit_selects_by_the_files_labels(folder, tmp_path):
    found = [
        tcs.fit(
            tcs.FitConfig(
                store=folder / store,
                out=tmp_path / f"{store}.st",
                components=8,
                split_file=folder / "split.csv",
                ceiling_shots=(),
            )
        ).selection
        for store in ("labelled.store", "bare.store")
    ]
    assert found[0] is not None
    assert found[0].to_json() == found[1].to_json()


def test_probe_scores_heads_of_the_files_labels(folder):
    rows = [
        tcs.probe(
            tcs.ProbeConfig(
                store=folder / store,
                test=folder / "test.store",
                dims=(4,),
                seeds=(0,),
                projections=("pca",),
                split_file=folder / "split.csv",
            )
        ).rows
        for store in ("labelled.store", "bare.store")
    ]
    assert [row["top1"] for row in rows[0]] == [row["top1"] for row in rows[1]]


def test_what_reads_labels_notices_those_that_came_later(folder, tmp_path):
    """A run, its spread labels, scores and probes; a run without labels is the same run as before."""
    for name in ("labelled.store", "test.store"):
        shutil.copytree(folder / name, tmp_path / name)
    options = {"store": tmp_path / "labelled.store", "models": (STUDENT,), "img_size": 16, "batch_size": 8, "steps": 2}
    few = tcs.TrainConfig(**options, split_file=folder / "split.csv", out=tmp_path / "run")
    mimic = tcs.TrainConfig(**options, method="tcs-mimic", out=tmp_path / "mimic")
    tcs.train(few)
    tcs.train(mimic)
    scores = tcs.EvalConfig(run=tmp_path / "run", store=tmp_path / "test.store")
    probe = tcs.ProbeConfig(
        store=tmp_path / "labelled.store", test=tmp_path / "test.store", dims=(4,), seeds=(0,), projections=("pca",)
    )
    before = tcs.evaluate(scores)[0]["cache_id"], tcs.probe(probe).rows[0]["cache_id"]
    spread = {path.name for path in (tmp_path / "run" / "pool-labels").iterdir()}
    for name in ("labelled.store", "test.store"):
        store = cache.open(tmp_path / name)
        cache.set_labels(store.path, {store.keys[20]: "ant" if store.keys[20][:3] != "ant" else "bee"}, source={})
    with pytest.raises(
        ArtefactError, match=r"made with labels None, this command has [0-9a-f]{32}\+labels\.[0-9a-f]{32}"
    ):
        tcs.train(few)  # its split is what it was: row 20 is none of it
    tcs.train(mimic)
    after = tcs.evaluate(scores)[0]["cache_id"], tcs.probe(probe).rows[0]["cache_id"]
    assert all(new.startswith(f"{old}+labels.") for old, new in zip(before, after, strict=True))
    tcs.train(dataclasses.replace(few, overwrite=True))
    assert len({path.name for path in (tmp_path / "run" / "pool-labels").iterdir()} - spread) == 1
