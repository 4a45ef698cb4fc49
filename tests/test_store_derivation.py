"""Merged stores and parts of stores, against plain indexing of the features and images they were made from."""

import re

import numpy as np
import pytest
from artefacts import make_store

import cache
from cache import errors

READOUTS = (
    cache.Readout(name="avg", dims=3, dtype="float16"),
    cache.Readout(name="map", dims=2, dtype="float32", grid=(1, 2)),
)
PLAIN = {"readouts": (cache.Readout(name="avg", dims=3, dtype="float16"),), "views": None, "constants": {}}
VIEWS = cache.Views(count=2, parameters=("flip",))


def rows_of(keys):
    """What each input gives, by its key alone: so that what comes out can be told without the store."""
    seeds = [int.from_bytes(cache.content_hash(key.encode())[:4], "little") for key in keys]
    generators = [np.random.default_rng(seed) for seed in seeds]
    return {
        "avg": np.array([g.normal(size=(2, 3)) for g in generators]).reshape(-1, 2, 3).astype(np.float16),
        "map": np.array([g.normal(size=(2, 1, 2, 2)) for g in generators]).reshape(-1, 2, 1, 2, 2).astype(np.float32),
        "views": np.array([g.normal(size=(2, 1)) for g in generators]).reshape(-1, 2, 1).astype(np.float32),
    }


def write(path, keys, classes, *, bad=(), rows_per_shard=4, images="original", **changes):
    """A store whose keys are `class/name`, or `-/name` without a label; the keys of `bad` are in quarantine."""
    fields = {
        "identity": {"teacher": {"name": "t"}},
        "readouts": READOUTS,
        "keys": keys,
        "labels": tuple(classes.index(key.partition("/")[0]) if key[0] != "-" else -1 for key in keys),
        "classes": classes,
        "images": images,
        "rows_per_shard": rows_per_shard,
        "batch_size": 2,
        "views": VIEWS,
        "constants": {"c": cache.Constant.of(np.eye(2))},
    }
    plan = cache.Plan(**{**fields, **changes})
    with cache.StoreWriter(path, plan, provenance={"teacher": {"licence": "mit"}, "of": path.name}) as writer:
        for index in writer.pending():
            inside = plan.positions(index)
            good = [i for i in inside if keys[i] not in bad]
            found = rows_of([keys[i] for i in good])
            at = np.s_[:, 0] if plan.views is None else np.s_[:]
            blobs = [b"image " + keys[i].encode() for i in good]
            hashes = b"".join(cache.content_hash(blob) for blob in blobs)
            writer.write_shard(
                index,
                cache.ShardRows(
                    positions_N=np.array(good, dtype=np.int64),
                    hashes_N16=np.frombuffer(hashes, np.uint8).reshape(-1, 16),
                    features={item.name: found[item.name][at] for item in plan.readouts},
                    images=None if images == "none" else blobs,
                    quarantine=[
                        cache.Quarantined(position=i, key=keys[i], reason=f"cut {keys[i]}")
                        for i in inside
                        if i not in good
                    ],
                    views_NVP=None if plan.views is None else found["views"],
                ),
            )
        writer.close()
    return path


A_KEYS = tuple(f"{'xyz'[i % 3]}/{i}" for i in range(11))
B_KEYS = (*(f"{'wz'[i % 2]}/b{i}" for i in range(6)), "-/none")


@pytest.fixture
def pair(tmp_path):
    a = write(tmp_path / "a.store", A_KEYS, ("x", "y", "z"), bad=("y/1", "x/9"))
    return a, write(tmp_path / "b.store", B_KEYS, ("w", "z"), bad=("w/b4",), rows_per_shard=3)


