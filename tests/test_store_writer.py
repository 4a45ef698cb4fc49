"""The writer: what stands on disk (read with plain json and hashlib), resume, damage, locks, coverage, the gate."""

import dataclasses
import hashlib

import h5py
import pytest
from small_stores import KEYS, make_plan, make_rows, write
from store_folders import manifest_of, shard_files

import cache
from cache import errors


def test_the_closed_manifest_lists_shards_quarantine_and_identity(tmp_path):
    plan, path = make_plan(), tmp_path / "x.store"
    returned = write(path, plan, bad=(3,))
    manifest = manifest_of(path)
    assert manifest["state"] == "closed"
    assert manifest["quarantine"] == [{"position": 3, "key": "b/3.png", "reason": "cut"}]
    assert manifest["provenance"] == {"host": "here"}
    for entry, rows in zip(manifest["shards"], [2, 1, 1], strict=True):
        data = (path / entry["file"]).read_bytes()
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        assert entry == {"file": entry["file"], "rows": rows, "bytes": len(data), "digest": digest}
    hashes = b"".join(make_rows(plan, i, bad=(3,)).hashes_N16.tobytes() for i in range(3))
    whole = plan.plan_identity.encode() + hashes + b"[3]"
    assert manifest["identity"] == returned.identity == hashlib.blake2b(whole, digest_size=16).hexdigest()
    assert sorted(file.name for file in path.iterdir()) == ["manifest.json", *(f"shard-0000{i}.h5" for i in range(3))]


def test_the_plan_stands_before_the_first_shard(tmp_path):
    plan, path = make_plan(), tmp_path / "deep" / "x.store"
    with cache.StoreWriter(path, plan, provenance={}) as writer:
        manifest = manifest_of(path)
        assert manifest["state"] == "open"
        assert manifest["plan"]["keys"] == list(KEYS)
        assert writer.pending() == [0, 1, 2]
        assert not writer.finished


def test_the_same_rows_give_the_same_bytes_in_any_order_and_process(tmp_path):
    plan = make_plan()
    write(tmp_path / "a.store", plan, bad=(3,))
    write(tmp_path / "b.store", plan, bad=(3,), shards=[2, 0, 1])
    assert shard_files(tmp_path / "a.store") == shard_files(tmp_path / "b.store")
    assert (tmp_path / "a.store" / "manifest.json").read_bytes() == (
        tmp_path / "b.store" / "manifest.json"
    ).read_bytes()


def test_a_rerun_resumes_and_a_finished_store_is_left_alone(tmp_path):
    plan, path = make_plan(), tmp_path / "x.store"
    write(path, plan, shards=[1])
    with cache.StoreWriter(path, dataclasses.replace(plan, batch_size=99), provenance={"host": "there"}) as writer:
        assert writer.pending() == [0, 2]
        assert writer.plan.batch_size == 2
        for index in writer.pending():
            writer.write_shard(index, make_rows(plan, index))
        writer.close(provenance={"seconds": 3})
    manifest = manifest_of(path)
    assert manifest["provenance"] == {
        "host": "here",
        "resumed_by": {"host": "there"},
        "damaged_shards": [],
        "seconds": 3,
    }
    write(tmp_path / "whole.store", plan)
    assert shard_files(path) == shard_files(tmp_path / "whole.store")
    before = {file.name: file.stat().st_mtime_ns for file in path.iterdir()}
    with cache.StoreWriter(path, plan, provenance={}) as writer:
        assert writer.finished
        assert writer.pending() == []
        assert writer.close().identity == manifest["identity"]
    assert {file.name: file.stat().st_mtime_ns for file in path.iterdir()} == before


