"""Stores from arrays: what goes in comes out, what does not fit is named, and unknown things are not made up."""

import numpy as np
import pytest

import cache
from cache import errors

KEYS = [f"k{i}" for i in range(10)]


def features(dtype="float32", dims=3, seed=0):
    return np.random.default_rng(seed).normal(size=(10, dims)).astype(dtype)


def create(path, given=None, **options):
    return cache.open(cache.create(path, given or {"avg": features()}, **{"keys": KEYS, **options}))


@pytest.mark.parametrize("rows_per_shard", [1, 4, 8192])
@pytest.mark.parametrize(("dtype", "stored"), [("float16", "float16"), ("float32", "float32"), (">f8", "float32")])
def test_arrays_come_back(tmp_path, rows_per_shard, dtype, stored):
    given = {"avg": features(dtype), "map": np.arange(10 * 12, dtype=dtype).reshape(10, 2, 3, 2)}
    store = create(tmp_path / "x.store", given, rows_per_shard=rows_per_shard)
    for name, array in given.items():
        assert store.features(name)[:].dtype == stored
        assert np.array_equal(store.features(name)[:], array.astype(stored))
    assert (store.keys, store.readouts["map"].grid, store.readouts["map"].dims) == (KEYS, (2, 3), 2)
    assert (store.is_labelled, store.has_images, store.classes) == (False, False, ())
    assert cache.verify(store.path).is_sound


def test_a_dtype_is_asked_for_and_a_memory_map_read_in_blocks(tmp_path):
    np.save(tmp_path / "a.npy", np.asfortranarray(features("float64")))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    store = create(tmp_path / "x.store", {"avg": mapped}, dtype="float16", rows_per_shard=3)
    assert np.array_equal(store.features()[:], features("float64").astype("float16"))


@pytest.mark.parametrize(
    ("labels", "classes", "found", "names"),
    [
        (["b", "a", None, ""] + ["b"] * 6, None, [1, 0, -1, -1] + [1] * 6, ("a", "b")),
        (["b", "a"] * 5, ["b", "a", "z"], [0, 1] * 5, ("b", "a", "z")),
        (np.array([2, 0, -1] + [1] * 7, np.int16), None, [2, 0, -1] + [1] * 7, ("0", "1", "2")),
        ([1] * 10, ["x", "y"], [1] * 10, ("x", "y")),
        (np.array(["b"] * 10), None, [0] * 10, ("b",)),
        ([-1] * 10, None, [-1] * 10, ()),
        (None, ["x"], [-1] * 10, ("x",)),
    ],
)
def test_labels_are_names_or_numbers(tmp_path, labels, classes, found, names):
    store = create(tmp_path / "x.store", labels=labels, classes=classes)
    assert (store.labels_N.tolist(), store.classes) == (found, names)


def test_images_are_stored_and_hashed(tmp_path):
    images = [f"image {key}".encode() for key in KEYS]
    hashes_N16 = np.frombuffer(b"".join(map(cache.content_hash, images)), np.uint8).reshape(10, 16)
    store = create(tmp_path / "x.store", images=images, rows_per_shard=4)
    assert [store.image_bytes(row) for row in range(10)] == images
    assert np.array_equal(store.hashes_N16, hashes_N16)
    assert create(tmp_path / "x.store", images=images, hashes=hashes_N16, rows_per_shard=4).identity == store.identity
    bare = create(tmp_path / "y.store", hashes=hashes_N16)
    assert np.array_equal(bare.hashes_N16, hashes_N16)
    assert "hashes" not in bare.manifest.plan.identity
    with pytest.raises(errors.SchemaError, match="the image of 'k7' has another hash than the one given for it"):
        cache.create(
            tmp_path / "z",
            {"avg": features()},
            keys=KEYS,
            images=[*images[:7], b"other", *images[8:]],
            hashes=hashes_N16,
        )


def test_what_is_unknown_is_recorded_as_unknown(tmp_path):
    store = create(tmp_path / "x.store")
    identity = dict(store.manifest.plan.identity)
    assert list(identity.pop("features")) == ["avg"]
    assert identity == {"teacher": "unknown", "preprocessing": "unknown", "hashes": "of keys only"}
    assert [row.tobytes() for row in store.hashes_N16] == [cache.content_hash(key.encode()) for key in KEYS]
    told = create(tmp_path / "y.store", identity={"teacher": {"name": "t"}, "semantics": 3}, provenance={"by": "me"})
    assert told.manifest.plan.identity["teacher"] == {"name": "t"}
    assert told.manifest.plan.identity["semantics"] == 3
    assert told.manifest.provenance["by"] == "me"


