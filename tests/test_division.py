"""`tcs distill --val-split`: a part of the labelled images held out, copies on one side, and a file that says so."""

import csv

import numpy as np
import pytest

import cache
from tcs.config.distill import DistillConfig, Places
from tcs.errors import ArtefactError, DataError
from tcs.pipeline import division
from tcs.pipeline.division import (
    COSINES,
    NEAR_COPY,
    TEST,
    TRAIN,
    choose_parts,
    copies_by_cosine,
    copies_of,
    divide,
    divided,
)
from tcs.splits.shots import read_split_file

DIMS = 16


def write_store(path, features_ND, labels, images):
    """A store of these rows; equal images are exact copies."""
    keys = [f"{row}.png" for row in range(len(labels))]
    return cache.open(
        cache.create(
            path, {"avg": features_ND.astype(np.float32)}, keys=keys, labels=labels, images=images, rows_per_shard=8
        )
    )


def distinct(rows, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, DIMS))


@pytest.fixture
def places(tmp_path):
    """20 rows of `a`, 10 of `b`, 10 without a label; 0 and 1 have one image, 2 is near 30, 3 near 4, 36 near 37."""
    features_ND = distinct(40)
    features_ND[30] = features_ND[2] + 0.02 * distinct(1, 1)
    features_ND[37] = features_ND[36] + 0.02 * distinct(1, 2)
    features_ND[4] = features_ND[3] + 0.02 * distinct(1, 3)
    images = [f"image {0 if row == 1 else row}".encode() for row in range(40)]
    write_store(tmp_path / "all.store", features_ND, ["a"] * 20 + ["b"] * 10 + [None] * 10, images)
    return Places(tmp_path)


def slow_groups(store):
    """Copies by comparing all pairs one by one, and spreading the lowest number until nothing changes."""
    features_ND = store.features()[:].astype(np.float64)
    features_ND = features_ND - features_ND.mean(0)
    group = list(range(len(store)))
    while True:
        before = list(group)
        for i in range(len(store)):
            for j in range(len(store)):
                cosine = (
                    features_ND[i] @ features_ND[j] / np.linalg.norm(features_ND[i]) / np.linalg.norm(features_ND[j])
                )
                is_labelled = store.labels_N[i] >= 0 or store.labels_N[j] >= 0
                if (cosine > NEAR_COPY and is_labelled) or (store.hashes_N16[i] == store.hashes_N16[j]).all():
                    group[i] = group[j] = min(group[i], group[j])
        if before == group:
            return group


def test_copies_are_linked_as_a_slow_comparison_links_them(places):
    store = cache.open(places.whole_store)
    found = copies_of(store).tolist()
    assert found == slow_groups(store)
    assert [row for row in range(40) if found[row] != row] == [1, 4, 30]  # 37 is near 36, and neither has a label


@pytest.mark.parametrize("seed", range(8))
def test_parts_are_stratified_and_no_copy_straddles(places, seed):
    store = cache.open(places.whole_store)
    parts = choose_parts(store, 0.2, seed)
    assert parts == choose_parts(store, 0.2, seed)
    counts = {
        name: sum(part == TEST and store.labels_N[row] == label for row, part in enumerate(parts))
        for label, name in enumerate("ab")
    }
    assert counts["a"] in (4, 5)  # a group more than the share at most
    assert counts["b"] == 2
    for one, other in ((0, 1), (3, 4), (2, 30)):
        assert parts[one] == parts[other]
    copies = {30} if parts[2] == TEST else set()
    assert {row for row in range(30, 40) if parts[row] == TEST} == copies


def test_another_seed_holds_out_others(places):
    store = cache.open(places.whole_store)
    assert len({tuple(choose_parts(store, 0.2, seed)) for seed in range(5)}) == 5


def test_copies_under_two_classes_are_never_scored(tmp_path):
    images = [b"same", b"same", *(f"{row}".encode() for row in range(6))]
    store = write_store(tmp_path / "x.store", distinct(8), ["a", "b", "a", "b", "a", "b", "a", "b"], images)
    assert all(choose_parts(store, 0.5, seed)[:2] == [TRAIN, TRAIN] for seed in range(6))