def require_content(store, keys, bad, images=True):
    """The store holds these keys in this order, each with what `rows_of` says."""
    good = [key for key in keys if key not in bad]
    assert (list(store.manifest.plan.keys), store.keys) == (list(keys), good)
    found = rows_of(good)
    for name in store.readouts:
        assert np.array_equal(store.features(name)[:], found[name])
    assert np.array_equal(store.view_parameters()[:], found["views"])
    blobs = [b"image " + key.encode() for key in good]
    assert [row.tobytes() for row in store.hashes_N16] == [cache.content_hash(blob) for blob in blobs]
    if images:
        assert [store.image_bytes(row) for row in range(len(store))] == blobs
    names = [store.classes[label] if label >= 0 else "-" for label in store.labels_N.tolist()]
    assert names == [key.partition("/")[0] for key in good]
    wanted = [(keys.index(key), key, f"cut {key}") for key in keys if key in bad]
    assert [(entry.position, entry.key, entry.reason) for entry in store.manifest.quarantine] == wanted
    assert cache.verify(store.path).is_sound


@pytest.mark.parametrize("rows_per_shard", [None, 1, 7, 100])
def test_a_merged_store_holds_all_rows_in_order(tmp_path, pair, rows_per_shard):
    rows = []
    out = cache.merge(pair, tmp_path / "c.store", rows_per_shard=rows_per_shard, progress=rows.append)
    store = cache.open(out)
    require_content(store, A_KEYS + B_KEYS, ("y/1", "x/9", "w/b4"))
    assert store.classes == ("x", "y", "z", "w")
    assert (store.manifest.plan.rows_per_shard, sum(rows)) == (rows_per_shard or 4, 18)
    assert store.manifest.plan.constants == cache.open(pair[0]).manifest.plan.constants
    derived = store.manifest.provenance["derived"]
    assert [parent["identity"] for parent in derived["parents"]] == [cache.open(path).identity for path in pair]
    assert (derived["how"], store.manifest.provenance["teacher"]) == ("merge", {"licence": "mit"})


def test_a_merged_store_has_the_identity_of_one_pass_over_all(tmp_path, pair):
    whole = write(tmp_path / "w.store", A_KEYS + B_KEYS, ("x", "y", "z", "w"), bad=("y/1", "x/9", "w/b4"))
    merged = cache.merge(pair, tmp_path / "c.store")
    assert cache.open(merged).identity == cache.open(whole).identity
    assert cache.open(merged).content_digests == cache.open(whole).content_digests


def test_packed_stores_merge_and_split_as_folders_do(tmp_path, pair):
    packed = [cache.pack(path, tmp_path / f"{path.stem}.h5") for path in pair]
    merged = cache.open(cache.merge(packed, tmp_path / "c.store"))
    require_content(merged, A_KEYS + B_KEYS, ("y/1", "x/9", "w/b4"))
    part = cache.open(cache.subset(packed[0], tmp_path / "d.store", classes=["x"]))
    require_content(part, tuple(key for key in A_KEYS if key[0] == "x"), ("x/9",))


def test_version_1_merges_into_version_2(tmp_path):
    old = write(tmp_path / "a.store", A_KEYS, ("x", "y", "z"), **PLAIN, format_version=1)
    new = write(tmp_path / "b.store", B_KEYS, ("w", "z"), **PLAIN)
    plan = cache.open(cache.merge([old, new], tmp_path / "c.store")).manifest.plan
    assert (plan.format_version, plan.keys) == (2, A_KEYS + B_KEYS)


