"""Shards made to do harm: all are refused by a CacheError, before features are read or claimed sizes are allocated."""

import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys

import h5py
import numpy as np
import pytest
from artefacts import make_store
from small_memory import little_memory

import cache
from cache import errors
from cache.inspection import inspect_shard

ROOT = pathlib.Path(cache.__file__).parents[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("whole") / "x.store", rows=60).path


@pytest.fixture
def store(whole, tmp_path):
    return pathlib.Path(shutil.copytree(whole, tmp_path / "x.store"))


def replace(file, name, values=None, **options):
    del file[name]
    file.create_dataset(name, data=values, **options)


def claimed(file, name, shape, dtype):
    """A dataset that claims a shape and has no bytes."""
    del file[name]
    file.create_dataset(name, shape, dtype)


def of_type(file, name, kind):
    del file[name]
    space = h5py.h5s.create_simple((40,))
    created = h5py.h5d.create(file.id, name.encode(), kind, space)
    created.write(h5py.h5s.ALL, h5py.h5s.ALL, np.zeros(40, created.dtype))


def odd_float():
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_ebias(100)
    return kind


def odd_integer():
    kind = h5py.h5t.STD_I64LE.copy()
    kind.set_precision(32)
    return kind


def set_features_of(file, kind):
    del file["features/avg"]
    space = h5py.h5s.create_simple((40, 24))
    h5py.h5d.create(file["features"].id, b"avg", kind, space)


def unlimited_virtual(file):
    """Asking for its shape opens the files it names."""
    del file["labels"]
    layout = h5py.VirtualLayout((40,), "<i8", maxshape=(None,))
    source = h5py.VirtualSource("/dev/zero", "labels", (40,), maxshape=(None,))
    layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
    file.create_virtual_dataset("labels", layout)


def vlen_attribute(file):
    del file.attrs["shard"]
    h5py.h5a.create(file.id, b"shard", h5py.h5t.py_create(VLEN, logical=True), h5py.h5s.create(h5py.h5s.SCALAR))


def linked_twice(file):
    del file["labels"]
    file["labels"] = file["positions"]


def into_itself(file):
    del file["features"]
    file["features"] = file["/"]


def many_links(file):
    for i in range(3000):
        file[f"x{i}"] = h5py.SoftLink("/labels")


def odd_name(file):
    file.id.links.create_soft(b"\xff\xfe\n\x1b[2J", b"/labels")


def filtered(file, **options):
    replace(file, "labels", np.zeros(40, "<i8"), chunks=(40,), **options)


VLEN = h5py.vlen_dtype(np.int64)
COMPOUND = np.dtype([("a", "<i4"), ("b", "<i4")])
SHARDS = {
    "vlen text attribute": (
        lambda file: file.attrs.create("content_digest", "0" * 32),
        r"attribute content_digest is \|O",
    ),
    "vlen attribute": (vlen_attribute, r"attribute shard is \|O"),
    "reference attribute": (
        lambda file: file.attrs.create("shard", file.ref, dtype=h5py.ref_dtype),
        r"attribute shard is \|O",
    ),
    "compound attribute": (lambda file: file.attrs.create("shard", np.zeros((), COMPOUND)), r"attribute shard is \|V8"),
    "short digest": (lambda file: file.attrs.create("content_digest", np.bytes_("0" * 31)), r"must be \|S32"),
    "long digest": (lambda file: file.attrs.create("content_digest", np.bytes_("0" * 60_000)), r"must be \|S32"),
    "an attribute of 60 kB": (lambda file: file.attrs.create("shard", np.zeros(7500, "<i8")), "is no single value"),
    "null attribute": (
        lambda file: file.attrs.create("shard", h5py.Empty("<i8")),
        "attribute shard is no single value",
    ),
    "object attribute more": (
        lambda file: file.attrs.create("x", "text"),
        r"attributes of / lack, or have too many, \['x'\]",
    ),
    "attribute of a dataset": (
        lambda file: file["labels"].attrs.create("x", 1),
        "the attributes of /labels lack, or have too many",
    ),
    "attribute of a group": (
        lambda file: file["features"].attrs.create("x", 1),
        "the attributes of /features lack, or have",
    ),
    "vlen dataset": (lambda file: replace(file, "labels", shape=(40,), dtype=VLEN), r"labels is \|O"),
    "object dataset": (lambda file: replace(file, "keys", shape=(40,), dtype=h5py.string_dtype()), r"keys is \|O"),
    "reference dataset": (lambda file: replace(file, "labels", shape=(40,), dtype=h5py.ref_dtype), r"labels is \|O"),
    "compound dataset": (lambda file: replace(file, "labels", np.zeros(40, COMPOUND)), r"labels is \|V8"),
    "array dataset": (lambda file: replace(file, "labels", shape=(40,), dtype=np.dtype(("<i8", (2,)))), "labels is"),
    "opaque dataset": (lambda file: replace(file, "labels", np.zeros(40, "V8")), r"labels is \|V8"),
    "enum dataset": (
        lambda file: replace(file, "labels", shape=(40,), dtype=h5py.enum_dtype({"a": 0}, "<i8")),
        "labels has an unusual kind of <i8",
    ),
    "integers of 32 bits in 64": (lambda file: of_type(file, "labels", odd_integer()), "labels "),
    "floats of another bias": (lambda file: set_features_of(file, odd_float()), "features/avg "),
    "bits": (lambda file: set_features_of(file, h5py.h5t.STD_B32LE), "features/avg "),
    "quarantine beyond the file": (
        lambda file: claimed(file, "quarantine", (1 << 60,), "u1"),
        "quarantine reaches beyond",
    ),
    "images beyond the file": (
        lambda file: claimed(file, "images/bytes", (1 << 60,), "u1"),
        "images/bytes reaches beyond",
    ),
    "keys as wide as 1 GB": (lambda file: claimed(file, "keys", (40,), "S1000000000"), "keys reaches beyond the end"),
    "rows beyond all": (
        lambda file: claimed(file, "positions", (1 << 60,), "<i8"),
        "positions has a shape that the plan",
    ),
    "features beyond all": (lambda file: claimed(file, "features/avg", (1 << 50, 24), "<f4"), "features/avg is <f4"),
    "no space": (lambda file: replace(file, "positions", h5py.Empty("<i8")), "positions has a shape|cannot be read"),
    "unlimited virtual": (unlimited_virtual, "labels is not stored contiguously"),
    "unknown filter": (lambda file: filtered(file, fletcher32=True), "labels is not stored contiguously"),
    "shuffled and packed": (
        lambda file: filtered(file, shuffle=True, compression=9),
        "labels is not stored contiguously",
    ),
    "growing": (lambda file: replace(file, "labels", shape=(40,), maxshape=(None,), dtype="<i8"), "not stored contig"),
    "one dataset under two names": (linked_twice, "overlap"),
    "a group that holds itself": (into_itself, "the attributes of /features lack, or have too many"),
    "many links": (many_links, r"/ holds \['30\d\d things'\]"),
    "a name that is no text": (odd_name, "/ holds"),
    "a type with a name": (lambda file: file.__setitem__("labels2", np.dtype("<i8")), "/ holds"),
    "negative offsets": (
        lambda file: file["images/offsets"].write_direct(np.concatenate([[0, -5], np.arange(2, 41)]).astype("<i8")),
        "images/offsets must rise",
    ),
}


