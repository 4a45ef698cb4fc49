"""Labels that a store is given after its plan: what they change, what they must not, and who reads them."""

import json
import pathlib

import numpy as np
import pytest
from artefacts import make_store

import cache
from cache import errors


@pytest.fixture
def store(tmp_path):
    """Six rows: 0-ant ... each of its class, but for one without a label."""
    features = np.arange(24, dtype=np.float32).reshape(6, 4)
    labels = ["ant", "bee", None, "ant", "bee", "cow"]
    return cache.open(cache.create(tmp_path / "x.store", {"avg": features}, keys=list("abcdef"), labels=labels))


def names(store):
    return [None if label < 0 else store.classes[label] for label in store.labels_N]


def manifest_of(path):
    return json.loads((path / "manifest.json").read_text())


def test_labels_are_taken_away(tmp_path):
    path = cache.create(
        tmp_path / "x.store", {"avg": np.eye(3, dtype=np.float32)}, keys=["a", "b", "c"], labels=["x", "y", None]
    )
    found = cache.set_labels(path, {"a": None, "b": "z", "c": None}, source={"by": "me"})
    assert found == cache.LabelChanges(added=0, changed=1, same=1, removed=1)
    store = cache.open(path)
    assert (store.classes, store.labels_N.tolist()) == (("z",), [-1, 0, -1])
    assert store.manifest.later_labels.history == ({"by": "me", "added": 0, "changed": 1, "removed": 1},)
    assert cache.set_labels(path, {"a": None}, source={}) == cache.LabelChanges(added=0, changed=0, same=1)
    assert len(cache.open(path).manifest.later_labels.history) == 1


def test_labels_are_added_and_corrected_and_identity_and_shards_stay(store):
    shards = {path.name: path.read_bytes() for path in store.path.glob("*.h5")}
    found = cache.set_labels(store.path, {"c": "yak", "f": "ant", "a": "ant"}, source={"file": "l.csv"})
    assert found == cache.LabelChanges(added=1, changed=1, same=1)
    after = cache.open(store.path)
    assert names(after) == ["ant", "bee", "yak", "ant", "bee", "ant"]
    assert after.classes == ("ant", "bee", "yak")  # the cow has no row left
    assert after.identity == store.identity
    assert after.content_digests == store.content_digests
    assert {path.name: path.read_bytes() for path in store.path.glob("*.h5")} == shards
    assert cache.verify(store.path).is_sound
    assert sorted(path.name for path in store.path.iterdir()) == ["manifest.json", *sorted(shards)]


def test_results_that_read_labels_can_tell_and_the_history_is_kept(store):
    assert store.labelled_identity == store.identity
    seen = {store.labelled_identity}
    for label in ("ant", "bee"):
        cache.set_labels(store.path, {"c": label}, source={"file": f"{label}.csv"})
        seen.add(cache.open(store.path).labelled_identity)
    assert len(seen) == 3
    assert all(text.startswith(store.identity) for text in seen)
    assert [dict(entry) for entry in cache.open(store.path).manifest.later_labels.history] == [
        {"file": "ant.csv", "added": 1, "changed": 0},
        {"file": "bee.csv", "added": 0, "changed": 1},
    ]


def test_nothing_is_written_where_nothing_changes(store):
    cache.set_gate(store.path, {"knn": 1.0})
    before = (store.path / "manifest.json").read_bytes()
    assert cache.set_labels(store.path, {"a": "ant"}, source={}) == cache.LabelChanges(added=0, changed=0, same=1)
    assert (store.path / "manifest.json").read_bytes() == before
    assert manifest_of(store.path)["format_version"] == 2


