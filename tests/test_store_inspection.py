"""Hostile and damaged shard files, made with plain h5py: each is refused by name, and nothing outside is read."""

import hashlib
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

import cache
from cache import errors
from cache.inspection import digest_of_shard, inspect_shard, verify_shard

EXAMPLE = Path(__file__).parent / "fixtures" / "store_v1"
PLAN = cache.open(EXAMPLE).manifest.plan


@pytest.fixture
def shard(tmp_path):
    """A writable copy of a shard with two rows."""
    return Path(shutil.copy(EXAMPLE / "shard-00000.h5", tmp_path / "shard-00000.h5"))


def replace(file, name, values, **options):
    del file[name]
    file.create_dataset(name, data=values, **options)


def set_external(file):
    del file["labels"]
    file.create_dataset("labels", (2,), "<i8", external=[("/etc/passwd", 0, 16)])


def set_virtual(file):
    del file["labels"]
    layout = h5py.VirtualLayout((2,), "<i8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "labels", (2,))
    file.create_virtual_dataset("labels", layout)


def set_compact(file):
    del file["labels"]
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple((2,))
    h5py.h5d.create(file.id, b"labels", h5py.h5t.STD_I64LE, space, properties)


def set_never_written(file):
    del file["labels"]
    file.create_dataset("labels", (2,), "<i8")


def set_link(file, link):
    del file["labels"]
    file["labels"] = link


def set_group_link(file):
    del file["features"]
    file["features"] = h5py.ExternalLink("/etc/passwd", "/")


def set_attribute(file, name, value):
    file.attrs[name] = value


def quarantine(*entries):
    return np.frombuffer(json.dumps(entries).encode(), np.uint8)


OBJECTS = h5py.string_dtype()
HARMS = {
    "float64 features": (
        lambda file: replace(file, "features/avg", np.zeros((2, 3))),
        r"features/avg is <f8 \(2, 3\); the plan needs <f2 \(2, 3\)",
    ),
    "big-endian features": (
        lambda file: replace(file, "features/avg", np.zeros((2, 3), ">f2")),
        "features/avg is >f2",
    ),
    "narrow features": (
        lambda file: replace(file, "features/avg", np.zeros((2, 2), "<f2")),
        r"features/avg is <f2 \(2, 2\); the plan needs <f2 \(2, 3\)",
    ),
    "short labels": (lambda file: replace(file, "labels", np.zeros(1, "<i8")), r"labels is <i8 \(1,\)"),
    "other labels": (lambda file: replace(file, "labels", np.ones(2, "<i8")), "labels differ from the plan's"),
    "object keys": (lambda file: replace(file, "keys", ["a", "b"], dtype=OBJECTS), r"keys is \|O"),
    "numeric keys": (lambda file: replace(file, "keys", [1, 2]), "keys is <i8"),
    "scalar positions": (lambda file: replace(file, "positions", 3), "positions has a shape that the plan rules out"),
    "too many rows": (
        lambda file: replace(file, "positions", np.arange(3, dtype="<i8")),
        "positions has a shape that the plan rules out",
    ),
    "other positions": (
        lambda file: replace(file, "positions", np.array([0, 2], "<i8")),
        "shard 0 must cover the positions 0 to 1 once each",
    ),
    "falling positions": (
        lambda file: replace(file, "positions", np.array([1, 0], "<i8")),
        "positions of shard 0 must be one ascending row",
    ),
    "compressed": (
        lambda file: replace(file, "labels", np.zeros(2, "<i8"), compression="gzip"),
        "labels is not stored contiguously",
    ),
    "chunked": (lambda file: replace(file, "labels", np.zeros(2, "<i8"), chunks=(1,)), "labels is not stored contig"),
    "compact": (set_compact, "labels is not stored contiguously"),
    "external": (set_external, "labels is not stored contiguously inside this file"),
    "virtual": (set_virtual, "labels is not stored contiguously inside this file"),
    "never written": (set_never_written, "labels reaches beyond the end of the file"),
    "soft link": (lambda file: set_link(file, h5py.SoftLink("/positions")), "labels in / is a link, or no dataset"),
    "external link": (
        lambda file: set_link(file, h5py.ExternalLink("/etc/passwd", "/labels")),
        "labels in / is a link, or no dataset",
    ),
    "linked group": (set_group_link, "features in / is a link, or no group"),
    "group for dataset": (lambda file: set_link(file, file["features"]), "labels in / is a link, or no dataset"),
    "extra dataset": (lambda file: file.create_dataset("more", data=[1]), r"/ holds \[.*'more'.*\], not \["),
    "extra readout": (lambda file: file.create_dataset("features/x", data=[1]), "/features holds .*'x'"),
    "no hashes": (lambda file: file.__delitem__("hashes"), r"/ holds \[.*\], not \[.*'hashes'"),
    "no images": (lambda file: file.__delitem__("images"), r"/ holds \[.*\], not \[.*'images'"),
    "falling offsets": (
        lambda file: replace(file, "images/offsets", np.array([0, 30, 21], "<i8")),
        "images/offsets must rise from 0 to the 21 bytes of images/bytes",
    ),
    "offsets beyond": (
        lambda file: replace(file, "images/offsets", np.array([0, 7, 999], "<i8")),
        "images/offsets must rise from 0 to the 21 bytes",
    ),
    "flat quarantine": (
        lambda file: replace(file, "quarantine", np.frombuffer(b"{}", np.uint8)),
        "quarantine is {}; it must be a list",
    ),
    "broken quarantine": (
        lambda file: replace(file, "quarantine", np.frombuffer(b"[", np.uint8)),
        "it cannot be read as HDF5",
    ),
    "quarantined row": (
        lambda file: replace(file, "quarantine", quarantine({"position": 0, "key": "a/0.png", "reason": ""})),
        "must cover the positions 0 to 1 once each",
    ),
    "quarantine of other types": (
        lambda file: replace(file, "quarantine", quarantine({"position": "0", "key": "", "reason": ""})),
        r"quarantine\[0\].position is '0'; it must be a whole number",
    ),
    "other version": (
        lambda file: set_attribute(file, "format_version", 7),
        "attribute format_version is .*7.*; the plan needs 1",
    ),
    "other plan": (
        lambda file: set_attribute(file, "plan_identity", np.bytes_("0" * 32)),
        "attribute plan_identity is",
    ),
    "other shard": (lambda file: set_attribute(file, "shard", 1), "attribute shard is .*1.*; the plan needs 0"),
    "array attribute": (lambda file: set_attribute(file, "shard", [0, 0]), "attribute shard is no single value"),
    "empty attribute": (lambda file: set_attribute(file, "shard", h5py.Empty("i8")), "attribute shard is"),
    "text digest": (
        lambda file: set_attribute(file, "content_digest", 5),
        r"attribute content_digest is <i8; it must be \|S32",
    ),
    "extra attribute": (
        lambda file: set_attribute(file, "more", 1),
        r"the attributes of / lack, or have too many, \['more'\]",
    ),
}


def test_the_example_itself_passes(shard):
    found = verify_shard(shard, PLAN, 0)
    assert found.positions_N.tolist() == [0, 1]
    assert found.extents["features/avg"].map().tolist() == [[0.0, 0.25, 0.5], [1.0, 1.25, 1.5]]


@pytest.mark.parametrize("name", HARMS)
def test_a_shard_that_breaks_the_format_is_refused_by_name(shard, name):
    harm, message = HARMS[name]
    with h5py.File(shard, "r+") as file:
        harm(file)
    with pytest.raises(errors.CorruptStoreError, match=message) as caught:
        inspect_shard(shard, PLAN, 0)
    assert str(caught.value).startswith(f"{shard}: ")
    assert str(caught.value).endswith("; delete this file and rerun the command that wrote the store.")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\x89HDF\r\n\x1a\n", b"not HDF5 at all"])
def test_a_file_that_is_no_hdf5_is_refused(shard, data):
    shard.write_bytes(data)
    with pytest.raises(errors.CorruptStoreError, match="it cannot be read as HDF5"):
        inspect_shard(shard, PLAN, 0)


def test_every_cut_of_a_shard_is_refused(shard):
    data = shard.read_bytes()
    for size in range(0, len(data), 97):
        shard.write_bytes(data[:size])
        with pytest.raises(errors.CorruptStoreError, match=r"shard-00000\.h5: "):
            verify_shard(shard, PLAN, 0)


def test_a_link_and_a_missing_file_are_refused(shard):
    shard.unlink()
    with pytest.raises(errors.CorruptStoreError, match="No such file or directory"):
        inspect_shard(shard, PLAN, 0)
    shard.symlink_to(EXAMPLE / "shard-00000.h5")
    with pytest.raises(errors.CorruptStoreError, match="it is a link, or no ordinary file"):
        inspect_shard(shard, PLAN, 0)


def test_verification_finds_any_changed_value_and_any_changed_key(shard):
    data = shard.read_bytes()
    extents = inspect_shard(shard, PLAN, 0).extents
    for name in ("features/avg", "features/cls", "images/bytes", "hashes"):
        changed = bytearray(data)
        changed[extents[name].offset] ^= 1
        shard.write_bytes(changed)
        with pytest.raises(
            errors.CorruptStoreError, match=r"its content has digest .*, not the .* it was written with"
        ):
            verify_shard(shard, PLAN, 0)
    changed = bytearray(data)
    changed[extents["keys"].offset] ^= 1
    shard.write_bytes(changed)
    with pytest.raises(errors.CorruptStoreError, match="keys differ from the plan's"):
        verify_shard(shard, PLAN, 0)


def written_large(folder, format_version):
    """A closed store of one shard whose features take 2 MiB."""
    plan = cache.Plan(
        identity={"teacher": "a"},
        readouts=(cache.Readout(name="avg", dims=65_536, dtype="float16"),),
        keys=tuple(f"k{i}" for i in range(16)),
        labels=(-1,) * 16,
        classes=(),
        images="none",
        rows_per_shard=16,
        batch_size=8,
        format_version=format_version,
    )
    rows = cache.ShardRows(
        positions_N=np.arange(16),
        hashes_N16=np.zeros((16, 16), np.uint8),
        features={"avg": np.random.default_rng(0).standard_normal((16, 65_536))},
    )
    with cache.StoreWriter(folder, plan, provenance={}) as writer:
        writer.write_shard(0, rows)
        writer.close()
    return folder / "shard-00000.h5"


@pytest.mark.parametrize("format_version", [1, 2])
def test_the_digest_of_a_shard_is_of_its_frame_since_version_2(tmp_path, format_version):
    path = written_large(tmp_path / "x.store", format_version)
    manifest = cache.open(path.parent).manifest
    shard = inspect_shard(path, manifest.plan, 0)
    start, size = shard.extents["features/avg"].offset, shard.extents["features/avg"].size_bytes
    whole = path.read_bytes()
    frame = whole if format_version == 1 else whole[:start] + whole[start + size :]
    assert manifest.shards[0].digest == hashlib.blake2b(frame, digest_size=16).hexdigest()
    assert digest_of_shard(path, manifest.plan, shard) == manifest.shards[0].digest


@pytest.mark.parametrize("format_version", [1, 2])
def test_no_byte_of_a_large_shard_is_left_out_by_a_verification(tmp_path, format_version):
    path = written_large(tmp_path / "x.store", format_version)
    whole = path.read_bytes()
    extent = inspect_shard(path, cache.open(path.parent).manifest.plan, 0).extents["features/avg"]
    inside, outside = extent.offset + extent.size_bytes // 2, [extent.offset - 1, len(whole) - 1, 100, 2000]
    for place in [extent.offset, inside, extent.offset + extent.size_bytes - 1, *outside]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        problems = cache.verify(path.parent).problems
        assert [problem.file for problem in problems if problem.file != "manifest.json"], place
    path.write_bytes(whole)
    assert cache.verify(path.parent).problems == ()