def flip(path):
    """Change one byte in the features of a shard, found by h5py."""
    with h5py.File(path) as file:
        offset = file["features/avg"].id.get_offset()
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "foreign", "swap", "link"])
def test_a_damaged_shard_is_pending_again(tmp_path, harm):
    plan, path = make_plan(), tmp_path / "x.store"
    write(path, plan, shards=[0, 1])
    whole = shard_files(path)
    target = path / "shard-00001.h5"
    if harm == "flip":
        flip(target)
    elif harm == "cut":
        target.write_bytes(target.read_bytes()[:-100])
    elif harm == "empty":
        target.write_bytes(b"")
    elif harm == "foreign":
        other = make_plan(identity={"teacher": "b"})
        write(tmp_path / "other.store", other)
        target.write_bytes((tmp_path / "other.store" / "shard-00001.h5").read_bytes())
    elif harm == "swap":
        target.write_bytes((path / "shard-00000.h5").read_bytes())
    else:
        target.rename(tmp_path / "elsewhere.h5")
        target.symlink_to(tmp_path / "elsewhere.h5")
    with cache.StoreWriter(path, plan, provenance={}) as writer:
        assert writer.pending() == [1, 2]
        assert writer.damaged == ("shard-00001.h5",)
        for index in writer.pending():
            writer.write_shard(index, make_rows(plan, index))
        assert writer.close().provenance["damaged_shards"] == ["shard-00001.h5"]
    assert {name: shard_files(path)[name] for name in whole} == whole
    assert not target.is_symlink()


def test_a_shard_lost_from_a_closed_store_is_written_again(tmp_path):
    plan, path = make_plan(), tmp_path / "x.store"
    identity = write(path, plan).identity
    whole = shard_files(path)
    (path / "shard-00001.h5").unlink()
    with cache.StoreWriter(path, plan, provenance={}) as writer:
        assert not writer.finished
        assert writer.pending() == [1]
        assert manifest_of(path)["state"] == "open"
    assert write(path, plan).identity == identity
    assert shard_files(path) == whole


def test_what_a_killed_write_left_is_removed_on_resume(tmp_path):
    plan, path = make_plan(), tmp_path / "x.store"
    write(path, plan, shards=[0])
    (path / "shard-00001.h5.0123abcd.partial").write_bytes(b"half")
    (path / "manifest.json.0123abcd.partial").write_bytes(b"half")
    (path / "notes.partial").write_bytes(b"mine")
    write(path, plan, shards=[])
    assert sorted(file.name for file in path.iterdir()) == ["manifest.json", "notes.partial", "shard-00000.h5"]


def test_notes_are_kept_while_the_store_is_open_and_are_no_part_of_it(tmp_path):
    plan, path = make_plan(), tmp_path / "x.store"
    with cache.StoreWriter(path, plan, provenance={}) as writer:
        writer.write_shard(1, make_rows(plan, 1, note={"ä": [1]}))
        assert writer.notes() == {1: {"ä": [1]}}
        with pytest.raises(errors.SchemaError, match="note"):
            writer.write_shard(0, make_rows(plan, 0, note={"ä": {1}}))
    with cache.StoreWriter(path, plan, provenance={}) as writer:
        part = cache.PartWriter(path, plan.plan_identity, share=[2])
        writer.adopt(part.write_shard(2, make_rows(plan, 2, note={"b": 2})))
        writer.write_shard(0, make_rows(plan, 0))
        assert writer.notes() == {1: {"ä": [1]}, 2: {"b": 2}}
        assert sorted(file.name for file in path.glob("*.note")) == ["shard-00001.note", "shard-00002.note"]
        (path / "shard-00001.note.0123abcd.partial").write_bytes(b"half")
    with cache.StoreWriter(path, plan, provenance={}) as writer:
        writer.close()
        assert writer.notes() == {}
    write(tmp_path / "plain.store", plan)
    assert cache.open(path).identity == cache.open(tmp_path / "plain.store").identity
    assert shard_files(path) == shard_files(tmp_path / "plain.store")
    assert {file.suffix for file in path.iterdir()} == {".h5", ".json"}
    (path / "shard-00001.note").write_bytes(b"{}")  # as a `close` that was killed behind the manifest leaves it
    cache.open(path)
    write(path, plan)
    assert {file.suffix for file in path.iterdir()} == {".h5", ".json"}


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b'{"note": {"a": 1}}', b'{"plan_identity": "of another", "note": {"a": 1}}', b"[" * 9999],
)
def test_a_note_that_is_damaged_or_of_another_plan_is_none(tmp_path, content):
    plan, path = make_plan(), tmp_path / "x.store"
    with cache.StoreWriter(path, plan, provenance={}) as writer:
        writer.write_shard(0, make_rows(plan, 0, note={"a": 1}))
        (path / "shard-00000.note").write_bytes(content)
        assert writer.notes() == {}


