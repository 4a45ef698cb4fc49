"""Splits: drawn by a hash of the key, so equal on any machine and in any row order; files by people and by us."""

import csv
import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest

from tcs.errors import DataError
from tcs.splits.counts import counted, describe_labels
from tcs.splits.shots import all_labelled, choose_split, k_shot_split, read_split_file, split_of
from tcs.splits.written_split import write_split_file

CLASSES = ("cat", "dog", "sea lion")


def listing(per_class=6, unlabelled=2):
    keys = [f"{name}/{index}.png" for name in CLASSES for index in range(per_class)]
    labels = [label for label in range(len(CLASSES)) for _ in range(per_class)]
    return keys + [f"extra/{i}.png" for i in range(unlabelled)], np.array(labels + [-1] * unlabelled)


def chosen(split, keys):
    return [keys[row] for row in split.rows_n]


def test_split_is_sorted_by_class_and_has_k_rows_of_each():
    keys, labels = listing()
    split = k_shot_split(keys, labels, CLASSES, 2, 7)
    assert labels[split.rows_n].tolist() == [0, 0, 1, 1, 2, 2]
    assert (split.shots, split.split_seed, split.rows_n.dtype) == (2, 7, np.int64)


def test_split_is_pinned_across_releases_and_machines():
    # Worked out once by hand with hashlib.blake2b; a change here would silently change everybody's splits.
    keys, labels = listing(3, 0)
    assert chosen(k_shot_split(keys, labels, CLASSES, 1, 0), keys) == PINNED


PINNED = ["cat/2.png", "dog/2.png", "sea lion/1.png"]


def test_split_does_not_depend_on_row_order_or_class_numbers():
    keys, labels = listing()
    split = k_shot_split(keys, labels, CLASSES, 3, 1)
    order = np.random.default_rng(0).permutation(len(keys))
    renumbered = np.array([1, 2, 0, -1])[labels]
    moved_keys = [keys[row] for row in order]
    moved = k_shot_split(moved_keys, renumbered[order], ("sea lion", "cat", "dog"), 3, 1)
    assert set(chosen(moved, moved_keys)) == set(chosen(split, keys))
    assert moved.digest == split.digest
    same_classes = k_shot_split(moved_keys, labels[order], CLASSES, 3, 1)
    assert chosen(same_classes, moved_keys) == chosen(split, keys)


def test_splits_are_nested_and_change_with_the_seed():
    keys, labels = listing(20)
    by_shots = [set(chosen(k_shot_split(keys, labels, CLASSES, shots, 3), keys)) for shots in (1, 2, 4, 8)]
    assert all(small < large for small, large in itertools.pairwise(by_shots))
    assert set(chosen(k_shot_split(keys, labels, CLASSES, 8, 4), keys)) != by_shots[-1]


def test_every_row_is_about_equally_likely():
    keys, labels = listing(10, 0)
    counts = sum(np.isin(np.arange(30), k_shot_split(keys, labels, CLASSES, 5, seed).rows_n) for seed in range(200))
    assert counts.min() > 60
    assert counts.max() < 140


def test_all_labelled_leaves_out_rows_without_a_label():
    keys, labels = listing()
    split = all_labelled(keys, labels, CLASSES)
    assert sorted(split.rows_n.tolist()) == list(range(18))
    assert (split.shots, split.split_seed) == (6, None)


def test_choose_split_takes_the_option_given(tmp_path):
    keys, labels = listing()
    drawn = choose_split(keys, labels, CLASSES, shots=2, split_seed=5, split_file=None)
    assert drawn.digest == k_shot_split(keys, labels, CLASSES, 2, 5).digest
    write_split_file(tmp_path / "s.txt", drawn, keys, labels, CLASSES)
    read = choose_split(keys, labels, CLASSES, shots=None, split_seed=0, split_file=str(tmp_path / "s.txt"))
    assert read.digest == drawn.digest
    whole = choose_split(keys, labels, CLASSES, shots=None, split_seed=0, split_file=None)
    assert whole.digest == all_labelled(keys, labels, CLASSES).digest