def test_other_features_are_another_store_and_equal_ones_the_same(tmp_path):
    store = create(tmp_path / "x.store")
    assert create(tmp_path / "y.store", {"avg": np.asfortranarray(features().astype(">f4"))}).identity == store.identity
    with pytest.raises(errors.IdentityError, match=r"features.avg is '.*' in the store and '.*' in this command"):
        create(tmp_path / "x.store", {"avg": features(seed=1)})
    assert create(tmp_path / "x.store", {"avg": features(seed=1)}, overwrite=True).identity != store.identity


def test_creation_resumes(tmp_path):
    rows = []
    path = create(tmp_path / "x.store", rows_per_shard=4, progress=rows.append).path
    (path / "shard-00001.h5").unlink()
    create(path, rows_per_shard=4, progress=rows.append)
    assert rows == [4, 4, 2, 4]


def test_keys_may_be_an_array(tmp_path):
    path = cache.create(tmp_path / "x.store", {"avg": np.ones((2, 3))}, keys=np.array(["b", "a"]))
    assert cache.open(path).keys == ["b", "a"]


def with_value(value, dtype="float32"):
    array = features(dtype)
    array[6, 2] = value
    return {"avg": array}


@pytest.mark.parametrize(
    ("given", "options", "error", "message"),
    [
        ({}, {}, errors.SchemaError, "there are no features; give one array or more"),
        (
            {"avg": features()[:9]},
            {},
            errors.SchemaError,
            "features avg have 9 rows and there are 10 keys; give one key",
        ),
        ({"avg": features()[:, 0]}, {}, errors.SchemaError, r"features avg have shape \(10,\); they must be \(N, D\)"),
        ({"avg": np.ones((10, 3), int)}, {}, errors.SchemaError, "features avg are of int64; they must be floating"),
        (
            {"avg": np.ones((10, 3), object)},
            {},
            errors.SchemaError,
            "features avg are of object; they must be floating",
        ),
        ({"a/b": features()}, {}, errors.SchemaError, "readout name 'a/b' must be letters"),
        ({"avg": features(dims=0)}, {}, errors.SchemaError, "readout avg has dims 0; it must be 1 or more"),
        (
            with_value(np.nan),
            {},
            errors.FeatureValueError,
            "feature 2 of readout avg for 'k6' is nan; features must be fin",
        ),
        (
            with_value(7e4),
            {"dtype": "float16"},
            errors.FeatureValueError,
            "for 'k6' is 70000, beyond the 65504 of float16",
        ),
        ({"avg": [[1.0]] * 10}, {}, errors.SchemaError, "features avg are list; they must be an array, so use numpy"),
        (features(), {}, errors.SchemaError, "features are ndarray; they must be arrays by readout"),
        (with_value(1e60, "float64"), {}, errors.FeatureValueError, r"is 1e\+60, beyond what float32 can hold; scale"),
        (
            None,
            {"labels": [0, 10**12, *[0] * 8]},
            errors.SchemaError,
            "label 1000000000000 counts more than 1,048,576 classes",
        ),
        (
            None,
            {"labels": np.full(10, 2**64 - 1, np.uint64)},
            errors.SchemaError,
            "label 18446744073709551615 counts more",
        ),
        (with_value(1e300, "float64"), {}, errors.FeatureValueError, r"for 'k6' is 1e\+300"),
        (None, {"dtype": "int8"}, errors.SchemaError, "dtype 'int8'; it must be float16 or float32"),
        (None, {"keys": [*KEYS[:9], "k0"]}, errors.SchemaError, "key 'k0' stands twice"),
        (None, {"labels": [0] * 9}, errors.SchemaError, "there are 9 labels and 10 keys; give one each"),
        (None, {"labels": [0.5] * 10}, errors.SchemaError, "labels are neither all class names nor all whole numbers"),
        (
            None,
            {"labels": ["a", 1] * 5},
            errors.SchemaError,
            "labels are neither all class names nor all whole numbers",
        ),
        (None, {"labels": ["c"] * 10, "classes": ["a"]}, errors.SchemaError, "label 'c' is none of the 1 classes"),
        (None, {"labels": [1] * 10, "classes": ["a"]}, errors.SchemaError, "label 1 of 'k0' must be -1 or index the 1"),
        (None, {"images": [b"x"] * 9}, errors.SchemaError, "9 images for 10 keys; give one each"),
        (None, {"images": [b""] * 10}, errors.SchemaError, "the image of 'k0' must be bytes, and not empty"),
        (
            None,
            {"hashes": np.zeros((9, 16), np.uint8)},
            errors.SchemaError,
            r"hashes are uint8 \(9, 16\); they must be uint8",
        ),
        (None, {"identity": {"a": {1, 2}}}, errors.SchemaError, "identity cannot be written as JSON"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, given, options, error, message):
    given = {"avg": features()} if given is None else given
    with pytest.raises(error, match=message):
        cache.create(tmp_path / "x.store", given, **{"keys": KEYS, **options})