def test_entries_of_the_provenance_are_written_with_the_labels_or_alone(store):
    cache.set_gate(store.path, {"knn": 1.0})
    cache.set_labels(store.path, {}, source={}, provenance={"file": "a.csv", "more": 1})
    after = cache.open(store.path)
    assert after.manifest.provenance == {**store.manifest.provenance, "file": "a.csv", "more": 1}
    assert (after.identity, after.manifest.gate, after.manifest.later_labels) == (store.identity, {"knn": 1.0}, None)
    before = (store.path / "manifest.json").read_bytes()
    cache.set_labels(store.path, {"a": "ant"}, source={}, provenance={"file": "a.csv"})
    assert (store.path / "manifest.json").read_bytes() == before
    cache.set_labels(store.path, {"c": "yak"}, source={}, provenance={"file": "b.csv"})
    assert cache.open(store.path).manifest.provenance["file"] == "b.csv"


def test_a_gate_read_the_old_labels_so_it_goes(store):
    cache.set_gate(store.path, {"knn": 1.0})
    cache.set_labels(store.path, {"c": "ant"}, source={})
    assert cache.open(store.path).manifest.gate is None


def test_releases_that_know_no_later_labels_refuse_the_store_by_its_version(store):
    cache.set_labels(store.path, {"c": "ant"}, source={})
    manifest = manifest_of(store.path)
    assert manifest["format_version"] == 3
    assert manifest["labels"]["plan_version"] == 2
    assert manifest["plan"]["labels"] == [0, 1, -1, 0, 1, 2]  # as in the shards
    again = cache.Manifest.from_json(manifest)
    assert again.to_json() == manifest


def test_a_store_of_version_1_keeps_its_plan_and_shards(tmp_path):
    keys = ("a", "b", "c")
    plan = cache.Plan(
        identity={},
        readouts=(cache.Readout(name="avg", dims=2, dtype="float32"),),
        keys=keys,
        labels=(-1, -1, -1),
        classes=(),
        images="none",
        rows_per_shard=4,
        batch_size=4,
        format_version=1,
    )
    hashes = np.frombuffer(b"".join(map(cache.content_hash, (b"a", b"b", b"c"))), np.uint8).reshape(-1, 16)
    rows = cache.ShardRows(
        positions_N=np.arange(3), hashes_N16=hashes, features={"avg": np.eye(3, 2)}, images=None, quarantine=()
    )
    with cache.StoreWriter(tmp_path / "x.store", plan, provenance={}) as writer:
        writer.write_shard(0, rows)
        writer.close()
    cache.set_labels(tmp_path / "x.store", {"b": "x"}, source={})
    assert names(cache.open(tmp_path / "x.store")) == [None, "x", None]
    assert manifest_of(tmp_path / "x.store")["labels"]["plan_version"] == 1
    assert cache.verify(tmp_path / "x.store").is_sound


def test_a_lost_shard_that_is_written_again_leaves_the_labels(tmp_path):
    store = make_store(tmp_path / "x.store", labelled=False)
    kept = (store.path / "shard-00001.h5").read_bytes()
    cache.set_labels(store.path, {store.keys[5]: "cow"}, source={})
    (store.path / "shard-00001.h5").unlink()
    with cache.StoreWriter(store.path, store.manifest.plan, provenance={}):
        assert cache.read_manifest(store.path).state == "open"
        (store.path / "shard-00001.h5").write_bytes(kept)
    with cache.StoreWriter(store.path, store.manifest.plan, provenance={}) as writer:
        writer.close()
    after = cache.open(store.path)
    assert (after.identity, names(after)[5], after.classes) == (store.identity, "cow", ("cow",))