def test_each_class_keeps_an_image_to_train_on(tmp_path):
    store = write_store(
        tmp_path / "x.store", distinct(5), ["a", "a", "b", "b", "b"], [f"{row}".encode() for row in range(5)]
    )
    parts = choose_parts(store, 0.99, 0)
    assert sorted(parts[:2]) == [TEST, TRAIN]
    assert sorted(parts[2:]) == [TEST, TEST, TRAIN]
    lonely = write_store(tmp_path / "y.store", distinct(2), ["a", "b"], [b"0", b"1"])
    with pytest.raises(DataError, match=r"no class of .* has two labelled images that are no copies of each other"):
        choose_parts(lonely, 0.2, 0)


@pytest.fixture(scope="module")
def alike(tmp_path_factory):
    """36 rows of either class: two circles, on which each image has a cosine of 0.94 to the next, so that all chain; and of two images a
    near copy, 72 and 73, of another a true one, 74."""
    turns = np.arange(18) * 2 * np.pi / 18
    features_ND = np.zeros((72, DIMS))
    for circle in range(4):
        features_ND[18 * circle : 18 * circle + 18, 2 * circle : 2 * circle + 2] = np.stack(
            [np.cos(turns), np.sin(turns)], 1
        )
    copies_ND = features_ND[[0, 40, 60]] + 0.002 * distinct(3, 1)
    images = [f"image {60 if row == 74 else row}".encode() for row in range(75)]
    path = tmp_path_factory.mktemp("alike") / "x.store"
    return write_store(
        path, np.concatenate([features_ND, copies_ND]), ["a"] * 36 + ["b"] * 36 + ["a", "b", "b"], images
    )


@pytest.mark.parametrize("seed", range(6))
def test_images_that_chain_do_not_take_the_share_far_beyond_what_was_asked(alike, seed, capsys):
    chained = divided(alike, 0.2, seed, copies_of(alike), NEAR_COPY)
    assert sorted(chained.linked) == [18, 19, 19, 19]
    assert chained.images in (37, 38)
    parts = choose_parts(alike, 0.2, seed)
    held = parts.count(TEST)
    assert 15 <= held <= 18  # 7 of 37 and 8 of 38 are asked for; a group more than the share at most in each class
    assert parts == divided(alike, 0.2, seed, copies_of(alike, 0.95), 0.95).parts
    for one, other in ((0, 72), (40, 73), (60, 74)):
        assert parts[one] == parts[other]
    told = capsys.readouterr().err
    assert (
        f"19 images are one group of copies by a cosine above 0.85, and {chained.images} would be held out in place of 15; so copies are "
        f"linked otherwise (cosine above 0.95), and {held} are held out.\n"
        "6 images are copies of each other (3 groups, cosine above 0.95); none straddles.\n"
    ) in told


def test_features_are_looked_at_twice_at_most_however_many_cosines_are_tried(alike, monkeypatch):
    looks, look = [], division._cosines
    monkeypatch.setattr(division, "_cosines", lambda store: looks.append(1) or look(store))
    found = copies_by_cosine(alike, COSINES)
    assert looks == [1]
    assert list(found) == list(COSINES)
    for cosine in COSINES:
        assert found[cosine].tolist() == copies_of(alike, cosine).tolist()
    assert len({tuple(groups.tolist()) for groups in found.values()}) >= 3
    looks.clear()
    choose_parts(alike, 0.2, 0)
    assert looks == [1, 1]


def test_exact_copies_stay_together_however_many_and_are_held_out_only_where_nothing_else_is(tmp_path):
    images = [b"same"] * 30 + [f"{row}".encode() for row in range(10)]
    store = write_store(tmp_path / "x.store", distinct(40), ["a"] * 40, images)
    for seed in range(6):
        parts = choose_parts(store, 0.2, seed)
        assert parts[:30] == [TRAIN] * 30
        assert parts.count(TEST) == 8  # all asked for: what is left is passed over until it fits
    forced = write_store(tmp_path / "y.store", distinct(33), ["a"] * 33, [b"0"] * 11 + [b"1"] * 11 + [b"2"] * 11)
    parts = choose_parts(forced, 0.2, 0)
    assert sorted(tuple({*parts[start : start + 11]}) for start in (0, 11, 22)) == [(TEST,), (TRAIN,), (TRAIN,)]


