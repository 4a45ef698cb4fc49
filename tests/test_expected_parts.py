"""What the plan of `tcs distill --val-split` tells of its parts, and refuses, before the teacher runs."""

import numpy as np
import pytest
from distilled import chain_options, distilled, write_data

import cache
from tcs.config.distill import DistillConfig
from tcs.errors import DataError
from tcs.pipeline.division import TEST, TRAIN, choose_parts
from tcs.pipeline.expected_parts import expected_parts

CLASSES = ("a", "b", "c")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("images"))


@pytest.fixture
def options(data, teacher, tmp_path, monkeypatch):
    """A chain that holds a part out, and whose teacher cannot run."""
    monkeypatch.setattr("tcs.extraction.extract.write_pending", None)
    return chain_options(data, teacher, tmp_path / "work") | {"test": None, "val_split": 0.2}


def chain(tmp_path, **more):
    return DistillConfig.from_options(
        {"data": "my/test", "out": str(tmp_path), "teacher": "t", "models": ("a",), "val_split": 0.2} | more
    )


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.99])
def test_without_copies_the_parts_are_as_many_as_the_division_makes(tmp_path, share):
    counts = {"a": 11, "b": 1, "c": 6, None: 5}
    names = [name for name, count in counts.items() for _ in range(count)]
    keys = [f"{row}.png" for row in range(23)]
    features_ND = np.random.default_rng(0).normal(size=(23, 64)).astype(np.float32)
    images = [key.encode() for key in keys]
    store = cache.open(cache.create(tmp_path / "x.store", {"avg": features_ND}, keys=keys, labels=names, images=images))
    labels = store.labels_N.tolist()
    found = expected_parts(chain(tmp_path, val_split=share), keys, labels, store.classes)
    parts = choose_parts(store, share, 0)
    left = [label for label, part in zip(labels, parts, strict=True) if part == TRAIN]
    assert found.rows == {name: left.count(label) for label, name in enumerate(store.classes)}
    assert (found.images, found.held, found.is_exact) == (parts.count(TRAIN), parts.count(TEST), False)


def test_parts_of_an_earlier_run_are_counted_and_those_of_other_images_are_not(tmp_path):
    config, keys, labels = chain(tmp_path), ["0", "1", "2", "3", "4"], [0, 0, 0, 1, -1]
    config.places.split_file.write_text("key,part,class\n0,test,a\n1,test,a\n2,train,a\n3,train,\n4,test,\n")
    found = expected_parts(config, keys, labels, CLASSES)
    assert (found.rows, found.images, found.held, found.about) == ({"a": 1, "b": 1, "c": 0}, 2, 2, "")
    found = expected_parts(config, [*keys, "5"], [*labels, -1], CLASSES)
    assert (found.rows, found.images, found.held, found.about) == ({"a": 2, "b": 1, "c": 0}, 5, 1, "about ")


def test_without_a_share_all_images_are_trained_on(tmp_path):
    found = expected_parts(chain(tmp_path, val_split=None), ["0", "1"], [0, -1], CLASSES)
    assert (found.rows, found.images, found.held, found.about) == ({"a": 1, "b": 0, "c": 0}, 2, 0, "")


def test_the_plan_counts_what_is_left(options, capsys):
    plan = distilled(options, dry_run=True).plan
    assert (plan["labels"], plan["held_out"], plan["labelled_rows"]) == ({"ant": 3, "bee": 3, "cow": 3}, 3, 6)
    told = capsys.readouterr().err
    assert (
        "20 % of the labelled images of each class are held out to score on: about 3, and about 6 are left: ant 2"
        in told
    )
    assert "by tcs-pool, about 6 labels: 3 steps" in told
    assert distilled(options, dry_run=True, shots=1).plan["labelled_rows"] == 3
    assert "by tcs-pool, 3 labels: 3 steps" in capsys.readouterr().err


@pytest.mark.parametrize("dry_run", [True, False])
def test_shots_that_no_class_has_left_are_told_before_the_teacher_runs(options, tmp_path, dry_run):
    message = (
        r"val_split 0\.2 leaves no class 3 labelled images, which shots 3 asks for \(class 'ant' keeps about 2 of 3\); use shots 2 "
        r"or fewer, label more, or give test images of their own: test DATA\.$"
    )
    with pytest.raises(DataError, match=message):
        distilled(options, shots=3, dry_run=dry_run)
    with pytest.raises(DataError, match="class 'ant' has 3 labelled images, fewer than the 4 shots asked"):
        distilled(options, shots=4, dry_run=dry_run)
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("dry_run", [True, False])
def test_one_label_a_class_is_too_few_to_hold_any_out(options, data, tmp_path, dry_run):
    first = {path.parent.name: path for path in (data / "few").rglob("*.png")}
    (tmp_path / "l.csv").write_text("path,class\n" + "".join(f"{path},{name}\n" for name, path in first.items()))
    message = r"no class of .*few has two labelled images, so val_split 0\.2 can hold none out; label more, or give test images"
    options |= {"label_file": str(tmp_path / "l.csv"), "data": str(data / "few")}
    with pytest.raises(DataError, match=message):
        distilled(options, dry_run=dry_run)
    assert not (tmp_path / "work").exists()
