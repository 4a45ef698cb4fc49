"""Manifests made to do harm, and what is no ordinary file: all are refused by a CacheError, before claimed sizes are allocated."""

import json
import os
import pathlib
import re
import shutil

import pytest
from artefacts import make_store
from small_memory import little_memory

import cache
from cache import errors


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("whole") / "x.store", rows=60).path


@pytest.fixture
def store(whole, tmp_path):
    return pathlib.Path(shutil.copytree(whole, tmp_path / "x.store"))


def refused(store):
    """The error that both opening and verifying come to; verifying lists it."""
    with little_memory():
        with pytest.raises(errors.CacheError) as caught:
            cache.open(store)
        assert not cache.verify(store).is_sound
    assert "\n" not in str(caught.value)
    return str(caught.value)


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