def test_a_shard_that_is_written_again_loses_its_note_and_overwriting_takes_all(tmp_path):
    plan, path = make_plan(), tmp_path / "x.store"
    with cache.StoreWriter(path, plan, provenance={}) as writer:
        writer.write_shard(0, make_rows(plan, 0, bad=(1,), note={"a": 1}))
        assert writer.retry_quarantined() == [0]
        assert writer.notes() == {}
        writer.write_shard(0, make_rows(plan, 0))
        assert writer.notes() == {}
        writer.write_shard(1, make_rows(plan, 1, note={"a": 1}))
    with cache.StoreWriter(path, plan, provenance={}, overwrite=True) as writer:
        assert sorted(file.name for file in path.iterdir()) == [".lock", "manifest.json"]


def test_a_start_killed_before_its_manifest_is_resumed(tmp_path):
    path = tmp_path / "x.store"
    path.mkdir()
    (path / ".lock").touch()
    (path / "manifest.json.0123abcd.partial").write_bytes(b"half")
    assert write(path, make_plan()).state == "closed"


def test_a_shard_is_written_once_and_closing_waits_for_all(tmp_path):
    plan = make_plan()
    with cache.StoreWriter(tmp_path / "x.store", plan, provenance={}) as writer:
        writer.write_shard(0, make_rows(plan, 0))
        with pytest.raises(
            errors.SchemaError, match=r"shard 0 is not pending; write the shards that pending\(\) lists"
        ):
            writer.write_shard(0, make_rows(plan, 0))
        with pytest.raises(errors.SchemaError, match="shard 3 does not exist; the plan has 3"):
            writer.write_shard(3, make_rows(plan, 0))
        with pytest.raises(errors.IncompleteStoreError, match=r"2 of 3 shards are not written \(\[1, 2\]\)"):
            writer.close()
    with pytest.raises(errors.SchemaError, match="provenance cannot be written as JSON"):
        cache.StoreWriter(tmp_path / "x.store", plan, provenance={"device": object()})


def test_a_second_writer_is_refused_until_the_first_is_done(tmp_path):
    path = tmp_path / "x.store"
    with cache.StoreWriter(path, make_plan(), provenance={}):
        for overwrite in (False, True):
            with pytest.raises(errors.LockedStoreError, match=r"x\.store is being written by another process"):
                cache.StoreWriter(path, make_plan(), provenance={}, overwrite=overwrite)
    write(path, make_plan())
    with (
        cache.StoreWriter(path, make_plan(), provenance={}),
        pytest.raises(errors.LockedStoreError, match="is being written by another process"),
    ):
        cache.set_gate(path, {"knn_top1": 50.0})


@pytest.mark.parametrize("rows_per_shard", [1, 5])
def test_inputs_without_any_row_still_make_a_store(tmp_path, rows_per_shard):
    plan, path = make_plan(rows_per_shard=rows_per_shard), tmp_path / "x.store"
    manifest = write(path, plan, bad=range(5))
    assert manifest.rows == 0
    assert [entry.position for entry in manifest.quarantine] == [0, 1, 2, 3, 4]
    with h5py.File(path / "shard-00000.h5") as file:
        assert file["features/avg"].shape == (0, 3)
        assert file["keys"].dtype == "S1"
        assert file["images/offsets"][()].tolist() == [0]
    with cache.StoreWriter(path, plan, provenance={}) as writer:
        assert writer.finished


def test_the_gate_is_recorded_in_a_closed_store_only(tmp_path):
    path = tmp_path / "x.store"
    with pytest.raises(errors.StoreNotFoundError, match=r"is no feature store: manifest\.json cannot be read"):
        cache.set_gate(path, {"knn_top1": 50.0})
    write(path, make_plan(), shards=[0])
    with pytest.raises(errors.IncompleteStoreError, match="1 of 3 shards are written; rerun the command"):
        cache.set_gate(path, {"knn_top1": 50.0})
    identity = write(path, make_plan()).identity
    cache.set_gate(path, {"knn_top1": 50.0})
    assert manifest_of(path)["gate"] == {"knn_top1": 50.0}
    assert manifest_of(path)["identity"] == identity
    with pytest.raises(errors.SchemaError, match="gate cannot be written as JSON"):
        cache.set_gate(path, {"knn_top1": float("nan")})
    assert sorted(file.name for file in path.iterdir())[0] == "manifest.json"
