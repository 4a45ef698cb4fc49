"""The facts of stores: open, closed, packed, imported; the keys are always the same."""

import numpy as np
from artefacts import make_store

import cache
from tcs.cli.cache.info import lines
from tcs.maintenance.facts import store_facts

KEYS = {
    "store", "state", "format_version", "inputs", "labelled", "unlabelled", "classes", "rows_per_class", "rows_of_class", "labelled_later",
    "readouts", "views", "constants", "images", "shards", "made_from", "gate", "quarantine", "provenance", "packed", "identity", "rows",
    "shards_written", "bytes", "feature_bytes", "image_bytes", "duplicates", "seen", "pixels",
}  # fmt: skip


def test_a_closed_store_and_its_packed_twin(tmp_path):
    store = make_store(tmp_path / "x.store", rows=100)
    found = store_facts(store.path)
    assert set(found) == KEYS
    assert (found["state"], found["packed"], found["rows"], found["inputs"]) == ("closed", False, 100, 100)
    assert (found["shards"], found["shards_written"], found["labelled"], found["unlabelled"]) == (3, 3, 100, 0)
    assert found["rows_per_class"] == {"min": 33, "median": 33, "max": 34}
    assert found["bytes"] == sum(path.stat().st_size for path in store.path.glob("*.h5"))
    assert found["feature_bytes"] == 100 * 24 * 4
    assert found["image_bytes"] == sum(len(store.image_bytes(row)) for row in range(100))
    packed = store_facts(cache.pack(store.path, tmp_path / "x.h5"))
    own = {"store", "packed", "bytes"}
    assert {name: value for name, value in packed.items() if name not in own} == {
        name: value for name, value in found.items() if name not in own
    }
    assert (packed["packed"], packed["bytes"]) == (True, (tmp_path / "x.h5").stat().st_size)
    assert lines(packed)["store"] == f"{tmp_path / 'x.h5'} (packed), format version 2"
    assert lines(found)["classes"] == "3 (33 to 34, median 33 rows each): ant 34, bee 33, cow 33"


def test_an_open_store_shows_how_far_it_is(tmp_path):
    plan = make_store(tmp_path / "x.store", rows=100).manifest.plan
    with cache.StoreWriter(tmp_path / "y.store", plan, provenance={"of": "me"}):
        for name in ("shard-00000.h5", "shard-00001.h5"):
            (tmp_path / "y.store" / name).write_bytes((tmp_path / "x.store" / name).read_bytes())
    found = store_facts(tmp_path / "y.store")
    assert set(found) == KEYS
    assert (found["state"], found["identity"], found["rows"], found["shards_written"]) == ("open", None, None, 2)
    told = lines(found)
    assert told["state"] == "open: 2 of 3 shards are written; rerun the command that began it"
    assert (told["identity"], told["rows"]) == ("none before it is closed", "100 inputs planned")
    assert told["size"].endswith(" MB so far")


def test_an_open_store_names_the_bad_images_of_the_shards_that_stand(tmp_path):
    plan = cache.Plan(
        identity={},
        readouts=(cache.Readout(name="avg", dims=2, dtype="float32"),),
        keys=tuple("abcdef"),
        labels=(-1,) * 6,
        classes=(),
        images="none",
        rows_per_shard=2,
        batch_size=2,
    )
    with cache.StoreWriter(tmp_path / "x.store", plan, provenance={}) as writer:
        assert lines(store_facts(tmp_path / "x.store"))["quarantine"] == "none so far"
        bad = cache.Quarantined(key="d", position=3, reason="empty file")
        rows = cache.ShardRows(
            positions_N=np.array([2]),
            hashes_N16=np.zeros((1, 16), np.uint8),
            features={"avg": np.ones((1, 2), np.float32)},
            quarantine=[bad],
        )
        writer.write_shard(1, rows)
        assert cache.standing_quarantine(tmp_path / "x.store") == (bad,)
        found = store_facts(tmp_path / "x.store")
        assert (found["state"], found["quarantine"]) == ("open", [{"key": "d", "reason": "empty file"}])
        assert lines(found)["quarantine"] == "1 so far: d (empty file)"
        (tmp_path / "x.store/shard-00001.h5").write_bytes(b"x")
        assert cache.standing_quarantine(tmp_path / "x.store") == ()


def test_what_is_not_there_is_told_in_words(tmp_path):
    path = cache.create(
        tmp_path / "x.store",
        {"avg": np.ones((3, 2)), "map": np.ones((3, 1, 2, 2))},
        keys=["a", "b", "c"],
        identity={"rows": "mine", "teacher_kwargs": {}, "layers": [1, 2]},
        provenance={"teacher": {"licence": "mit"}},
    )
    told = lines(store_facts(path))
    assert told["classes"] == "none"
    assert told["rows"] == "3 in 1 shard; 3 without a label"
    assert told["readouts"] == "avg (2 x float32), map (1 x 2 x 2 x float32)"
    assert (told["teacher kwargs"], told["layers"], told["gate"], told["quarantine"]) == (
        "none",
        "1 2",
        "not run",
        "none",
    )
    assert told["licence"] == "mit (of the teacher's weights)"
    assert told["size"].endswith(": features 0.0, images 0.0")


def test_views_constants_and_quarantine_are_told():
    path = __file__.replace("test_store_facts.py", "fixtures/store_v2")
    told = lines(store_facts(path))
    assert told["augmented views"] == "2, each with flip, top"
    assert told["constants"] == "projection/map 2 x 2"
    assert told["quarantine"] == "1: a/ä 4.png (truncated file)"
