"""The reader: the stored example of version 1, a store against plain numpy, and what is refused at opening.

The example's values are those that scripts/make_store_fixture.py states in its docstring.
"""

import hashlib
import json
import multiprocessing
import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

import cache
from cache import errors
from cache.fingerprint import digest_of_bytes
from cache.inspection import verify_shard

EXAMPLE = Path(__file__).parent / "fixtures" / "store_v1"
EXAMPLE_2 = EXAMPLE.with_name("store_v2")
ROWS = 23
BAD = (4, 20)
KEPT = [i for i in range(ROWS) if i not in BAD]


def feature_matrix(dims=5, dtype="float16"):
    return np.random.default_rng(0).normal(size=(ROWS, dims)).astype(dtype)


def write_store(path, images="original", labels=None, rows_per_shard=4, readouts=("avg",)):
    plan = cache.Plan(
        identity={"teacher": "a"},
        readouts=tuple(cache.Readout(name=name, dims=5, dtype="float16") for name in readouts),
        keys=tuple(f"k{i}" for i in range(ROWS)),
        labels=tuple(i % 3 for i in range(ROWS)) if labels is None else labels,
        classes=("x", "y", "z"),
        images=images,
        rows_per_shard=rows_per_shard,
        batch_size=2,
    )
    with cache.StoreWriter(path, plan, provenance={}) as writer:
        for index in writer.pending():
            inside = plan.positions(index)
            positions_N = np.array([i for i in inside if i not in BAD], dtype=np.int64)
            writer.write_shard(
                index,
                cache.ShardRows(
                    positions_N=positions_N,
                    hashes_N16=np.repeat(positions_N[:, None], 16, axis=1).astype(np.uint8),
                    features=dict.fromkeys(readouts, feature_matrix()[positions_N]),
                    images=None if images == "none" else [image(i) for i in positions_N.tolist()],
                    quarantine=[cache.Quarantined(position=i, key=f"k{i}", reason="cut") for i in inside if i in BAD],
                ),
            )
        writer.close()
    return path


def image(position):
    return bytes([position]) * (position + 1)


def test_the_stored_example_of_version_1_reads_back():
    store = cache.open(EXAMPLE)
    assert (len(store), store.keys) == (4, ["a/0.png", "a/1.png", "b/2.png", "b/3.png"])
    assert store.labels_N.tolist() == [0, 0, -1, 1]
    assert store.positions_N.tolist() == [0, 1, 2, 3]
    assert store.classes == ("a", "b")
    assert store.is_labelled
    assert store.features("avg")[:].tolist() == [[i, i + 0.25, i + 0.5] for i in range(4)]
    assert store.features("cls")[:].tolist() == [[-10.0 * i, -10.0 * i - 1] for i in range(4)]
    images = [key.encode() * (i + 1) for i, key in enumerate(store.keys)]
    assert [store.image_bytes(row) for row in range(4)] == images
    assert [bytes(row) for row in store.hashes_N16] == [hashlib.blake2b(i, digest_size=16).digest() for i in images]
    quarantined = store.manifest.quarantine[0]
    assert (quarantined.position, quarantined.key, quarantined.reason) == (4, "a/ä 4.png", "truncated file")
    with pytest.raises(errors.SchemaError, match="holds the clean view only; extract with --views V"):
        store.view_parameters()
    require_sound(EXAMPLE, store)


def require_sound(folder, store):
    assert store.identity == json.loads((folder / "manifest.json").read_text())["identity"]
    for index, entry in enumerate(store.manifest.shards):
        verify_shard(folder / entry.file, store.manifest.plan, index)
        assert digest_of_bytes((folder / entry.file).read_bytes()) == entry.digest


def test_the_stored_example_of_version_2_reads_back():
    store = cache.open(EXAMPLE_2)
    assert (len(store), store.manifest.plan.format_version) == (4, 2)
    avg, maps = store.features("avg"), store.features("map")
    assert (avg.shape, maps.shape) == ((4, 2, 3), (4, 2, 1, 2, 2))
    assert avg[[3, 0]].tolist() == [[[i + v / 2 + d / 4 for d in range(3)] for v in range(2)] for i in (3, 0)]
    assert maps[2].tolist() == [[[[-20.0 - v - 2 * w - d for d in range(2)] for w in range(2)]] for v in range(2)]
    assert store.view_parameters()[:].tolist() == [[[v, i] for v in range(2)] for i in range(4)]
    assert store.manifest.plan.views.parameters == ("flip", "top")
    assert store.manifest.plan.constants["projection/map"].array().tolist() == [[1, 0], [0, 1]]
    require_sound(EXAMPLE_2, store)


