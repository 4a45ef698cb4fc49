"""Hostile and damaged packed stores, made with plain h5py: each is refused by name, and nothing outside is read."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

import cache
from cache import errors
from cache.packed import inspect_packed, is_packed, packed_shard, verify_packed_shard

EXAMPLE = Path(__file__).parent / "fixtures" / "store_v2"


@pytest.fixture
def packed(tmp_path):
    return cache.pack(EXAMPLE, tmp_path / "x.h5")


def replace(file, name, values, **options):
    del file[name]
    file.create_dataset(name, data=values, **options)


def set_manifest(file, data):
    replace(file, "manifest", np.frombuffer(data, np.uint8))
    file.attrs["manifest_digest"] = np.bytes_(cache.digest_of_bytes(data))


def edit_manifest(file, edit):
    manifest = json.loads(file["manifest"][()].tobytes())
    edit(manifest)
    set_manifest(file, json.dumps(manifest).encode())


def set_link(file, name, link):
    del file[name]
    file[name] = link


def set_external(file, name):
    del file[name]
    file.create_dataset(name, (4,), "<i8", external=[("/etc/passwd", 0, 32)])


def set_virtual(file):
    del file["labels"]
    layout = h5py.VirtualLayout((4,), "<i8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "labels", (4,))
    file.create_virtual_dataset("labels", layout)


def set_huge(file):
    del file["features/avg"]
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
    file.create_dataset("features/avg", (1 << 40, 2, 3), "<f2", dcpl=properties)


def drop_attribute(file):
    del file.attrs["manifest_digest"]


def shift_rows(manifest):
    manifest["shards"][0]["rows"], manifest["shards"][2]["rows"] = 1, 1


def open_state(manifest):
    manifest.update(state="open", identity=None, shards=[], quarantine=[], gate=None)


HARMS = {
    "other labels": (lambda file: replace(file, "labels", np.ones(4, "<i8")), "labels differ from the plan's"),
    "other positions": (
        lambda file: replace(file, "positions", np.array([0, 1, 2, 4], "<i8")),
        "positions are not those of the plan without the quarantine",
    ),
    "other hashes": (
        lambda file: replace(file, "hashes", np.zeros((4, 16), "u1")),
        "its rows have identity .*, its manifest gives",
    ),
    "float64 features": (
        lambda file: replace(file, "features/avg", np.zeros((4, 2, 3))),
        r"features/avg is <f8 \(4, 2, 3\); the plan needs <f2 \(4, 2, 3\)",
    ),
    "short features": (
        lambda file: replace(file, "features/avg", np.zeros((3, 2, 3), "<f2")),
        r"features/avg is <f2 \(3, 2, 3\)",
    ),
    "huge features": (set_huge, r"features/avg is <f2 \(1099511627776, 2, 3\)"),
    "chunked": (lambda file: replace(file, "labels", np.zeros(4, "<i8"), chunks=(1,)), "labels is not stored contig"),
    "chunked manifest": (
        lambda file: replace(file, "manifest", np.zeros(9, "u1"), chunks=(9,), compression="gzip"),
        "manifest is not stored contiguously inside this file",
    ),
    "external": (lambda file: set_external(file, "labels"), "labels is not stored contiguously inside this file"),
    "external manifest": (lambda file: set_external(file, "manifest"), "manifest is not stored contiguously"),
    "virtual": (set_virtual, "labels is not stored contiguously inside this file"),
    "soft link": (
        lambda file: set_link(file, "labels", h5py.SoftLink("/positions")),
        "labels in / is a link, or no dataset",
    ),
    "external link": (
        lambda file: set_link(file, "features", h5py.ExternalLink("/etc/passwd", "/")),
        "features in / is a link, or no group",
    ),
    "linked manifest": (
        lambda file: set_link(file, "manifest", h5py.ExternalLink("/etc/passwd", "/")),
        "manifest in / is a link, or no dataset",
    ),
    "manifest group": (
        lambda file: set_link(file, "manifest", file["features"]),
        "manifest in / is a link, or no dataset",
    ),
    "no manifest": (lambda file: file.__delitem__("manifest"), "manifest in / is a link, or no dataset"),
    "extra dataset": (lambda file: file.create_dataset("more", data=[1]), r"/ holds \[.*'more'.*\], not \["),
    "missing dataset": (lambda file: file.__delitem__("views"), r"/ holds \["),
    "extra attribute": (lambda file: file.attrs.update(more=1), r"the attributes of / lack, or have too many"),
    "missing attribute": (drop_attribute, r"the attributes of / lack, or have too many"),
    "another version": (
        lambda file: file.attrs.update(format_version=7),
        "format version .*7.*; this release reads 1, 2 and 3; upgrade or pack it anew",
    ),
    "version list": (
        lambda file: file.attrs.update(format_version=[2, 2]),
        "attribute format_version is no single val",
    ),
    "manifest changed": (
        lambda file: replace(file, "manifest", np.zeros(9, "u1")),
        "its manifest has digest .*, not the .* it was written with",
    ),
    "no JSON": (lambda file: set_manifest(file, b"{"), "is not readable as JSON"),
    "deep JSON": (lambda file: set_manifest(file, b"[" * 100_000), "is not readable as JSON"),
    "foreign JSON": (lambda file: set_manifest(file, b"[1]"), "there is no field format: tcs-feature-store"),
    "open manifest": (lambda file: edit_manifest(file, open_state), "its manifest is of an open store"),
    "shifted rows": (lambda file: edit_manifest(file, shift_rows), "rows of its shards are not the manifest's"),
    "another identity": (
        lambda file: edit_manifest(file, lambda manifest: manifest.update(identity="0" * 32)),
        "its rows have identity .*, its manifest gives 0000",
    ),
    "few digests": (
        lambda file: replace(file, "content_digests", np.zeros((2, 16), "u1")),
        r"content_digests is \|u1 \(2, 16\); the plan needs \|u1 \(3, 16\)",
    ),
    "falling offsets": (
        lambda file: replace(file, "images/offsets", np.zeros(5, "<i8")),
        "images/offsets must rise from 0",
    ),
    "flat blob": (lambda file: replace(file, "images/bytes", np.zeros((7, 10), "u1")), "images/bytes is"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_hostile_packed_store_is_refused_by_name(packed, harm):
    change, message = HARMS[harm]
    with h5py.File(packed, "r+", alignment_threshold=1, alignment_interval=64) as file:
        change(file)
    assert is_packed(packed)
    with pytest.raises(errors.CacheError, match=message) as found:
        cache.open(packed)
    assert str(found.value).startswith(str(packed))
    assert "\n" not in str(found.value)


def test_a_file_cut_short_anywhere_is_refused(packed):
    data = packed.read_bytes()
    for size in [*range(0, len(data) - 1, 499), len(data) - 1]:
        packed.write_bytes(data[:size])
        with pytest.raises(errors.CacheError, match=r"x\.h5"):
            cache.open(packed)


@pytest.mark.parametrize("data", [b"", b"mine", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + bytes(5000)])
def test_a_file_of_another_kind_is_no_store(tmp_path, data):
    path = tmp_path / "x.h5"
    path.write_bytes(data)
    with pytest.raises(
        errors.StoreNotFoundError, match=r"x\.h5 is no feature store: it is a file, and not one that tcs"
    ):
        cache.open(path)


def test_a_shard_is_no_packed_store():
    assert not is_packed(EXAMPLE / "shard-00000.h5")
    assert not is_packed(EXAMPLE)
    assert not is_packed(EXAMPLE / "none")


def test_every_shard_is_rebuilt_as_it_was(packed):
    found = inspect_packed(packed)
    for index, entry in enumerate(cache.open(EXAMPLE).manifest.shards):
        with h5py.File(EXAMPLE / entry.file) as shard:
            for name, values in packed_shard(found, index).items():
                assert values.dtype == shard[name].dtype
                assert values.tobytes() == shard[name][()].tobytes()
            assert found.content_digests[index] == shard.attrs["content_digest"].decode()


@pytest.mark.parametrize("name", ["features/avg", "features/map", "views", "images/bytes"])
def test_one_wrong_bit_is_found_by_its_shard(packed, name):
    read = []
    assert cache.verify(packed, read.append).is_sound
    assert sum(read) == sum(entry.bytes for entry in cache.open(packed).manifest.shards)
    with h5py.File(packed) as file:
        offset = file[name].id.get_offset()
    data = bytearray(packed.read_bytes())
    data[offset] ^= 1
    packed.write_bytes(data)
    found = cache.verify(packed)
    assert not found.is_sound
    assert (found.is_packed, found.bad_shards, found.rows) == (True, (), 4)
    assert found.problems[0].file == "x.h5"
    assert found.problems[0].what.startswith("the rows of shard 0 have content digest ")
    assert all("shard 0" in problem.what for problem in found.problems)
    verify_packed_shard(inspect_packed(packed), 1)
    with pytest.raises(
        errors.CorruptStoreError, match=r"the rows of shard 0 have content digest .*; fetch the file ag"
    ):
        verify_packed_shard(inspect_packed(packed), 0)


def test_verification_tells_what_digests_would_cover_up(packed):
    with h5py.File(packed, "r+") as file:
        file["features/map"][2, 1] = np.nan
        file["images/bytes"][0] = 0
    found = [problem.what for problem in cache.verify(packed).problems]
    assert [what.partition(" have ")[0] for what in found if "digest" in what] == [
        "the rows of shard 0",
        "the rows of shard 1",
    ]
    assert "in shard 1 4 values of readout map are not finite" in found
    assert "in shard 0 1 of 2 images are not the ones that were hashed" in found


def test_verification_of_an_unreadable_packed_store_says_why(packed):
    with h5py.File(packed, "r+") as file:
        del file["labels"]
    found = cache.verify(packed)
    assert (found.state, found.is_sound, found.shards) == ("unreadable", False, 0)
    assert [problem.what.partition(" [")[0] for problem in found.problems] == ["/ holds"]
    packed.write_text("mine")
    with pytest.raises(errors.StoreNotFoundError, match=r"x\.h5 is no feature store"):
        cache.verify(packed)