@pytest.mark.parametrize("name", SHARDS)
def test_a_hostile_shard_is_refused(store, name):
    harm, message = SHARDS[name]
    path = store / "shard-00000.h5"
    plan = cache.read_manifest(store).plan
    with h5py.File(path, "r+") as file:
        harm(file)
    with little_memory(), pytest.raises(errors.CorruptShardError, match=message) as caught:
        inspect_shard(path, plan, 0)
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()


def test_an_attribute_of_many_megabytes_is_not_read(store):
    """Kept outside the object's header, which the newest layout of HDF5 allows."""
    path, plan = store / "shard-00000.h5", cache.read_manifest(store).plan
    with h5py.File(path, "w", libver="latest") as file:
        for name in ("format_version", "plan_identity", "content_digest"):
            file.attrs[name] = 2
        file.attrs.create("shard", np.zeros(3_000_000, "<i8"))
    with little_memory(), pytest.raises(errors.CorruptShardError, match=r"attribute \w+ is"):
        inspect_shard(path, plan, 0)


def patched(data, *changes):
    found = bytearray(data)
    for at, new in changes:
        found[at : at + len(new)] = new
    return bytes(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"", "cannot be read as HDF5"),
        (lambda data: b"no HDF5 " * 100, "cannot be read as HDF5"),
        (lambda data: patched(data, (40, struct.pack("<Q", len(data) * 2))), "truncated file"),
        (lambda data: patched(data, (40, struct.pack("<Q", 2**63))), "cannot be read as HDF5"),
        (lambda data: patched(data, (40, struct.pack("<Q", 100))), "cannot be read as HDF5"),
        (lambda data: bytes(512) + data, "something stands before its HDF5 content|cannot be read"),
    ],
)
def test_a_file_that_lies_about_itself_is_refused(store, change, message):
    path = store / "shard-00000.h5"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(errors.CorruptShardError, match=message):
        inspect_shard(path, cache.read_manifest(store).plan, 0)


def test_a_sparse_file_does_not_make_a_large_allocation(store):
    path = store / "shard-00000.h5"
    with h5py.File(path, "r+") as file:
        del file["quarantine"]
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space = h5py.h5s.create_simple((1 << 33,))
        h5py.h5d.create(file.id, b"quarantine", h5py.h5t.STD_U8LE, space, properties)
    message = r"quarantine (is too long for 40 inputs|starts at byte)"
    with little_memory(), pytest.raises(errors.CorruptShardError, match=message):
        inspect_shard(path, cache.read_manifest(store).plan, 0)


@pytest.mark.parametrize("harm", ["cut", "replaced", "gone", "link"])
def test_a_shard_that_changes_between_check_and_use_is_refused_not_a_crash(store, tmp_path, harm):
    opened = cache.open(store)
    path = store / "shard-00001.h5"
    data = path.read_bytes()
    if harm == "cut":
        path.write_bytes(data[:100])
    else:
        path.unlink()
    if harm == "replaced":
        path.write_bytes(data + b"more")
    if harm == "link":
        (tmp_path / "other").write_bytes(data)
        path.symlink_to(tmp_path / "other")
    for use in (lambda: opened.features()[:], lambda: opened.image_bytes(50)):
        with pytest.raises(
            errors.CorruptStoreError, match=r"shard-00001\.h5: it (was changed or replaced|cannot be mapped)"
        ):
            use()


def test_random_damage_is_refused_or_listed_and_crashes_nothing():
    command = [sys.executable, "scripts/store_fuzz.py", "--cases", "250", "--seed", "7", "--json"]
    run = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    found = json.loads(run.stdout)
    assert (run.returncode, found["failures"], run.stderr) == (0, [], "")
    assert found["refused"] > 50
    assert found["refused"] + found["opened"] == 250
