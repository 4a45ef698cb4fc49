"""Split files that others publish, nested splits, and pools that are made by true labels."""

import itertools
import json
import pickle

import numpy as np
import pytest
from artefacts import make_store

import cache
from tcs.config.train import TrainConfig
from tcs.config.unlabelled import parse_pool
from tcs.errors import ConfigError, DataError
from tcs.methods.named import find_method
from tcs.splits.pool import pool_of
from tcs.splits.shots import k_shot_split, read_split_file, up_to_k_split
from tcs.training.jobs import choose_rows

CLASSES = ("ant", "bee", "cow", "dog")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("splits") / "a.store", rows=200, classes=CLASSES)


def drawn(store, shots, seed=0):
    return k_shot_split(store.keys, store.labels_N, store.classes, shots, seed)


def read(store, path):
    return read_split_file(path, store.keys, store.labels_N, store.classes)


def test_splits_of_one_seed_lie_inside_each_other(store):
    for seed in range(3):
        splits = [set(drawn(store, shots, seed).rows_n.tolist()) for shots in (1, 2, 4, 16, 50)]
        assert [len(split) for split in splits] == [4, 8, 16, 64, 200]
        assert all(small < large for small, large in itertools.pairwise(splits))
    upto = [
        set(up_to_k_split(store.keys, store.labels_N, store.classes, shots, 0).rows_n.tolist()) for shots in (4, 60)
    ]
    assert upto[0] == set(drawn(store, 4).rows_n.tolist()) < upto[1]


def test_files_of_class_and_file_name_are_read(store, tmp_path):
    """As IbM2 publishes them: the class, and the name of the file inside its folder."""
    wanted = drawn(store, 4)
    lines = [
        f"{CLASSES[store.labels_N[row]]} {store.keys[row].partition('/')[2]}\n"
        for row in reversed(wanted.rows_n.tolist())
    ]
    (tmp_path / "4-shot.txt").write_text("".join(lines))
    found = read(store, tmp_path / "4-shot.txt")
    assert found.digest == wanted.digest
    assert (found.shots, found.split_seed) == (4, None)


def coop(store, rows, **more):
    return {"train": [[store.keys[row], int(store.labels_N[row]), CLASSES[store.labels_N[row]]] for row in rows]} | more


def test_splits_of_coop_are_read_by_their_list_train(store, tmp_path):
    wanted = drawn(store, 2)
    content = coop(store, wanted.rows_n, val=[], test=[["other.jpg", 0, "zebra"]])
    (tmp_path / "split.json").write_text(json.dumps(content))
    assert read(store, tmp_path / "split.json").digest == wanted.digest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"test": []}, r"is no split file in JSON \('train'\); it must have a list 'train' of \[path, number, class\]"),
        ({"train": [["a.png", 0]]}, r"entry 1 of train is \['a.png', 0\]; each entry must be \[path, number, class\]"),
        ({"train": [["ant/no.png", 0, "ant"]]}, r"entry 1 of train names 'ant/no.png', which the store lacks"),
        ({"train": [["ant/0.png", 0, "bat"]]}, "names class 'bat', which the store lacks"),
    ],
)
def test_what_is_no_such_split_is_refused(store, tmp_path, content, message):
    (tmp_path / "split.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read(store, tmp_path / "split.json")


def test_json_that_is_cut_short_is_refused(store, tmp_path):
    (tmp_path / "split.json").write_text('{"train": [["a"')
    with pytest.raises(DataError, match="is no split file in JSON"):
        read(store, tmp_path / "split.json")


def test_a_pickle_is_not_opened(store, tmp_path):
    (tmp_path / "shot_1-seed_1.pkl").write_bytes(pickle.dumps({"train": []}))
    with pytest.raises(DataError, match=r"is a pickle, which could run any program.*print\(x.classname, x.impath"):
        read(store, tmp_path / "shot_1-seed_1.pkl")


@pytest.mark.parametrize("seed", [0, 1])
def test_a_long_tail_falls_exponentially_by_its_factor(store, seed):
    split = drawn(store, 2, seed).rows_n
    rows = pool_of(store, split, "longtail-10", seed)
    others = np.setdiff1d(rows, split)
    assert len(rows) == len(others) + 8  # the labelled rows are in it whatever their class
    sizes = sorted(np.bincount(store.labels_N[others], minlength=4).tolist(), reverse=True)
    assert sizes == [int(48 * 10 ** (-place / 3)) for place in range(4)]
    np.testing.assert_array_equal(rows, pool_of(store, split, "longtail-10", seed))


def test_which_class_is_rare_is_drawn_by_the_seed(store):
    rare = {
        int(np.bincount(store.labels_N[pool_of(store, drawn(store, 1).rows_n, "longtail-20", seed)]).argmin())
        for seed in range(12)
    }
    assert len(rare) > 1


def test_a_long_tail_of_classes_of_other_sizes_keeps_its_shape(store):
    kept = np.concatenate(
        [np.flatnonzero(store.labels_N == label)[:count] for label, count in enumerate((50, 9, 30, 40))]
    )
    split = kept[[0, 50, 59, 89]]
    part = cache.open(store.path)
    part.keys = [part.keys[row] for row in kept]
    part.labels_N = part.labels_N[kept]
    rows = pool_of(part, np.searchsorted(kept, split), "longtail-4", 3)
    counts = np.bincount(part.labels_N[rows], minlength=4) - 1
    sizes = np.sort(counts)[::-1]
    assert sizes[0] / sizes[-1] == pytest.approx(4, rel=0.3)
    assert (counts <= [49, 8, 29, 39]).all()


def test_a_pool_without_classes_has_none_of_their_unlabelled_images(store):
    split = drawn(store, 2).rows_n
    rows = pool_of(store, split, "without [bee, dog]", 0)
    expected = [row for row in range(200) if row in split or store.labels_N[row] in (0, 2)]
    assert rows.tolist() == expected


def test_the_trainer_takes_such_pools(store):
    config = TrainConfig(
        store=str(store.path), out="x", models=("resnet18",), shots=2, seed=1, unlabelled="longtail-10", held_out=0
    )
    rows = choose_rows(config, store, find_method("tcs-pool"))
    np.testing.assert_array_equal(rows.rows_n, pool_of(store, rows.split.rows_n, "longtail-10", 1))
    assert config.asks_for_pool


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        ("without [emu]", "has no class 'emu'"),
        ("longtail-1000", r"longtail-1000, and the rarest class would have no row of the \d+ besides"),
    ],
)
def test_pools_that_cannot_be_made_are_refused(store, pool, message):
    with pytest.raises(ConfigError, match=message):
        pool_of(store, drawn(store, 2).rows_n, pool, 0)


def test_a_pool_by_labels_is_refused_where_rows_have_none(store):
    bare = cache.open(store.path)
    bare.labels_N = np.where(np.arange(200) < 20, bare.labels_N, -1)
    with pytest.raises(DataError, match=r"longtail-3, which is made by true labels, and 180 rows of .* have none"):
        pool_of(bare, np.array([0, 1, 2, 3]), "longtail-3", 0)


@pytest.mark.parametrize(
    "text", ["longtail-1", "longtail-x", "without []", "without [a, a]", "without a", "some", "-3", ""]
)
def test_other_texts_are_no_pools(text):
    with pytest.raises(
        ConfigError, match=r"--unlabelled is '.*'; it must be all, none, a whole number of rows, longtail-F"
    ):
        parse_pool(text)