def test_a_row_and_the_store_itself_say_what_they_are(tmp_path):
    store = cache.open(EXAMPLE)
    row = store[3]
    assert (row.key, row.label) == ("b/3.png", "b")
    assert {name: values.tolist() for name, values in row.features.items()} == {
        "avg": [3, 3.25, 3.5],
        "cls": [-30, -31],
    }
    assert (store[-2].key, store[-2].label) == ("b/2.png", None)
    assert [found.key for found in store] == store.keys
    for outside in (4, -5):
        with pytest.raises(IndexError, match=f"row {outside} is outside the 4 rows"):
            store[outside]
    assert repr(store) == (
        f"<Store {EXAMPLE}: 4 rows, 2 classes, readouts avg (3,) float16, cls (2,) float32, images original, "
        f"identity {store.identity}>"
    )


@pytest.mark.parametrize("rows_per_shard", [1, 4, 100])
def test_features_are_the_rows_in_order_without_the_quarantined(tmp_path, rows_per_shard):
    store = cache.open(write_store(tmp_path / "x.store", rows_per_shard=rows_per_shard))
    assert len(store) == 21
    assert store.keys == [f"k{i}" for i in KEPT]
    assert store.labels_N.tolist() == [i % 3 for i in KEPT]
    assert store.hashes_N16[:, 0].tolist() == store.positions_N.tolist() == KEPT
    for resident_bytes in (0, 1 << 30):
        assert np.array_equal(store.features(resident_bytes=resident_bytes)[:], feature_matrix()[KEPT])


def test_a_shard_that_goes_away_after_opening_is_named(tmp_path):
    store = cache.open(write_store(tmp_path / "x.store"))
    (tmp_path / "x.store" / "shard-00002.h5").unlink()
    with pytest.raises(
        errors.CorruptStoreError, match=r"shard-00002\.h5: it cannot be mapped \(.*\); if too many files"
    ):
        store.features()[:]


def test_images_come_back_by_row(tmp_path):
    store = cache.open(write_store(tmp_path / "x.store"))
    assert store.has_images
    assert [store.image_bytes(row) for row in range(len(store))] == [image(i) for i in KEPT]
    for row in (-1, 21):
        with pytest.raises(IndexError, match=f"row {row} is outside the 21 rows"):
            store.image_bytes(row)


def test_a_store_without_images_or_labels_is_ordinary(tmp_path):
    store = cache.open(write_store(tmp_path / "x.store", images="none", labels=(-1,) * ROWS))
    assert not store.has_images
    assert not store.is_labelled
    assert store.features()[:].shape == (21, 5)
    with pytest.raises(errors.SchemaError, match=r"keeps no images \(images: none\); extract with --images original"):
        store.image_bytes(0)


def test_a_readout_is_named_where_there_are_several(tmp_path):
    store = cache.open(write_store(tmp_path / "x.store", readouts=("avg", "cls")))
    assert list(store.readouts) == ["avg", "cls"]
    assert np.array_equal(store.features("cls")[:], feature_matrix()[KEPT])
    with pytest.raises(errors.SchemaError, match="has the readouts avg, cls; name one of them with --readout"):
        store.features()
    with pytest.raises(errors.SchemaError, match="has no readout 'pool'; it has avg, cls"):
        store.features("pool")


def read_in_child(store, features, queue):
    queue.put((features.gather([20, 3]).tolist(), store.image_bytes(7)))


@pytest.mark.parametrize("method", ["pickle", "fork"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_store_in_use_goes_to_other_processes(tmp_path, method):
    store = cache.open(write_store(tmp_path / "x.store"))
    features = store.features(resident_bytes=0)
    wanted = (features.gather([20, 3]).tolist(), store.image_bytes(7))
    if method == "pickle":  # as spawn does to arguments; a spawned child could not import this file by name
        copied_store, copied_features = pickle.loads(pickle.dumps((store, features)))  # noqa: S301
        assert (copied_features.gather([20, 3]).tolist(), copied_store.image_bytes(7)) == wanted
        assert len(pickle.dumps(features)) < 5000
        return
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=read_in_child, args=(store, features, queue))
    child.start()
    assert queue.get() == wanted
    child.join()


def test_reading_holds_no_hdf5_handle_and_writes_nothing(tmp_path):
    path = write_store(tmp_path / "x.store")
    before = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in path.iterdir()}
    for file in path.iterdir():
        file.chmod(0o400)
    path.chmod(0o500)
    store = cache.open(path)
    features = store.features(resident_bytes=0)
    features.gather([0, 20])
    store.image_bytes(3)
    assert h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE) == 0
    path.chmod(0o700)
    assert {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in path.iterdir()} == before


