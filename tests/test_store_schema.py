"""The plan and the manifest: what they accept, what they refuse by name, and what their digests depend on."""

import copy
import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

import cache
from cache import errors

ENTRY = {"file": "shard-00000.h5", "rows": 2, "bytes": 9000, "digest": "0" * 32}


def make_plan(**changes):
    fields = {
        "identity": {"teacher": {"name": "t", "kwargs": {}}, "mean": (0.5, 0.5, 0.5)},
        "readouts": (cache.Readout(name="avg", dims=4, dtype="float16"),),
        "keys": ("a/0.png", "b/1.png"),
        "labels": (0, -1),
        "classes": ("a",),
        "images": "none",
        "rows_per_shard": 2,
        "batch_size": 8,
    }
    return cache.Plan(**{**fields, **changes})


def closed_json(**changes):
    manifest = cache.Manifest(plan=make_plan(), state="open").to_json()
    return {**manifest, "state": "closed", "identity": "1" * 32, "shards": [ENTRY], **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keys": ()}, "keys is empty; a plan needs at least one input"),
        ({"keys": ("a", "a")}, "key 'a' stands twice in the plan"),
        ({"keys": ("a", "")}, "key '' must be text, not empty"),
        ({"keys": ("a", "b\0")}, "without NUL, and writable as UTF-8"),
        ({"keys": ("a", "b\udcff")}, "without NUL, and writable as UTF-8"),
        ({"keys": ("a", 3)}, r"key\[1\] is 3; it must be a string"),
        ({"classes": ("a", "a")}, "class 'a' stands twice"),
        ({"labels": (0,)}, "there are 1 labels for 2 keys; give one each, -1 for none"),
        ({"labels": (0, 1)}, "label 1 of 'b/1.png' must be -1 or index the 1 classes"),
        ({"labels": (0, -2)}, "label -2 of 'b/1.png' must be -1 or index the 1 classes"),
        ({"labels": (0, 0.5)}, "labels must be whole numbers"),
        ({"readouts": ()}, "readouts is empty; a plan needs at least one"),
        ({"readouts": (cache.Readout(name="a", dims=1, dtype="float16"),) * 2}, "readout 'a' stands twice"),
        ({"images": "resized:0"}, "images is 'resized:0'; it must be original, none or resized:PX"),
        ({"rows_per_shard": 0}, "rows_per_shard is 0; it must be 1 or more"),
        ({"batch_size": 0}, "batch_size is 0; it must be 1 or more"),
        ({"identity": {"weights": b"raw"}}, "identity cannot be written as JSON"),
        ({"identity": {"mean": float("nan")}}, "identity cannot be written as JSON"),
        ({"identity": ["t"]}, r"identity is \['t'\]; it must be an object"),
    ],
)
def test_plan_refuses_by_name(changes, message):
    with pytest.raises(errors.SchemaError, match=message):
        make_plan(**changes)


def test_plan_refuses_more_shards_than_file_names():
    keys = tuple(str(i) for i in range(100_001))
    with pytest.raises(errors.SchemaError, match="100001 shards; at most 100000 are allowed, so raise rows_per_shard"):
        make_plan(keys=keys, labels=(-1,) * len(keys), rows_per_shard=1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "../avg"}, "readout name '../avg' must be letters"),
        ({"name": "a/b"}, "readout name 'a/b' must be letters"),
        ({"name": ".."}, "must be letters, digits"),
        ({"dims": 0}, "dims 0; it must be 1 or more"),
        ({"dtype": "int8"}, "dtype 'int8'; it must be float16 or float32"),
    ],
)
def test_readout_refuses_by_name(fields, message):
    with pytest.raises(errors.SchemaError, match=message):
        cache.Readout(**{"name": "avg", "dims": 4, "dtype": "float16", **fields})


def test_shard_positions_cut_the_keys_in_order():
    plan = make_plan(keys=tuple("abcde"), labels=(0,) * 5, rows_per_shard=2)
    assert [list(plan.positions(i)) for i in range(plan.shard_count)] == [[0, 1], [2, 3], [4]]
    with pytest.raises(errors.SchemaError, match="shard 3 does not exist; the plan has 3, counted from 0"):
        plan.positions(3)


