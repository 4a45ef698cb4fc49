"""Import and export by the command's functions: round trips over folders and parquet, other people's files, refusals."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from artefacts import make_store

import cache
from tcs.config.exchange import ImportConfig
from tcs.errors import ConfigError, DataError
from tcs.exchange.features import export_features, import_features

ROWS = 10
FEATURES = np.random.default_rng(0).normal(size=(ROWS, 4)).astype(np.float32)
KEYS = [f"c{i % 2}/{i}.png" for i in range(ROWS)]
# As numpy says it now, and said it in 2.0
PICKLED = (
    r"(This file contains pickled \(object\) data|Cannot load file containing pickled data when allow_pickle=False)"
)


def imported(path, **options):
    return cache.open(import_features(ImportConfig(out=str(path), **options)))


@pytest.fixture
def arrays(tmp_path):
    """avg.npy, keys.txt, labels.txt (one row without), numbers.npy, and the images below img/."""
    np.save(tmp_path / "avg.npy", FEATURES)
    np.save(tmp_path / "numbers.npy", np.arange(ROWS) % 2)
    (tmp_path / "keys.txt").write_text("\n".join(KEYS) + "\n")
    (tmp_path / "labels.txt").write_text("".join(f"{'' if i == 3 else KEYS[i][:2]}\r\n" for i in range(ROWS)))
    for key in KEYS:
        (tmp_path / "img" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "img" / key).write_bytes(b"image " + key.encode())
    return tmp_path


@pytest.mark.parametrize("out", ["out", "out.parquet"])
@pytest.mark.parametrize("packed", [False, True])
def test_an_export_comes_back_as_it_was(tmp_path, out, packed):
    store = make_store(tmp_path / "x.store", rows=100, images="none")
    path = cache.pack(store.path, tmp_path / "x.h5") if packed else store.path
    rows = []
    assert export_features(str(path), str(tmp_path / out), progress=rows.append) == tmp_path / out
    export_features(str(path), str(tmp_path / out), progress=rows.append)
    assert rows == [40, 40, 20]
    back = imported(tmp_path / "y.store", source=str(tmp_path / out), rows_per_shard=30)
    assert (back.keys, back.classes, back.labels_N.tolist()) == (store.keys, store.classes, store.labels_N.tolist())
    assert back.features()[:].dtype == store.features()[:].dtype
    assert np.array_equal(back.features()[:], store.features()[:])
    assert np.array_equal(back.hashes_N16, store.hashes_N16)
    assert back.manifest.plan.identity["teacher"] == "made-up"
    assert imported(tmp_path / "y.store", source=str(tmp_path / out), rows_per_shard=30).identity == back.identity


def test_both_ways_of_an_export_give_the_same_store(tmp_path):
    features = {"map": np.random.default_rng(0).normal(size=(7, 2, 3, 4)).astype("float16"), "cls": np.ones((7, 5))}
    path = cache.create(
        tmp_path / "x.store", features, keys=list("abcdefg"), labels=[0, 1, -1, 0, 1, 0, 0], rows_per_shard=3
    )
    found = []
    for out in ("out", "out.parquet"):
        export_features(str(path), str(tmp_path / out))
        found.append(imported(tmp_path / f"{out}.store", source=str(tmp_path / out), rows_per_shard=3))
    assert found[0].identity == found[1].identity == cache.open(path).identity
    assert found[0].content_digests == found[1].content_digests == cache.open(path).content_digests


def test_plain_pyarrow_reads_an_export(tmp_path):
    store = make_store(tmp_path / "x.store", rows=100)
    table = pq.read_table(export_features(str(store.path), str(tmp_path / "out.parquet")))
    assert table.column_names == ["key", "label", "label_index", "hash", "avg"]
    assert table["key"].to_pylist() == store.keys
    assert table["label"].to_pylist() == [store.classes[label] for label in store.labels_N]
    assert table["hash"].to_pylist() == [row.tobytes().hex() for row in store.hashes_N16]
    assert np.array_equal(np.array(table["avg"].to_pylist(), np.float32), store.features()[:])
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups == 3


def test_npy_and_text_files_with_images_make_a_store(arrays):
    store = imported(
        arrays / "x.store",
        source=str(arrays / "avg.npy"),
        keys=str(arrays / "keys.txt"),
        labels=str(arrays / "labels.txt"),
        images_dir=str(arrays / "img"),
        teacher="vit",
        notes={"crop": "none"},
    )
    assert (store.keys, list(store.readouts), store.classes) == (KEYS, ["avg"], ("c0", "c1"))
    assert store.labels_N.tolist() == [-1 if i == 3 else i % 2 for i in range(ROWS)]
    assert [store.image_bytes(row) for row in range(ROWS)] == [b"image " + key.encode() for key in KEYS]
    identity = store.manifest.plan.identity
    assert (identity["teacher"], identity["preprocessing"], identity["notes"]) == ("vit", "unknown", {"crop": "none"})
    assert "hashes" not in identity
    assert cache.verify(store.path).is_sound


def test_several_readouts_row_numbers_and_numbered_classes(arrays):
    store = imported(
        arrays / "x.store",
        features={"a": str(arrays / "avg.npy"), "b": str(arrays / "avg.npy")},
        labels=str(arrays / "numbers.npy"),
        dtype="float16",
    )
    assert (list(store.readouts), store.keys, store.classes) == (
        ["a", "b"],
        [f"{i:08d}" for i in range(ROWS)],
        ("0", "1"),
    )
    assert np.array_equal(store.features("b")[:], FEATURES.astype(np.float16))
    assert store.manifest.plan.identity["hashes"] == "of keys only"
    one = imported(arrays / "y.store", source=str(arrays / "avg.npy"), readouts=("cls",))
    assert list(one.readouts) == ["cls"]


def foreign_table(path, rows_per_group=4, **columns):
    table = {
        "id": KEYS,
        "emb": pa.array(FEATURES.tolist(), pa.list_(pa.float32())),
        "image": [{"bytes": b"image " + key.encode(), "path": key} for key in KEYS],
        "label": pa.array(["x", None] * 5).dictionary_encode(),
        **columns,
    }
    pq.write_table(pa.table(table), path, row_group_size=rows_per_group)
    return str(path)


def test_other_peoples_parquet_files_are_read(tmp_path):
    source = foreign_table(tmp_path / "t.parquet")
    store = imported(tmp_path / "x.store", source=source, key_column="id", rows_per_shard=3)
    assert (store.keys, list(store.readouts), store.classes) == (KEYS, ["emb"], ("x",))
    assert store.labels_N.tolist() == [0, -1] * 5
    assert np.array_equal(store.features()[:], FEATURES)
    assert [store.image_bytes(row) for row in range(ROWS)] == [b"image " + key.encode() for key in KEYS]
    np.save(tmp_path / "hashes.npy", store.hashes_N16)
    assert imported(
        tmp_path / "x.store", source=source, key_column="id", rows_per_shard=3, hashes=str(tmp_path / "hashes.npy")
    ).identity == (store.identity)
    numbered = foreign_table(tmp_path / "n.parquet", label=[1, 0, None, 1, 1, 1, 1, 1, 1, 1], image=[b"x"] * ROWS)
    store = imported(tmp_path / "y.store", source=numbered, readouts=("emb",))
    assert (store.keys[1], store.labels_N.tolist()[:3], store.classes) == ("00000001", [1, 0, -1], ("0", "1"))


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (
            {"emb": [[1.0, 2.0]] * 9 + [[1.0]]},
            {},
            "column 'emb' has empty or missing lists, or lists of 2 lengths, in row",
        ),
        ({"emb": [[1.0, 2.0]] * 9 + [None]}, {}, "column 'emb' has empty or missing lists"),
        ({"emb": [[1.0, None]] * 10}, {}, "column 'emb' has empty or missing lists"),
        ({"emb": [1.0] * 10}, {}, "has no column of lists of floating numbers; its columns"),
        ({"emb": [[1, 2]] * 10}, {}, "has no column of lists of floating numbers"),
        ({}, {"readouts": ("embb",)}, r"has no column 'embb' of number lists; it has \['emb'\]. Did you mean emb\?"),
        ({}, {"key_column": "image"}, "column 'image' of .* is struct.*; it must be text; name another one"),
        ({"image": [None] * 10}, {}, "column 'image' has no image bytes in row 0; name another --image-column"),
    ],
)
def test_parquet_files_that_do_not_fit_are_named(tmp_path, columns, options, message):
    source = foreign_table(tmp_path / "t.parquet", rows_per_group=10, **columns)
    with pytest.raises(DataError, match=message):
        imported(tmp_path / "x.store", source=source, **options)


def test_files_that_cannot_be_read_are_named(arrays):
    np.save(arrays / "objects.npy", np.array([{}, []], object), allow_pickle=True)
    np.savez(arrays / "many.npz", a=FEATURES)
    np.save(arrays / "bytes.npy", np.array([b"\xe4"] * ROWS))
    (arrays / "empty.npy").write_bytes(b"")
    (arrays / "latin.txt").write_bytes(b"\xe4\n")
    (arrays / "bad.parquet").write_bytes(b"PAR1")
    for source, message in {
        "objects.npy": r"objects\.npy is no \.npy file of plain numbers \(.*Python objects",
        "many.npz": r"many\.npz is no \.npy file of one array",
        "empty.npy": r"empty\.npy is no \.npy file of plain numbers",
        "keys.txt": rf"keys\.txt is no \.npy file of plain numbers \({PICKLED}\); save",
        "none.npy": r"none\.npy cannot be read \(No such file",
        "none.parquet": r"none\.parquet is no file; name a parquet file",
        "bad.parquet": r"bad\.parquet cannot be read as parquet \(",
        "img": r"img has no store\.json of an export: name a \.npy file in it",
    }.items():
        with pytest.raises(DataError, match=message):
            imported(arrays / "x.store", source=str(arrays / source))
    avg = str(arrays / "avg.npy")
    for options, message in (
        ({"keys": str(arrays / "latin.txt")}, r"latin\.txt is no UTF-8 text"),
        (
            {"keys": str(arrays / "bytes.npy")},
            r"bytes\.npy holds bytes that are no UTF-8 \(.*save the names as strings",
        ),
        ({"labels": str(arrays / "bytes.npy")}, r"bytes\.npy holds bytes that are no UTF-8"),
        ({"keys": avg}, r"avg\.npy holds float32 \(10, 4\); names must be one row of strings"),
        ({"labels": avg}, r"avg\.npy holds float32 \(10, 4\); labels must be one row of whole numbers or names"),
        ({"labels": str(arrays / "none.txt")}, r"none\.txt cannot be read \(No such file"),
        ({"images_dir": str(arrays / "none")}, "--images-dir .*none is no folder"),
        ({"images_dir": str(arrays / "img")}, r"image .*img/00000000 cannot be read \(No such file"),
        ({"readouts": ("a", "b")}, r"avg\.npy is one array and --readout names 2; give one name"),
    ):
        with pytest.raises(DataError, match=message):
            imported(arrays / "x.store", source=avg, **options)


def test_keys_lead_to_no_image_outside_the_folder(arrays):
    for key in ("../keys.txt", "/etc/hostname"):
        (arrays / "odd.txt").write_text("\n".join([key, *KEYS[1:]]))
        with pytest.raises(DataError, match=f"key '{key}' leads out of --images-dir"):
            imported(
                arrays / "x.store",
                source=str(arrays / "avg.npy"),
                keys=str(arrays / "odd.txt"),
                images_dir=str(arrays / "img"),
            )


def test_parquet_output_is_not_written_over_foreign_files(tmp_path):
    store, other = make_store(tmp_path / "x.store"), make_store(tmp_path / "y.store", seed=1)
    out = str(tmp_path / "out.parquet")
    foreign_table(out)
    for overwrite in (False, True):
        with pytest.raises(DataError, match=r"out\.parquet is there and no export of a store; move it away"):
            export_features(str(store.path), out, overwrite=overwrite)
    (tmp_path / "out.parquet").unlink()
    export_features(str(store.path), out)
    with pytest.raises(DataError, match=r"out\.parquet was exported from the store .*, not from .*; use another --out"):
        export_features(str(other.path), out)
    export_features(str(other.path), out, overwrite=True)
    assert pq.read_table(out)["key"].to_pylist() == other.keys
    path = cache.create(tmp_path / "z.store", {"hash": FEATURES}, keys=KEYS)
    with pytest.raises(DataError, match="readout 'hash' has the name of another column; export to a folder"):
        export_features(str(path), str(tmp_path / "z.parquet"))


def test_options_that_make_no_sense():
    with pytest.raises(ConfigError, match="there are no features; name a file"):
        ImportConfig(out="x")
    with pytest.raises(ConfigError, match="FEATURES and --features exclude each other"):
        ImportConfig(out="x", source="a.npy", features={"a": "b.npy"})
    with pytest.raises(ConfigError, match="--dtype is 'float8'; it must be one of float16, float32"):
        ImportConfig(out="x", source="a.npy", dtype="float8")


def test_pyarrow_is_only_needed_for_parquet(arrays, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    imported(arrays / "x.store", source=str(arrays / "avg.npy"))
    (arrays / "t.parquet").write_bytes(io.BytesIO().getvalue())
    with pytest.raises(DataError, match=r"parquet files need pyarrow: pip install tcs-distill\[data\]"):
        imported(arrays / "y.store", source=str(arrays / "t.parquet"))
