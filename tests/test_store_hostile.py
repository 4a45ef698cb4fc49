"""Stores made to do harm: all are refused by a CacheError, before features are read or claimed sizes are allocated."""

import ast
import contextlib
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tracemalloc

import h5py
import numpy as np
import pytest
from artefacts import make_store

import cache
from cache import errors
from cache.inspection import inspect_shard

ROOT = pathlib.Path(cache.__file__).parents[1]
MOST_BYTES = 8 << 20


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("whole") / "x.store", rows=60).path


@pytest.fixture
def store(whole, tmp_path):
    return pathlib.Path(shutil.copytree(whole, tmp_path / "x.store"))


@contextlib.contextmanager
def little_memory():
    """Fails where the block asks for much memory, whether the system would grant it or not."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MOST_BYTES


def refused(store):
    """The error that both opening and verifying come to; verifying lists it."""
    with little_memory():
        with pytest.raises(errors.CacheError) as caught:
            cache.open(store)
        assert not cache.verify(store).is_sound
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- the manifest ---------------------------------------------------------------------------------------------------


def entered(value, *path, put):
    for step in path[:-1]:
        value = value[step]
    value[path[-1]] = put


MANIFESTS = {
    "a folder above": (("shards", 0, "file"), "../shard-00000.h5", "must be named shard-00000.h5 and so on"),
    "another folder": (("shards", 0, "file"), "/etc/passwd", "must be named shard-00000.h5"),
    "a folder below": (("shards", 0, "file"), "a/shard-00000.h5", "must be named shard-00000.h5"),
    "a NUL": (("shards", 0, "file"), "shard-00000.h5\0", "must be named shard-00000.h5"),
    "a line break": (("shards", 0, "file"), "shard-00000.h5\n", "must be named shard-00000.h5"),
    "other digits": (("shards", 0, "file"), "shard-0000\u0660.h5", "must be named shard-00000.h5"),
    "another shard": (("shards", 0, "file"), "shard-00007.h5", "must list the plan's 2 in order"),
    "a number as name": (("shards", 0, "file"), 7, "must be a string"),
    "a list as shard": (("shards", 0), ["shard-00000.h5"], "must be an object"),
    "rows NaN": (("shards", 0, "rows"), float("nan"), "must be a whole number"),
    "rows infinite": (("shards", 0, "rows"), float("inf"), "must be a whole number"),
    "rows true": (("shards", 0, "rows"), True, "must be a whole number"),
    "rows negative": (("shards", 0, "rows"), -1, "must be 0 or more"),
    "rows beyond all": (("shards", 0, "rows"), 10**4000, "do not make 60 inputs"),
    "bytes beyond all": (("shards", 0, "bytes"), 10**4000, "not there with the size"),
    "dims beyond all": (("plan", "readouts", 0, "dims"), 10**18, "plan_identity"),
    "rows_per_shard beyond all": (("plan", "rows_per_shard"), 10**4000, "plan_identity|do not"),
    "provenance NaN": (("provenance",), {"a": float("nan")}, "cannot be written as JSON"),
    "gate infinite": (("gate",), {"a": [float("inf")]}, "cannot be written as JSON"),
    "identity NaN": (("plan", "identity"), {"a": float("nan")}, "cannot be written as JSON"),
    "a key with NUL": (("plan", "keys", 0), "a\0b", "without NUL"),
    "a key of surrogates": (("plan", "keys", 0), "\ud800", "writable as UTF-8"),
    "an unhashable key": (("plan", "keys", 0), {"a": 1}, "must be a string"),
    "a label beyond": (("plan", "labels", 0), 10**4000, "must be -1 or index the 3 classes|label"),
    "a class twice": (("plan", "classes", 0), "bee", "stands twice"),
    "a readout with a slash": (("plan", "readouts", 0, "name"), "../avg", "must be letters"),
    "an object dtype": (("plan", "readouts", 0, "dtype"), "O", "must be float16 or float32"),
    "a quarantine beyond": (("quarantine",), [{"position": 10**30, "key": "a", "reason": ""}], "at position"),
    "a field more": (("more",), 1, "has the field more"),
    "a state of its own": (("state",), "half", "must be open or closed"),
    "a list as plan": (("plan",), [], "must be an object"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_hostile_manifest_is_refused(store, name):
    path, put, message = MANIFESTS[name]
    value = json.loads((store / "manifest.json").read_text())
    entered(value, *path, put=put)
    (store / "manifest.json").write_text(json.dumps(value))
    assert re.search(message, refused(store))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        '{"a":' * 200_000,
        "9" * 100_000,
        "null",
        "[]",
        '"text"',
        "\ufeff{}",
        '{"format": "tcs-feature-store"}',
    ],
)
def test_a_manifest_that_is_other_json_or_none_is_refused(store, text):
    (store / "manifest.json").write_text(text)
    assert str(store) in refused(store)


def put_pipe(path):
    os.mkfifo(path)


def put_link(path):
    path.symlink_to("/dev/zero")


def put_folder(path):
    path.mkdir()


def put_socket(path):
    import socket

    here = pathlib.Path.cwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def put_device(path):
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("devices cannot be made here")


@pytest.mark.parametrize("put", [put_pipe, put_link, put_folder, put_socket, put_device])
@pytest.mark.parametrize("name", ["manifest.json", "shard-00001.h5"])
def test_what_is_no_ordinary_file_is_refused_at_once(store, name, put):
    (store / name).unlink()
    put(store / name)
    assert "manifest.json cannot be read" in refused(store) or "shard-00001.h5" in refused(store)


def test_a_manifest_of_many_gigabytes_is_not_read(store):
    with (store / "manifest.json").open("r+b") as file:
        file.truncate(5 << 30)
    assert "no manifest has more than" in refused(store)


# --- shards ---------------------------------------------------------------------------------------------------------


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


# --- no pickle, and random damage -----------------------------------------------------------------------------------

FORBIDDEN = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle"}


def unsafe_calls(text):
    """Calls that could run code out of a file, and the names of modules that do nothing else."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]
            found += [name for name in names if name.partition(".")[0] in FORBIDDEN - {"pickle"}]
        if isinstance(node, ast.ImportFrom) and node.module == "pickle":
            found.append("from pickle")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pickle":
            found += [] if node.attr == "UnpicklingError" else [f"pickle.{node.attr}"]
        if isinstance(node, ast.Call):
            found += unsafe_call(node)
    return found