def test_plan_identity_is_the_digest_that_format_md_describes():
    plan = make_plan(labels=np.array([0, -1]))
    content = {
        "identity": {"teacher": {"name": "t", "kwargs": {}}, "mean": [0.5, 0.5, 0.5]},
        "readouts": [{"name": "avg", "dims": 4, "dtype": "float16", "grid": None}],
        "keys": ["a/0.png", "b/1.png"],
        "labels": [0, -1],
        "classes": ["a"],
        "images": "none",
        "rows_per_shard": 2,
        "views": None,
        "constants": {},
    }
    whole = {"format": "tcs-feature-store", "format_version": 2, "plan": content}
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"))
    assert plan.plan_identity == hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@pytest.mark.parametrize(
    "changes",
    [
        {"identity": {"teacher": {"name": "u", "kwargs": {}}, "mean": (0.5, 0.5, 0.5)}},
        {"readouts": (cache.Readout(name="avg", dims=4, dtype="float32"),)},
        {"keys": ("a/0.png", "b/2.png")},
        {"keys": ("b/1.png", "a/0.png")},
        {"labels": (0, 0)},
        {"classes": ("b",)},
        {"images": "original"},
        {"rows_per_shard": 1},
        {"readouts": (cache.Readout(name="avg", dims=4, dtype="float16", grid=(1, 1)),)},
        {"views": cache.Views(count=1, parameters=("top",))},
        {"constants": {"a": cache.Constant.of(np.ones(2))}},
        {"format_version": 1},
    ],
)
def test_plan_identity_depends_on_every_field_but_the_batch_size(changes):
    assert make_plan(**changes).plan_identity != make_plan().plan_identity
    assert make_plan(batch_size=9).plan_identity == make_plan().plan_identity


def test_digest_of_json_ignores_the_order_of_fields_and_refuses_nan():
    assert cache.digest_of_json({"a": 1, "b": [2]}) == cache.digest_of_json({"b": (2,), "a": 1})
    assert cache.digest_of_json({"a": 1}) != cache.digest_of_json({"a": 1.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        cache.digest_of_json([float("nan")])


def test_digests_are_blake2b_of_16_bytes():
    wanted = hashlib.blake2b(b"image", digest_size=16)
    assert cache.digest_of_bytes(b"image") == wanted.hexdigest()
    assert cache.content_hash(b"image") == wanted.digest()


def test_manifest_survives_json_and_pickle():
    manifest = cache.Manifest.from_json(json.loads(json.dumps(closed_json(gate={"knn": 1.0}))))
    assert cache.Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest
    assert pickle.loads(pickle.dumps(manifest)) == manifest  # noqa: S301
    assert manifest.rows == 2


def changed(path, value):
    """A closed manifest with one field, named by its dotted path, set to `value` or removed where it is None."""
    manifest = copy.deepcopy(closed_json())
    *parents, last = path.split(".")
    target = manifest
    for name in parents:
        target = target[int(name)] if name.isdecimal() else target[name]
    if value is None:
        del target[last]
    else:
        target[last] = value
    return manifest


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("state", None, "manifest lacks the field state"),
        ("extra", 1, "manifest has the field extra, which its format version does not know"),
        ("state", "half", "state is 'half'; it must be open or closed"),
        ("state", "open", "state is open, so identity, shards, quarantine and gate must be empty"),
        ("identity", "xyz", "identity of a closed store is 'xyz'; it must be 32 hex digits"),
        ("identity", 3, "identity is 3; it must be a string"),
        ("plan_identity", "2" * 32, "plan_identity is '2+' but the plan beside it gives"),
        ("plan", [], r"manifest.plan is \[\]; it must be an object"),
        ("plan.keys", ["a/0.png", "c"], "but the plan beside it gives"),
        ("plan.labels", [0, True], r"plan.labels\[1\] is True; it must be a whole number"),
        ("plan.batch_size", "8", "plan.batch_size is '8'; it must be a whole number"),
        ("plan.readouts", [{"name": "avg"}], r"plan.readouts\[0\] lacks the field dims, dtype"),
        ("shards", [], "shards must list the plan's 1 in order"),
        ("shards.0.file", "../shard-00000.h5", "must be named shard-00000.h5 and so on, without any folder"),
        ("shards.0.file", "/etc/passwd", "must be named shard-00000.h5 and so on, without any folder"),
        ("shards.0.file", "shard-00000.h5\n", "must be named shard-00000.h5"),
        ("shards.0.file", "shard-00001.h5", "shards must list the plan's 1 in order"),
        ("shards.0.rows", 1, "1 rows and 0 quarantined do not make 2 inputs"),
        ("shards.0.rows", -1, "has -1 rows; it must be 0 or more"),
        ("shards.0.bytes", 0, "has 0 bytes; it must be 1 or more"),
        ("shards.0.digest", "Z" * 32, "digest of shard shard-00000.h5 is"),
        (
            "quarantine",
            [{"position": 0, "key": "b/1.png", "reason": ""}],
            "'b/1.png' at position 0, where the plan has",
        ),
        ("quarantine", [{"position": 9, "key": "b/1.png", "reason": ""}], "at position 9, where the plan has another"),
        ("quarantine", [{"position": 1, "key": "b/1.png", "reason": ""}], "2 rows and 1 quarantined do not make 2"),
        ("gate", [1], r"gate is \[1\]; it must be an object"),
        ("provenance", {"x": float("inf")}, "provenance cannot be written as JSON"),
        ("format", "zip", "there is no field format: tcs-feature-store"),
    ],
)
def test_manifest_refuses_by_name(path, value, message):
    with pytest.raises(errors.SchemaError, match=message):
        cache.Manifest.from_json(changed(path, value))