# Rows held out by releases whose links were above 0.85 whatever came of it: as long as that is the share, by this one as well
HELD = [
    [9, 10, 14, 19, 23, 24],
    [3, 4, 8, 14, 24, 29],
    [3, 4, 8, 13, 23, 24],
    [0, 1, 7, 17, 23, 24],
    [3, 4, 9, 15, 21, 28],
    [0, 1, 8, 9, 20, 22],
    [3, 4, 16, 18, 21, 22],
    [0, 1, 6, 15, 22, 23],
]


@pytest.mark.parametrize("seed", range(8))
def test_a_share_that_was_kept_is_of_the_same_rows_as_ever(places, seed, capsys):
    parts = choose_parts(cache.open(places.whole_store), 0.2, seed)
    assert [row for row, part in enumerate(parts) if part == TEST] == HELD[seed]
    assert "would be held out" not in capsys.readouterr().err


def test_the_file_says_what_is_where_and_is_a_split_file(places):
    divide(places, 0.2, 3)
    whole, train, test = (cache.open(path) for path in (places.whole_store, places.train_store, places.test_store))
    rows = list(csv.DictReader(places.split_file.read_text().splitlines()))
    assert [row["key"] for row in rows] == list(whole.keys)
    for part, store in ((TRAIN, train), (TEST, test)):
        assert [row["key"] for row in rows if row["part"] == part] == store.keys
    assert len(train) + len(test) == 40
    assert train.classes == test.classes == ("a", "b")
    split = read_split_file(places.split_file, whole.keys, whole.labels_N, whole.classes)
    assert len(split.rows_n) == 30


def test_a_rerun_finds_all_and_added_labels_reach_both_parts(places):
    divide(places, 0.2, 3)
    before = {path: path.read_bytes() for path in places.out.rglob("*") if path.is_file()}
    divide(places, 0.5, 4)  # the file that is there is followed
    assert {path: path.read_bytes() for path in before} == before
    keys = cache.open(places.whole_store).keys
    cache.set_labels(places.whole_store, {keys[35]: "c", keys[0]: "b"}, source={})
    divide(places, 0.2, 3)
    stores = [cache.open(path) for path in (places.train_store, places.test_store)]
    found = {
        key: store.classes[label]
        for store in stores
        for key, label in zip(store.keys, store.labels_N, strict=True)
        if label >= 0
    }
    assert (found[keys[35]], found[keys[0]], len(found)) == ("c", "b", 31)
    assert {store.identity for store in stores} == {
        cache.open(path).identity for path in (places.train_store, places.test_store)
    }


@pytest.mark.parametrize(
    "text", ["", "key,part,class\n0.png,train,a\n", "key,class\n0.png,a\n"], ids=["empty", "other images", "no parts"]
)
def test_a_file_of_something_else_is_not_followed(places, text):
    places.split_file.write_text(text)
    with pytest.raises(ArtefactError, match=r"split\.csv does not divide the images of this store; delete it"):
        divide(places, 0.2, 3)
    assert not places.train_store.exists()


@pytest.mark.parametrize("images", ["original", "none"])
def test_the_chain_trains_on_one_part_and_scores_on_the_other(tmp_path, teacher, images):
    from extraction import SIDE, fill

    import tcs

    config = DistillConfig.from_options(
        {
            "data": str(fill(tmp_path / "data", 20)),
            "out": str(tmp_path / "work"),
            "images": images,
            "unlabelled_data": (str(fill(tmp_path / "pool", 4)),),
            "val_split": 0.2,
            "teacher": "test_vit",
            "teacher_checkpoint": str(teacher),
            "img_size": SIDE,
            "workers": 0,
            "models": ("resnet18,layers=(1,1,1,1),channels=(4,4,8,8)",),
            "student_img_size": 16,
            "student_batch_size": 8,
            "steps": 2,
            "held_out": 0,
        }
    )
    outcome = tcs.distill(config)
    train, test = cache.open(config.places.train_store), cache.open(config.places.test_store)
    assert (len(train) + len(test), int((test.labels_N >= 0).sum())) == (24, 4)
    assert train.has_images is (images == "original")
    assert [(row["method"], row["labels"], row["rows"]) for row in outcome.rows] == [
        ("tcs-pool", 16, 4),
        ("teacher-probe", 16, 4),
    ]
    assert outcome.rows[0]["seen"] == 0
    assert tcs.distill(config).rows == outcome.rows