def unsafe_call(node):
    name = ast.unparse(node.func)
    given = {keyword.arg: getattr(keyword.value, "value", "?") for keyword in node.keywords}
    if name in ("eval", "exec", "compile") or (name.endswith("yaml.load") and "Loader" not in given):
        return [name]
    if name == "torch.load" and given.get("weights_only") is not True:
        return [name]
    if given.get("allow_pickle", False) is not False or given.get("weights_only", True) is not True:
        return [name]
    return [name] if name.endswith(("read_pickle", "torch.hub.load")) else []


def test_no_line_of_ours_can_load_a_pickle():
    paths = [path for package in ("cache", "tcs") for path in (ROOT / package).rglob("*.py")]
    found = {str(path): unsafe_calls(path.read_text()) for path in paths}
    assert len(found) > 150
    assert {path: calls for path, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    "text",
    [
        "import pickle\npickle.loads(b'')",
        "from pickle import loads",
        "import dill",
        "import numpy as np\nnp.load('a', allow_pickle=True)",
        "np.load('a', allow_pickle=flag)",
        "torch.load('a')",
        "torch.load('a', weights_only=False)",
        "yaml.load('a')",
        "eval('1')",
        "pandas.read_pickle('a')",
    ],
)
def test_the_test_of_pickles_sees_them(text):
    assert unsafe_calls(text)


def test_random_damage_is_refused_or_listed_and_crashes_nothing():
    command = [sys.executable, "scripts/store_fuzz.py", "--cases", "250", "--seed", "7", "--json"]
    run = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    found = json.loads(run.stdout)
    assert (run.returncode, found["failures"], run.stderr) == (0, [], "")
    assert found["refused"] > 50
    assert found["refused"] + found["opened"] == 250