@pytest.mark.parametrize("version", [0, 7, 2.0, "2", True])
def test_manifest_refuses_another_format_version_by_name(version):
    with pytest.raises(
        errors.FormatVersionError, match=f"format version {version!r}; this release reads 1, 2 and 3; upgrade"
    ):
        cache.Manifest.from_json(changed("format_version", version))


GRID = cache.Readout(name="map", dims=4, dtype="float16", grid=(7, 5))


def test_a_plan_of_version_2_survives_json():
    constant = cache.Constant.of(np.arange(6, dtype=np.float32).reshape(2, 3))
    plan = make_plan(
        readouts=(GRID,), views=cache.Views(count=3, parameters=("top", "flip")), constants={"p/map": constant}
    )
    again = cache.Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again == plan
    assert again.plan_identity == plan.plan_identity
    assert again.constants["p/map"].array().tolist() == [[0, 1, 2], [3, 4, 5]]
    assert again.constants["p/map"].array().dtype == np.float32


def test_a_plan_of_version_1_has_the_fields_and_the_identity_it_always_had():
    plan = make_plan(format_version=1)
    content = plan.to_json()
    assert "views" not in content
    assert "constants" not in content
    assert content["readouts"] == [{"name": "avg", "dims": 4, "dtype": "float16"}]
    assert cache.Plan.from_json(content, 1) == plan
    with pytest.raises(errors.SchemaError, match="plan has the field views, which its format version does not know"):
        cache.Plan.from_json(content | {"views": None}, 1)
    with pytest.raises(errors.SchemaError, match="format version 1 knows no grids, views or constants; use version 2"):
        make_plan(format_version=1, readouts=(GRID,))
    with pytest.raises(errors.SchemaError, match="format_version is 3; it must be one of"):
        make_plan(format_version=3)


def plan_json(**changes):
    return make_plan(readouts=(GRID,)).to_json() | changes


def constant_json(**changes):
    return {"a": {"dtype": "<f4", "shape": [1], "base64": "AAAAAA==", **changes}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"readouts": [{"name": "m", "dims": 1, "dtype": "float16", "grid": 3}]}, "grid of readout m is 3; it must be"),
        ({"readouts": [{"name": "m", "dims": 1, "dtype": "float16", "grid": [3]}]}, "it must be height and width"),
        ({"readouts": [{"name": "m", "dims": 1, "dtype": "float16", "grid": [3, 0]}]}, "it must be height and width"),
        ({"readouts": [{"name": "m", "dims": 1, "dtype": "float16", "grid": [3, True]}]}, "it must be height and"),
        ({"readouts": [{"name": "m", "dims": 1, "dtype": "float16"}]}, "lacks the field grid"),
        ({"views": 1}, "plan.views is 1; it must be an object"),
        ({"views": {"count": 0, "parameters": ["a"]}}, "views.count is 0; it must be 1 or more"),
        ({"views": {"count": 1, "parameters": []}}, "views.parameters is empty"),
        ({"views": {"count": 1, "parameters": ["a", "a"]}}, "view parameter 'a' stands twice"),
        ({"constants": {"../a": constant_json()["a"]}}, "constant '../a' must be of letters"),
        ({"constants": constant_json(dtype="|O")}, r"a constant has dtype '\|O'; it must be one of"),
        ({"constants": constant_json(base64="?")}, "constants.a is no base64 text"),
        ({"constants": constant_json(base64="AAA=")}, r"a constant of <f4 \(1,\) has 2 bytes, not 4"),
        ({"constants": constant_json(shape=[1 << 40])}, "has 4 bytes, not 4398046511104"),
        ({"constants": constant_json(shape=[-1])}, r"a constant has shape \(-1,\)"),
        ({"constants": constant_json(shape=[1.0])}, r"constants.a.shape\[0\] is 1.0; it must be a whole number"),
        ({"constants": constant_json(base64="AADAfw==")}, "a constant holds values that are not finite"),
    ],
)
def test_a_plan_of_version_2_refuses_by_name(changes, message):
    with pytest.raises(errors.SchemaError, match=message):
        cache.Plan.from_json(plan_json(**changes))


def test_every_error_is_a_cache_error():
    leaves = [item for item in vars(errors).values() if isinstance(item, type)]
    assert len(leaves) == 15
    assert all(issubclass(item, errors.CacheError) for item in leaves)


def test_format_page_names_every_field_and_file():
    page = (Path(cache.__file__).parent / "FORMAT.md").read_text(encoding="utf-8")
    names = [*closed_json(), *make_plan().to_json(), "content_digest", "images/offsets", ".lock", ".partial"]
    assert [name for name in names if name not in page] == []