def test_a_merge_resumes_and_a_finished_one_is_left(tmp_path, pair):
    out = cache.merge(pair, tmp_path / "c.store")
    before = {file.name: file.read_bytes() for file in out.glob("shard*")}
    (out / "shard-00001.h5").unlink()
    rows = []
    cache.merge(pair, out, progress=rows.append)
    assert rows == [4]
    cache.merge(pair, out, progress=rows.append)
    assert rows == [4]
    assert {file.name: file.read_bytes() for file in out.glob("shard*")} == before
    with pytest.raises(errors.IdentityError, match=r"rows_per_shard is 4 in the store and 5 in this command"):
        cache.merge(pair, out, rows_per_shard=5)
    cache.merge(pair, out, rows_per_shard=5, overwrite=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"identity": {"teacher": {"name": "u"}}}, r"teacher.name is 't' in .*a\.store and 'u' in .*d\.store; only st"),
        ({"identity": {"teacher": {"name": "t"}, "mean": 1}}, r"mean is absent in .* and 1 in"),
        ({"readouts": READOUTS[:1]}, r"readouts is 'avg \(2 x 3 float16\), map .* and 'avg \(2 x 3 float16\)' in"),
        ({"images": "none"}, "images is 'original' in .* and 'none' in"),
        ({"constants": {"c": cache.Constant.of(np.ones(2))}}, "constant c is '.*' in .* and '.*' in"),
        ({"views": cache.Views(count=2, parameters=("top",))}, r"views is '2 \(flip\)' in .* and '2 \(top\)' in"),
    ],
)
def test_stores_made_otherwise_are_refused_by_the_field(tmp_path, pair, changes, message):
    other = write(tmp_path / "d.store", B_KEYS, ("w", "z"), **changes)
    with pytest.raises(errors.IdentityError, match=message):
        cache.merge([pair[0], other], tmp_path / "c.store")
    assert not (tmp_path / "c.store").exists()


def test_a_key_in_two_stores_is_named_and_prefixes_help(tmp_path, pair):
    twin = write(tmp_path / "d.store", ("x/new", "y/1"), ("x", "y"))
    with pytest.raises(errors.SchemaError, match=r"key 'y/1' is in .*a\.store and in .*d\.store; .*: --prefix-keys"):
        cache.merge([pair[0], twin], tmp_path / "c.store")
    store = cache.open(cache.merge([pair[0], twin], tmp_path / "c.store", prefix_keys=True))
    assert store.manifest.plan.keys == (*(f"a/{key}" for key in A_KEYS), "d/x/new", "d/y/1")
    with pytest.raises(errors.SchemaError, match=r"key 'a/x/0' is in .* and in .*; keys must differ, so rename one"):
        cache.merge([pair[0], pair[0]], tmp_path / "e.store", prefix_keys=True)


def imported(path, keys, value, teacher=None):
    identity = {} if teacher is None else {"teacher": teacher}
    return cache.create(path, {"avg": np.full((len(keys), 3), value)}, keys=keys, identity=identity)


def test_imported_features_merge_where_their_teacher_is_named(tmp_path):
    a, b = imported(tmp_path / "a.store", "kl", 1.0, "mine"), imported(tmp_path / "b.store", "mno", 2.0, "mine")
    store = cache.open(cache.merge([a, b], tmp_path / "c.store"))
    assert store.features()[:][:, 0].tolist() == [1, 1, 2, 2, 2]
    digests = {cache.open(path).manifest.plan.identity["features"]["avg"] for path in (a, b, store.path)}
    assert len(digests) == 3
    other = imported(tmp_path / "d.store", "pq", 2.0, "another")
    with pytest.raises(errors.IdentityError, match=r"teacher is 'mine' in .* and 'another' in"):
        cache.merge([a, other], tmp_path / "e.store")


def test_imported_features_of_unknown_teachers_merge_only_with_their_own(tmp_path):
    a, b = imported(tmp_path / "a.store", "kl", 1.0), imported(tmp_path / "b.store", "mno", 2.0)
    with pytest.raises(errors.SchemaError, match=r"the teacher of .*a\.store is unknown, .*tcs cache import --teacher"):
        cache.merge([a, b], tmp_path / "c.store")
    parts = [cache.subset(a, tmp_path / f"{key}.store", keys=[key]) for key in "kl"]
    assert cache.open(cache.merge(parts, tmp_path / "d.store")).identity == cache.open(a).identity