def test_split_file_gives_the_same_rows_back(tmp_path):
    keys, labels = listing()
    keys[0], keys[6], keys[12] = "cat/a b.png", "dog/tab\there.png", "sea lion/ä.png"
    split = k_shot_split(keys, labels, CLASSES, 6, 2)
    write_split_file(tmp_path / "s.txt", split, keys, labels, CLASSES)
    read = read_split_file(tmp_path / "s.txt", keys, labels, CLASSES)
    np.testing.assert_array_equal(read.rows_n, split.rows_n)
    assert (read.digest, read.shots, read.split_seed) == (split.digest, 6, None)


def test_split_file_lines_are_class_space_key(tmp_path):
    keys, labels = listing()
    write_split_file(tmp_path / "s.txt", k_shot_split(keys, labels, CLASSES, 6, 2), keys, labels, CLASSES)
    lines = (tmp_path / "s.txt").read_text().splitlines()
    assert "dog dog/3.png" in lines
    assert "sea lion\tsea lion/3.png" in lines


def test_files_of_others_are_read(tmp_path):
    keys, labels = listing()
    text = "\ufeffdog 3.png\r\n\r\ncat cat/1.png\r\nsea lion\tsea lion/5.png\r\ncat cat/0.png\r\n"
    (tmp_path / "s.txt").write_bytes(text.encode())
    split = read_split_file(tmp_path / "s.txt", keys, labels, CLASSES)
    assert chosen(split, keys) == ["cat/1.png", "cat/0.png", "dog/3.png", "sea lion/5.png"]
    assert split.shots is None


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("comma", [",", ";"])
def test_a_table_with_the_columns_key_and_class_is_read(tmp_path, comma, end):
    keys, labels = listing()
    keys[1], keys[2] = "cat/a,b;c.png", 'cat/"d".png'
    header = ["key", "rank", "class", "note"]
    lines = [header, ["cat/a,b;c.png", 1, " cat ", "x"], ["dog/2.png", 2, "", "not sure"], ["dog/3.png", 3, "dog"], []]
    lines += [["sea lion/0.png", 1, "sea lion", ""], header, ['cat/"d".png', 5, "cat", ""]]
    with (tmp_path / "s.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=comma, lineterminator=end).writerows(lines)
    split = read_split_file(tmp_path / "s.csv", keys, labels, CLASSES)
    assert chosen(split, keys) == ["cat/a,b;c.png", 'cat/"d".png', "dog/3.png", "sea lion/0.png"]


def test_too_few_images_name_the_class_and_count():
    keys, labels = listing()
    labels[labels == 1] = [1, 1, -1, -1, -1, -1]
    with pytest.raises(DataError, match=r"class 'dog' has 2 labelled images, fewer than the 4 shots .*--shots 2"):
        k_shot_split(keys, labels, CLASSES, 4, 0)


def test_unlabelled_store_is_refused():
    with pytest.raises(DataError, match="none of the 2 rows has a label"):
        k_shot_split(["a", "b"], np.array([-1, -1]), (), 1, 0)


@pytest.mark.parametrize("classes", [("cat",), ("cat", "dog")])
def test_one_class_is_refused(classes):
    with pytest.raises(DataError, match="all labelled rows are of one class, 'cat'"):
        all_labelled(["a", "b"], np.array([0, 0]), classes)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("catt cat/1.png", r"line 1 names class 'catt', which the store lacks. Did you mean cat\?"),
        ("cat cat/l.png", r"line 1 names 'cat/l.png', which the store lacks. Did you mean cat/"),
        ("dog cat/1.png", "line 1 gives 'cat/1.png' the class 'dog', but the store holds 'cat'"),
        ("dog extra/0.png", "the store holds no label for it"),
        ("dog", "line 1 is 'dog'; each line must be `class key`, or the first one the header of a table"),
        ("class,key\ndog,", "line 2 has the class 'dog' and no key; give the key, or delete the line"),
        ("class,key\ndog,dog/1.png\ndog,dog/1.png", r"line 3 names 'dog/1.png' again \(line 2\)"),
        ("cat cat/1.png\ncat cat/1.png", r"line 2 names 'cat/1.png' again \(line 1\)"),
        ("cat cat/1.png", r"has no row for class 'dog' \(2 of 3 classes are missing\)"),
    ],
)
def test_bad_split_files_are_refused(tmp_path, line, message):
    keys, labels = listing()
    (tmp_path / "s.txt").write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        read_split_file(tmp_path / "s.txt", keys, labels, CLASSES)