def test_stores_made_of_it_have_its_labels(store, tmp_path):
    cache.set_labels(store.path, {"c": "yak"}, source={})
    part = cache.open(cache.subset(store.path, tmp_path / "p.store", classes=["yak", "cow"]))
    assert (part.keys, names(part)) == (["c", "f"], ["yak", "cow"])
    other = cache.create(
        tmp_path / "o.store",
        {"avg": np.ones((1, 4), np.float32)},
        keys=["g"],
        labels=["yak"],
        identity={"teacher": "t"},
    )
    mine = cache.create(
        tmp_path / "m.store",
        {"avg": np.ones((1, 4), np.float32)},
        keys=["h"],
        labels=["bee"],
        identity={"teacher": "t"},
    )
    cache.set_labels(mine, {"h": "yak"}, source={})
    assert names(cache.open(cache.merge([mine, other], tmp_path / "both.store"))) == ["yak", "yak"]
    packed = cache.open(cache.pack(store.path, tmp_path / "x.h5"))
    assert (packed.identity, names(packed)[2]) == (store.identity, "yak")
    assert cache.verify(tmp_path / "x.h5").is_sound
    back = cache.unpack(tmp_path / "x.h5", tmp_path / "back.store")
    assert (back / "manifest.json").read_bytes() == (store.path / "manifest.json").read_bytes()


def test_the_stored_example_of_version_3_is_that_of_version_2_with_other_labels():
    fixtures = pathlib.Path(__file__).parent / "fixtures"
    plain, labelled = cache.open(fixtures / "store_v2"), cache.open(fixtures / "store_v3")
    assert (labelled.identity, labelled.content_digests) == (plain.identity, plain.content_digests)
    assert [names(store) for store in (plain, labelled)] == [["a", "a", None, "b"], ["a", "a", "c", "a"]]
    assert cache.verify(fixtures / "store_v3").is_sound


def test_an_export_of_other_labels_is_not_taken_for_finished(store, tmp_path):
    cache.export(store.path, tmp_path / "arrays")
    cache.set_labels(store.path, {"c": "yak"}, source={})
    with pytest.raises(errors.IdentityError, match="or another content of it"):
        cache.export(store.path, tmp_path / "arrays")
    cache.export(store.path, tmp_path / "arrays", overwrite=True)
    assert np.load(tmp_path / "arrays" / "labels.npy").tolist() == [0, 1, 3, 0, 1, 2]


def test_what_is_refused(store, tmp_path):
    with pytest.raises(errors.SchemaError, match="key 'zz' is none of the 6 inputs of the store"):
        cache.set_labels(store.path, {"zz": "ant"}, source={})
    with pytest.raises(errors.SchemaError, match="class '' must be text, not empty"):
        cache.set_labels(store.path, {"a": ""}, source={})
    packed = cache.pack(store.path, tmp_path / "x.h5")
    with pytest.raises(errors.StoreNotFoundError, match="a packed store is only read, so unpack it to change it"):
        cache.set_labels(packed, {"a": "ant"}, source={})
    assert manifest_of(store.path)["format_version"] == 2


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda labels: labels.update(labels=[0] * 5), "there are 5 later labels for 6 keys"),
        (lambda labels: labels.update(labels=[9] * 6), "label 9 in labels must be -1 or index the 3 classes there"),
        (lambda labels: labels.update(labels=["0"] * 6), r"labels.labels\[0\] is '0'; it must be a whole number"),
        (lambda labels: labels.update(plan_version=3), "format_version is 3; it must be one of"),
        (
            lambda labels: labels.update(plan_version=1),
            "field views, constants, which its format version does not know",
        ),
        (lambda labels: labels.pop("history"), "labels lacks the field history"),
        (lambda labels: labels.update(history=[3]), "labels.history is 3; it must be an object"),
        (lambda labels: labels.update(more=1), "labels has the field more"),
    ],
)
def test_a_damaged_field_is_named(store, harm, message):
    cache.set_labels(store.path, {"c": "ant"}, source={})
    manifest = manifest_of(store.path)
    harm(manifest["labels"])
    (store.path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(errors.SchemaError, match=message):
        cache.open(store.path)


def test_a_manifest_of_version_3_without_labels_is_refused(store):
    manifest = manifest_of(store.path) | {"format_version": 3}
    (store.path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(errors.SchemaError, match="manifest lacks the field labels"):
        cache.open(store.path)