def test_what_cannot_be_merged(tmp_path, pair):
    with pytest.raises(errors.SchemaError, match="1 store cannot be merged; name two or more"):
        cache.merge([pair[0]], tmp_path / "c.store")
    for overwrite in (False, True):
        with pytest.raises(errors.SchemaError, match=r"a\.store is read from, so it cannot be written; name another"):
            cache.merge(pair, tmp_path / "sub" / ".." / "a.store", overwrite=overwrite)
    assert cache.verify(pair[0]).is_sound


@pytest.mark.parametrize("packed", [False, True])
def test_damage_is_not_copied_but_untouched_shards_do_not_matter(tmp_path, packed):
    store = make_store(tmp_path / "x.store", rows=100)
    path = cache.pack(store.path, tmp_path / "x.h5") if packed else store.path
    file = path if packed else store.path / "shard-00001.h5"
    data = bytearray(file.read_bytes())
    image = store.image_bytes(50)
    data[bytes(data).index(image)] ^= 1
    file.write_bytes(data)
    with pytest.raises(errors.CorruptStoreError, match=re.escape(str(file))):
        cache.subset(path, tmp_path / "y.store", keys=store.keys[45:46])
    assert len(cache.open(cache.subset(path, tmp_path / "z.store", keys=store.keys[:40]))) == 40


def test_a_subset_by_class_keeps_order_quarantine_and_only_those_classes(tmp_path, pair):
    store = cache.open(cache.subset(pair[0], tmp_path / "c.store", classes=["z", "x"], rows_per_shard=2))
    require_content(store, tuple(key for key in A_KEYS if key[0] in "xz"), ("x/9",))
    assert store.classes == ("x", "z")
    assert store.manifest.provenance["derived"]["how"] == "subset"


def test_a_subset_by_keys_keeps_the_order_of_the_store(tmp_path, pair):
    keys = ("z/8", "y/1", "x/0", "z/8")
    store = cache.open(cache.subset(pair[0], tmp_path / "c.store", keys=keys))
    require_content(store, ("x/0", "y/1", "z/8"), ("y/1",))
    both = cache.subset(pair[0], tmp_path / "d.store", keys=keys, classes=["z"], images="none", readouts=["map"])
    store = cache.open(both)
    require_content(store, ("z/8",), (), images=False)
    assert (list(store.readouts), store.has_images, store.classes) == (["map"], False, ("z",))


def test_a_subset_is_what_a_pass_over_those_inputs_would_have_given(tmp_path, pair):
    part = cache.subset(pair[0], tmp_path / "c.store", classes=["y"])
    alone = write(tmp_path / "d.store", tuple(key for key in A_KEYS if key[0] == "y"), ("y",), bad=("y/1",))
    assert cache.open(part).identity == cache.open(alone).identity


def test_a_part_with_nothing_but_quarantine_is_a_store_without_rows(tmp_path, pair):
    store = cache.open(cache.subset(pair[0], tmp_path / "c.store", keys=["y/1"]))
    require_content(store, ("y/1",), ("y/1",))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["x", "cow"]}, r"a\.store has no class 'cow'; it has x, y, z"),
        ({"keys": ["x/0", "no", "nor"]}, r"a\.store has no key 'no' and 1 more; it has x/0, y/1"),
        ({"readouts": ["cls"]}, r"a\.store has no readout 'cls'; it has avg, map"),
        ({"keys": ["x/0"], "classes": ["y"]}, r"no input of .*a\.store is of these classes and keys; nothing to write"),
        ({"keys": []}, "no input of .* is of these classes and keys"),
        ({"readouts": []}, "readouts is empty; a plan needs at least one"),
        ({"images": "resized:8"}, "images is 'resized:8'; a subset keeps original or has none"),
    ],
)
def test_a_subset_of_what_is_not_there_is_refused(tmp_path, pair, options, message):
    with pytest.raises(errors.SchemaError, match=message):
        cache.subset(pair[0], tmp_path / "c.store", **options)
    assert not (tmp_path / "c.store").exists()