def test_missing_split_file_is_refused(tmp_path):
    keys, labels = listing()
    with pytest.raises(DataError, match=r"cannot be read \(No such file"):
        read_split_file(tmp_path / "none.txt", keys, labels, CLASSES)


def test_names_that_no_line_can_hold_are_refused(tmp_path):
    keys, labels = ["a\nb", "c"], np.array([0, 1])
    split = all_labelled(keys, labels, ("x", "y"))
    with pytest.raises(DataError, match="cannot hold line breaks"):
        write_split_file(tmp_path / "s.txt", split, keys, labels, ("x", "y"))
    assert list(tmp_path.iterdir()) == []


def test_a_class_with_fewer_labels_gives_all_of_them_and_one_line_says_so(capsys):
    keys, labels = listing()
    labels[3:6] = -1  # of the cats three are left
    store = SimpleNamespace(keys=keys, labels_N=labels, classes=CLASSES)
    split = split_of(store, SimpleNamespace(shots=4, split_seed=None, split_file=None, seed=7))
    assert np.bincount(labels[split.rows_n]).tolist() == [3, 4, 4]
    assert split.shots is None
    assert capsys.readouterr().err == (
        "--shots 4 is up to 4: 1 of 3 classes have fewer labels, and give all of them (cat 3); 11 labelled images in all.\n"
    )
    exact = k_shot_split(keys, labels, CLASSES, 3, 7)
    assert split_of(store, SimpleNamespace(shots=3, split_seed=7, split_file=None, seed=0)).digest == exact.digest
    assert set(exact.rows_n) < set(split.rows_n)
    assert capsys.readouterr().err == ""


def test_counts_of_classes_in_words():
    assert describe_labels([0, 0, 1, -1], ("cat", "dog")) == "3 of 4 images are labelled, 2 classes: cat 2, dog 1."
    assert describe_labels([0, 1], ("cat", "dog")) == "all 2 images are labelled, 2 classes: cat 1, dog 1."
    assert describe_labels([-1, -1], ()) == "none of the 2 images has a label."
    assert counted({f"c{i}": i for i in range(12)}).endswith("c9 9 and 2 more")


@pytest.mark.parametrize("form", ["lines", "ibm2", "coop"])
def test_every_form_gives_the_same_rows_back(tmp_path, form):
    keys, labels = listing()
    keys = [
        f"{CLASSES[label]}/{number} x.png" if label >= 0 else key
        for number, (key, label) in enumerate(zip(keys, labels, strict=True))
    ]
    split = k_shot_split(keys, labels, CLASSES, 3, 2)
    write_split_file(tmp_path / "s", split, keys, labels, CLASSES, form)
    read = read_split_file(tmp_path / "s", keys, labels, CLASSES)
    np.testing.assert_array_equal(read.rows_n, split.rows_n)
    assert read.digest == split.digest


def test_coop_and_ibm2_have_the_form_that_their_readers_want(tmp_path):
    keys, labels = ["a/1.png", "a/2.png", "b/1.png"], np.array([0, 0, 1])
    split = k_shot_split(keys, labels, ("a", "b"), 1, 0)
    write_split_file(tmp_path / "s.json", split, keys, labels, ("a", "b"), "coop")
    first = keys[split.rows_n[0]]
    assert json.loads((tmp_path / "s.json").read_text()) == {
        "train": [[first, 0, "a"], ["b/1.png", 1, "b"]],
        "val": [],
        "test": [],
    }
    write_split_file(tmp_path / "s.txt", split, keys, labels, ("a", "b"), "ibm2")
    assert (tmp_path / "s.txt").read_text() == f"a {first.removeprefix('a/')}\nb 1.png\n"


def test_forms_refuse_names_that_they_cannot_hold(tmp_path):
    labels, names = np.array([0, 1]), ("a", "b")
    for form, key, message in (
        ("ibm2", "c/1.png", "key 'c/1.png' is not in a folder 'a'.* write the split as lines or coop"),
        ("ibm2", "a", "key 'a' is not in a folder 'a'"),
        ("coop", "a/\udcff.png", r"key 'a/\\udcff.png': JSON holds names in UTF-8 alone"),
    ):
        split = all_labelled([key, "b/1.png"], labels, names)
        with pytest.raises(DataError, match=message):
            write_split_file(tmp_path / "s", split, [key, "b/1.png"], labels, names, form)
    assert not (tmp_path / "s").exists()