def test_stores_that_cannot_be_opened_are_named(tmp_path):
    missing = r"x\.store is no feature store: manifest\.json cannot be read \(No such file or directory\)"
    with pytest.raises(errors.StoreNotFoundError, match=missing):
        cache.open(tmp_path / "x.store")
    with pytest.raises(errors.StoreNotFoundError, match=r"manifest\.json cannot be read \(No such file"):
        cache.open(str(tmp_path))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(
        errors.StoreNotFoundError, match="file is no feature store: it is a file, and not one that tcs cache"
    ):
        cache.open(tmp_path / "file")
    plan = cache.open(EXAMPLE).manifest.plan
    with cache.StoreWriter(tmp_path / "open.store", plan, provenance={}):
        pass
    with pytest.raises(errors.IncompleteStoreError, match="is incomplete: 0 of 3 shards are written; rerun the com"):
        cache.open(tmp_path / "open.store")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\xff", "null", '{"format": 1}'])
def test_a_manifest_that_is_no_manifest_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(errors.CacheError, match=r"manifest\.json( is not readable as JSON|: there is no field format)"):
        cache.open(tmp_path)


def copied_example(tmp_path, edit=None):
    path = tmp_path / "copy.store"
    shutil.copytree(EXAMPLE, path)
    if edit is not None:
        manifest = json.loads((path / "manifest.json").read_text())
        edit(manifest)
        (path / "manifest.json").write_text(json.dumps(manifest))
    return path


@pytest.mark.parametrize(
    "name", ["../copy.store/shard-00000.h5", "/etc/hostname", "..", "shard-00000.h5/", "SHARD-00000.h5"]
)
def test_a_manifest_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    path = copied_example(tmp_path, lambda manifest: manifest["shards"][0].update(file=name))
    with pytest.raises(errors.SchemaError, match=r"manifest\.json: shard file '.*' must be named shard-00000\.h5"):
        cache.open(path)


def test_another_format_version_is_refused_by_name(tmp_path):
    path = copied_example(tmp_path, lambda manifest: manifest.update(format_version=7))
    with pytest.raises(
        errors.FormatVersionError, match=r"copy\.store.*format version 7; this release reads 1, 2 and 3; upgrade"
    ):
        cache.open(path)


def test_an_identity_that_the_hashes_do_not_give_is_refused(tmp_path):
    path = copied_example(tmp_path, lambda manifest: manifest.update(identity="0" * 32))
    with pytest.raises(errors.CorruptStoreError, match=r"its shards have identity .*, the manifest gives 0000"):
        cache.open(path)


def test_row_counts_that_the_shards_do_not_have_are_refused(tmp_path):
    def edit(manifest):
        manifest["shards"][0]["rows"], manifest["shards"][2]["rows"] = 1, 1

    with pytest.raises(errors.CorruptStoreError, match=r"shard-00000\.h5: it has 2 rows, the manifest gives 1"):
        cache.open(copied_example(tmp_path, edit))


@pytest.mark.parametrize("harm", ["missing", "cut", "longer", "link", "folder"])
def test_a_shard_of_another_size_or_kind_is_refused(tmp_path, harm):
    path = copied_example(tmp_path)
    target = path / "shard-00001.h5"
    data = target.read_bytes()
    target.unlink()
    if harm == "cut":
        target.write_bytes(data[:-1])
    elif harm == "longer":
        target.write_bytes(data + b"\0")
    elif harm == "link":
        target.symlink_to(EXAMPLE / "shard-00001.h5")
    elif harm == "folder":
        target.mkdir()
    message = r"1 of 3 shards are not there with the size the manifest gives \(shard-00001\.h5\); rerun the command"
    with pytest.raises(errors.CorruptStoreError, match=message):
        cache.open(path)


def test_a_one_row_store_and_a_store_without_rows(tmp_path):
    for bad in (False, True):
        plan = cache.Plan(
            identity={},
            readouts=(cache.Readout(name="avg", dims=2, dtype="float32"),),
            keys=("only",),
            labels=(-1,),
            classes=(),
            images="original",
            rows_per_shard=8192,
            batch_size=64,
        )
        count = 0 if bad else 1
        rows = cache.ShardRows(
            positions_N=np.arange(count),
            hashes_N16=np.zeros((count, 16), np.uint8),
            features={"avg": np.ones((count, 2), np.float32)},
            images=[b"image"] * count,
            quarantine=[cache.Quarantined(position=0, key="only", reason="cut")] * (1 - count),
        )
        path = tmp_path / f"{count}.store"
        with cache.StoreWriter(path, plan, provenance={}) as writer:
            writer.write_shard(0, rows)
            writer.close()
        store = cache.open(path)
        assert store.features()[:].tolist() == [[1.0, 1.0]] * count
        assert [len(block_BD) for _, block_BD in store.features(resident_bytes=0).blocks()] == [1] * count
        assert [store.image_bytes(row) for row in range(len(store))] == [b"image"] * count
