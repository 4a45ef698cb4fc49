"""Exports into a folder: plain numpy and text read them, they appear whole, and nothing foreign is written over."""

import json
from pathlib import Path

import numpy as np
import pytest
from artefacts import make_store
from forks import in_process, refusal_with_files_of
from killed import kill_at_rename

import cache
from cache import errors
from tcs.exchange.parquet_write import export_parquet

EXAMPLE = Path(__file__).parent / "fixtures" / "store_v2"


def test_plain_numpy_and_text_read_an_export(tmp_path):
    rows = []
    out = cache.export(EXAMPLE, tmp_path / "sub" / "out", progress=rows.append)
    store = cache.open(EXAMPLE)
    for name in store.readouts:
        array = np.load(out / f"{name}.npy", mmap_mode="r")
        assert array.dtype == store.readouts[name].dtype
        assert np.array_equal(array, store.features(name)[:])
    assert np.load(out / "labels.npy").tolist() == [0, 0, -1, 1]
    assert np.array_equal(np.load(out / "hashes.npy"), store.hashes_N16)
    assert (out / "keys.txt").read_text(encoding="utf-8") == "a/0.png\na/1.png\nb/2.png\nb/3.png\n"
    assert (out / "classes.txt").read_text(encoding="utf-8") == "a\nb\n"
    about = json.loads((out / "store.json").read_bytes())
    assert (about["identity"], about["state"], about["made_from"]["semantics"]) == (store.identity, "closed", 1)
    assert about["readouts"] == {
        "avg": {"shape": [2, 3], "dtype": "float16"},
        "map": {"shape": [2, 1, 2, 2], "dtype": "float32"},
    }
    assert len(list(out.iterdir())) == 7
    assert rows == [2, 2, 0]


def test_a_finished_export_is_left_and_a_cut_one_finished(tmp_path):
    store, out, rows = make_store(tmp_path / "x.store"), tmp_path / "out", []
    cache.export(store.path, out, progress=rows.append)
    cache.export(cache.pack(store.path, tmp_path / "x.h5"), out, progress=rows.append)
    assert rows == [40, 20]
    about = json.loads((out / "store.json").read_bytes())
    (out / "store.json").write_text(json.dumps(about | {"state": "open"}))
    (out / "keys.txt").unlink()
    cache.export(store.path, out, progress=rows.append)
    assert rows == [40, 20, 40, 20]
    assert (out / "keys.txt").read_text().splitlines() == store.keys


def test_another_store_is_refused_and_replaces_only_when_told(tmp_path):
    out = cache.export(EXAMPLE, tmp_path / "out")
    store = make_store(tmp_path / "x.store")
    with pytest.raises(
        errors.IdentityError, match=r"out was exported from the store .*, not from .*; use another --out"
    ):
        cache.export(store.path, out)
    cache.export(store.path, out, overwrite=True)
    assert np.array_equal(np.load(out / "avg.npy"), store.features()[:])
    assert sorted(path.name for path in out.iterdir()) == [
        "avg.npy",
        "classes.txt",
        "hashes.npy",
        "keys.txt",
        "labels.npy",
        "store.json",
    ]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("content", ["avg.npy", "store.json", None])
def test_foreign_folders_and_files_are_left_alone(tmp_path, content, overwrite):
    out = tmp_path / "out"
    if content is None:
        out.write_text("mine")
    else:
        out.mkdir()
        (out / content).write_text('{"format": "mine"}')
    with pytest.raises(errors.ForeignFolderError, match="out is there and no export of a store; move it away, or name"):
        cache.export(EXAMPLE, out, overwrite=overwrite)
    assert (out if content is None else out / content).read_text() in ("mine", '{"format": "mine"}')


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_an_export_killed_before_its_first_file_has_its_name_is_begun_again(tmp_path):
    kill_at_rename(0, lambda: cache.export(EXAMPLE, tmp_path / "out"))
    assert [path.suffix for path in (tmp_path / "out").iterdir()] == [".partial"]
    cache.export(EXAMPLE, tmp_path / "out")
    cache.export(EXAMPLE, tmp_path / "fresh")
    left, fresh = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("out", "fresh"))
    assert left == fresh


def test_a_hostile_record_of_an_export_removes_nothing_outside(tmp_path):
    (tmp_path / "mine.npy").write_text("mine")
    out = cache.export(EXAMPLE, tmp_path / "out")
    about = json.loads((out / "store.json").read_bytes())
    (out / "store.json").write_text(json.dumps(about | {"readouts": {"../mine": {}, "avg": {}}}))
    cache.export(EXAMPLE, out, overwrite=True)
    assert (tmp_path / "mine.npy").read_text() == "mine"


@pytest.mark.parametrize(
    ("keys", "readout", "message"),
    [
        (
            ["\ufeffa", "c"],
            "avg",
            r"'\\ufeffa' holds a line break or a byte order mark, .*; export to a \.parquet file",
        ),
        (["a\nb", "c"], "avg", r"'a\\nb' holds a line break .*; export to a \.parquet file"),
        (["a", "c"], "labels", r"readout 'labels' would be written over labels\.npy; export to a \.parquet file"),
    ],
)
def test_names_that_files_cannot_hold_are_refused(tmp_path, keys, readout, message):
    path = cache.create(tmp_path / "x.store", {readout: np.ones((2, 3))}, keys=keys)
    with pytest.raises(errors.SchemaError, match=message):
        cache.export(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damage_is_not_exported(tmp_path):
    store = make_store(tmp_path / "x.store")
    shard = store.path / "shard-00001.h5"
    data = bytearray(shard.read_bytes())
    data[bytes(data).index(store.image_bytes(50))] ^= 1
    shard.write_bytes(data)
    with pytest.raises(errors.CorruptStoreError, match=r"shard-00001\.h5: its content has digest"):
        cache.export(store.path, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "store.json").read_bytes())["state"] == "open"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["store.json"]


@pytest.mark.parametrize("call", [cache.export, export_parquet])
def test_a_full_disk_is_one_line(tmp_path, call):
    store = make_store(tmp_path / "x.store", rows=1000)
    out = tmp_path / ("out" if call is cache.export else "out.parquet")
    code, last = in_process(refusal_with_files_of, 20_000, call, store.path, out)
    assert code == 0
    assert last.startswith("cache.errors.StoreWriteError: cannot write ")
    assert last.endswith(": File too large; free space and rerun the same command.\n")
    assert [path.name for path in tmp_path.rglob("*.partial")] == []
