"""Exports that were cut short, damaged or changed: what is refused, and what replaced."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from artefacts import make_store

import cache
from tcs.config.exchange import ImportConfig
from tcs.errors import DataError
from tcs.exchange.features import export_features, import_features


def imported(path, **options):
    return cache.open(import_features(ImportConfig(out=str(path), **options)))


def test_an_export_that_was_cut_short_is_not_imported(tmp_path):
    out = export_features(str(make_store(tmp_path / "x.store").path), str(tmp_path / "out"))
    about = json.loads((out / "store.json").read_bytes())
    (out / "store.json").write_text(json.dumps(about | {"state": "open"}))
    with pytest.raises(DataError, match="out was not finished: run the export again"):
        imported(tmp_path / "y.store", source=str(out))


def test_a_damaged_export_is_one_line(tmp_path):
    store = make_store(tmp_path / "x.store", images="none")
    out = tmp_path / "out.parquet"
    export_features(str(store.path), str(out))
    table = pq.read_table(out)
    metadata = table.schema.metadata
    hashes = pa.array(["zz"] * len(table))
    pq.write_table(table.set_column(3, "hash", hashes).replace_schema_metadata(metadata), out)
    with pytest.raises(DataError, match=r"column 'hash' of .* holds other things than 32 hexadecimal digits a row"):
        imported(tmp_path / "y.store", source=str(out))


@pytest.mark.parametrize(
    "about",
    [
        {"readouts": {"avg": [2]}},
        {"readouts": {"avg": {"shape": "ab"}}},
        {"readouts": {"avg": {"shape": [24.0]}}},
        {"readouts": {"avg": {"shape": [-4, -6]}}},
        {"readouts": {"avg": {"shape": 24}}},
        {"made_from": [1]},
        {"provenance": "x"},
        {"classes": 5},
        {"classes": [1, 2]},
    ],
)
def test_metadata_that_somebody_changed_are_not_believed(tmp_path, about):
    store = make_store(tmp_path / "x.store", images="none")
    out = export_features(str(store.path), str(tmp_path / "out.parquet"))
    table = pq.read_table(out)
    told = json.loads(table.schema.metadata[b"tcs"])
    pq.write_table(table.replace_schema_metadata({b"tcs": json.dumps(told | about)}), out)
    back = imported(tmp_path / "y.store", source=str(out))
    assert (back.keys, back.classes) == (store.keys, store.classes)
    assert np.array_equal(back.features()[:], store.features()[:])


@pytest.mark.parametrize("readouts", [5, [1], None, {"../avg": {}}])
def test_an_export_with_changed_readouts_is_replaced(tmp_path, readouts):
    store = make_store(tmp_path / "x.store")
    (tmp_path / "avg.npy").write_bytes(b"somebody's")
    out = export_features(str(store.path), str(tmp_path / "out"))
    about = json.loads((out / "store.json").read_bytes())
    (out / "store.json").write_text(json.dumps(about | {"readouts": readouts}))
    export_features(str(store.path), str(out), overwrite=True)
    assert json.loads((out / "store.json").read_bytes()) == about
    assert (tmp_path / "avg.npy").read_bytes() == b"somebody's"
