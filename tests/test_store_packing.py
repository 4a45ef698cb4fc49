"""Packing and unpacking: the same store in one file, the same folder back, and what is refused at the output."""

import json
import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from artefacts import make_store

import cache
from cache import errors
from cache.files import PARTIAL_SUFFIX, StreamedFile

FIXTURES = Path(__file__).parent / "fixtures"
EXAMPLES = [FIXTURES / "store_v1", FIXTURES / "store_v2", FIXTURES / "store_v3"]


def content(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_a_packed_store_is_the_same_store(tmp_path, example):
    packed_path = tmp_path / "any name"
    assert cache.pack(example, packed_path) == packed_path
    folder, packed = cache.open(example), cache.open(packed_path)
    assert (packed.is_packed, folder.is_packed) == (True, False)
    assert (packed.path, packed.manifest, packed.identity) == (packed_path, folder.manifest, folder.identity)
    assert (packed.keys, packed.classes, packed.readouts) == (folder.keys, folder.classes, folder.readouts)
    assert packed.content_digests == folder.content_digests
    assert packed.size_bytes == folder.size_bytes
    for name in ("labels_N", "positions_N", "hashes_N16"):
        assert np.array_equal(getattr(packed, name), getattr(folder, name))
    for name in folder.readouts:
        for resident_bytes in (0, 1 << 20):
            found = packed.features(name, resident_bytes)
            assert np.array_equal(found[:], folder.features(name)[:])
            assert found.gather([3, 0, 3]).tolist() == folder.features(name)[[3, 0, 3]].tolist()
    assert [packed.image_bytes(row) for row in range(4)] == [folder.image_bytes(row) for row in range(4)]
    if folder.manifest.plan.views is not None:
        assert np.array_equal(packed.view_parameters()[:], folder.view_parameters()[:])
    assert pickle.loads(pickle.dumps(packed)).image_bytes(3) == folder.image_bytes(3)  # noqa: S301


def test_a_packed_store_is_plain_hdf5_with_one_aligned_array_a_readout(tmp_path):
    store = make_store(tmp_path / "x.store", rows=100)
    cache.pack(store.path, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5") as file:
        dataset = file["features/avg"]
        offset = dataset.id.get_offset()
        assert (dataset.shape, dataset.chunks, offset % 64) == ((100, 24), None, 0)
        assert np.array_equal(dataset[:], store.features()[:])
        assert file["labels"][:].tolist() == store.labels_N.tolist()
        cuts = file["images/offsets"][:]
        assert file["images/bytes"][cuts[70] : cuts[71]].tobytes() == store.image_bytes(70)
        assert json.loads(file["manifest"][()].tobytes()) == json.loads((store.path / "manifest.json").read_bytes())
    mapped = np.memmap(tmp_path / "x.h5", "<f4", "r", offset=offset, shape=(100, 24))
    assert np.array_equal(mapped, store.features()[:])


def test_equal_stores_pack_to_equal_bytes(tmp_path):
    for name in ("a", "b"):
        cache.pack(EXAMPLES[1], tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("images", ["original", "none"])
def test_unpacking_gives_the_same_folder_byte_for_byte(tmp_path, images):
    store = make_store(tmp_path / "x.store", rows=100, images=images)
    cache.set_gate(store.path, {"knn": 0.5})
    cache.pack(store.path, tmp_path / "x.h5")
    assert cache.unpack(tmp_path / "x.h5", tmp_path / "y.store") == tmp_path / "y.store"
    assert content(tmp_path / "y.store") == content(store.path)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_unpacking_the_examples_gives_their_content(tmp_path, example):
    cache.pack(example, tmp_path / "x.h5")
    cache.unpack(tmp_path / "x.h5", tmp_path / "y.store")
    there, back = cache.open(example), cache.open(tmp_path / "y.store")
    assert (back.identity, back.content_digests) == (there.identity, there.content_digests)
    assert back.manifest.provenance == there.manifest.provenance


def test_unpacking_resumes_and_leaves_a_finished_folder_alone(tmp_path):
    store = make_store(tmp_path / "x.store", rows=100)
    cache.set_gate(store.path, {"knn": 0.5})
    cache.pack(store.path, tmp_path / "x.h5")
    cache.unpack(tmp_path / "x.h5", tmp_path / "y.store")
    (tmp_path / "y.store" / "shard-00001.h5").unlink()
    rows = []
    cache.unpack(tmp_path / "x.h5", tmp_path / "y.store", progress=rows.append)
    assert (rows, content(tmp_path / "y.store")) == ([40], content(store.path))
    cache.set_gate(tmp_path / "y.store", {"knn": 0.7})
    cache.unpack(tmp_path / "x.h5", tmp_path / "y.store")
    assert cache.open(tmp_path / "y.store").manifest.gate == {"knn": 0.7}
    with pytest.raises(errors.SchemaError, match=r"x\.h5 is packed already; copy the file"):
        cache.pack(tmp_path / "x.h5", tmp_path / "z.h5")


def test_unpacking_into_another_store_is_refused(tmp_path):
    store = make_store(tmp_path / "x.store")
    cache.pack(store.path, tmp_path / "x.h5")
    make_store(tmp_path / "y.store", teacher="another")
    with pytest.raises(errors.IdentityError, match="teacher is 'another' in the store and 'made-up' in this command"):
        cache.unpack(tmp_path / "x.h5", tmp_path / "y.store")
    cache.unpack(tmp_path / "x.h5", tmp_path / "y.store", overwrite=True)
    assert content(tmp_path / "y.store") == content(store.path)
    rewrite_features(tmp_path / "z.store", store)
    with pytest.raises(errors.IdentityError, match=r"z\.store holds other features than .*x\.h5; use another --out"):
        cache.unpack(tmp_path / "x.h5", tmp_path / "z.store")


def rewrite_features(path, store):
    """The same inputs with features that differ by one, as another machine's might: the same identity."""
    plan = store.manifest.plan
    with cache.StoreWriter(path, plan, provenance={}) as writer:
        for index in writer.pending():
            at = np.array(plan.positions(index))
            rows = cache.ShardRows(
                positions_N=at,
                hashes_N16=store.hashes_N16[at],
                features={"avg": store.features()[at] + 1},
                images=[store.image_bytes(i) for i in at.tolist()],
            )
            writer.write_shard(index, rows)
        writer.close()


def test_a_finished_file_is_left_and_another_store_refused(tmp_path):
    store, out, rows = make_store(tmp_path / "x.store"), tmp_path / "x.h5", []
    cache.pack(store.path, out, progress=rows.append)
    assert rows == [40, 20]
    before = out.stat().st_mtime_ns
    cache.pack(store.path, out, progress=rows.append)
    assert (rows, out.stat().st_mtime_ns) == ([40, 20], before)
    other = make_store(tmp_path / "other.store", seed=1)
    rewrite_features(tmp_path / "z.store", store)
    for path in (other.path, tmp_path / "z.store"):
        with pytest.raises(errors.IdentityError, match=f"holds the store of identity {store.identity} with other feat"):
            cache.pack(path, out)
    cache.set_gate(store.path, {"knn": 0.5})
    with pytest.raises(errors.IdentityError, match=r"packed before the manifest of .* changed .*; use --overwrite"):
        cache.pack(store.path, out)
    cache.pack(store.path, out, overwrite=True)
    assert cache.open(out).manifest.gate == {"knn": 0.5}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.store", "x.h5", "x.store", "z.store"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("foreign", ["text", "hdf5", "folder", "shard"])
def test_what_is_no_packed_store_is_never_replaced(tmp_path, foreign, overwrite):
    out = tmp_path / "out"
    if foreign == "text":
        out.write_text("mine")
    elif foreign == "hdf5":
        with h5py.File(out, "w") as file:
            file.attrs["format"] = "mine"
    elif foreign == "folder":
        out.mkdir()
    else:
        shutil.copy(EXAMPLES[1] / "shard-00000.h5", out)
    with pytest.raises(errors.ForeignFolderError, match="out is there and no packed store; move it away, or name anot"):
        cache.pack(EXAMPLES[1], out, overwrite=overwrite)
    assert out.exists()


def test_damage_is_not_packed(tmp_path):
    store = make_store(tmp_path / "x.store")
    shard = store.path / "shard-00001.h5"
    data = bytearray(shard.read_bytes())
    with h5py.File(shard) as file:
        data[file["features/avg"].id.get_offset()] ^= 1
    shard.write_bytes(data)
    with pytest.raises(errors.CorruptStoreError, match=r"shard-00001\.h5: its content has digest .*, not the"):
        cache.pack(store.path, tmp_path / "x.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["x.store"]


def test_a_second_writer_is_refused_and_a_dead_one_succeeded(tmp_path):
    out = tmp_path / "x.h5"
    partial = out.with_name(out.name + PARTIAL_SUFFIX)
    partial.write_bytes(b"left behind" * 10_000)
    cache.pack(EXAMPLES[1], out)
    assert [path.name for path in tmp_path.iterdir()] == ["x.h5"]
    out.unlink()
    wanted = r"x\.h5 is being written by another process; wait"
    with StreamedFile(out, 10), pytest.raises(errors.LockedStoreError, match=wanted):
        cache.pack(EXAMPLES[1], out)
    assert list(tmp_path.iterdir()) == []


def test_an_open_store_and_a_missing_one_are_not_packed(tmp_path):
    with cache.StoreWriter(tmp_path / "open.store", cache.open(EXAMPLES[1]).manifest.plan, provenance={}):
        pass
    with pytest.raises(errors.IncompleteStoreError, match="is incomplete: 0 of 3 shards"):
        cache.pack(tmp_path / "open.store", tmp_path / "x.h5")
    with pytest.raises(errors.StoreNotFoundError, match="is no feature store"):
        cache.pack(tmp_path / "none.store", tmp_path / "x.h5")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(
        errors.StoreWriteError,
        match=r"x\.h5: File exists; make the folder writable, or name another output, and rerun\.",
    ):
        cache.pack(EXAMPLES[1], tmp_path / "file" / "x.h5")


def test_a_packed_store_is_only_read(tmp_path):
    out = cache.pack(EXAMPLES[1], tmp_path / "x.h5")
    with pytest.raises(errors.StoreNotFoundError, match=r"x\.h5 is a file, .* only read, so unpack it to change it"):
        cache.set_gate(out, {"knn": 0.5})
    with pytest.raises(errors.ForeignFolderError, match=r"x\.h5 is a file; a store is a folder"):
        cache.StoreWriter(out, cache.open(out).manifest.plan, provenance={})


def test_a_packed_store_may_be_reached_by_a_link_and_read_only(tmp_path):
    (tmp_path / "blobs").mkdir()
    blob = cache.pack(EXAMPLES[1], tmp_path / "blobs" / "0123")
    blob.chmod(0o400)
    (tmp_path / "x.h5").symlink_to(blob)
    store = cache.open(tmp_path / "x.h5")
    assert (store.path, len(store.features("avg")[:])) == (tmp_path / "x.h5", 4)
    assert h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE) == 0
