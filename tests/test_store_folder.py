"""Whose folder it is: what --overwrite deletes, and what is never touched."""

import numpy as np
import pytest

import cache
from cache import errors


def make_plan(rows_per_shard=2):
    return cache.Plan(
        identity={"teacher": "a"},
        readouts=(cache.Readout(name="avg", dims=2, dtype="float32"),),
        keys=tuple("abcde"),
        labels=(-1,) * 5,
        classes=(),
        images="none",
        rows_per_shard=rows_per_shard,
        batch_size=2,
    )


def write(path, plan, overwrite=False):
    with cache.StoreWriter(path, plan, provenance={}, overwrite=overwrite) as writer:
        for index in writer.pending():
            positions_N = np.array(plan.positions(index))
            count = len(positions_N)
            features = {"avg": np.zeros((count, 2), np.float32)}
            hashes_N16 = np.zeros((count, 16), np.uint8)
            writer.write_shard(
                index, cache.ShardRows(positions_N=positions_N, hashes_N16=hashes_N16, features=features)
            )
        return writer.close()


def shard_files(path):
    return {file.name: file.read_bytes() for file in path.glob("shard-*.h5") if file.is_file()}


def test_overwrite_replaces_a_store_of_another_identity(tmp_path):
    path = tmp_path / "x.store"
    write(path, make_plan(rows_per_shard=1))
    write(path, make_plan(), overwrite=True)
    assert sorted(shard_files(path)) == [f"shard-0000{i}.h5" for i in range(3)]
    assert '"rows_per_shard": 2' in (path / "manifest.json").read_text()


def test_overwrite_takes_away_a_store_of_an_unknown_version(tmp_path):
    path = tmp_path / "x.store"
    write(path, make_plan())
    text = (path / "manifest.json").read_text().replace('"format_version": 2', '"format_version": 7')
    (path / "manifest.json").write_text(text)
    with pytest.raises(
        errors.FormatVersionError, match="format version 7; this release reads 1, 2 and 3; upgrade or re-extract"
    ):
        cache.StoreWriter(path, make_plan(), provenance={})
    assert write(path, make_plan(), overwrite=True).state == "closed"


@pytest.mark.parametrize("foreign", ["notes.txt", "shard-1.h5", "shard-00009.h5/", "photos/"])
def test_overwrite_deletes_nothing_where_a_foreign_file_lies(tmp_path, foreign):
    path = tmp_path / "x.store"
    write(path, make_plan())
    (path / foreign).mkdir() if foreign.endswith("/") else (path / foreign).write_text("mine")
    before = shard_files(path)
    with pytest.raises(errors.ForeignFolderError, match=f"holds {foreign.rstrip('/')}, which no feature store wrote"):
        cache.StoreWriter(path, make_plan(), provenance={}, overwrite=True)
    assert (path / foreign).exists()
    assert shard_files(path) == before


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("content", ["photo.png", "shard-00000.h5", "manifest.json"])
def test_a_folder_without_our_manifest_is_never_touched(tmp_path, overwrite, content):
    (tmp_path / content).write_text('{"format": "another"}')
    with pytest.raises(errors.ForeignFolderError, match=r"is not empty \(.*\) and has no manifest.json of a feature"):
        cache.StoreWriter(tmp_path, make_plan(), provenance={}, overwrite=overwrite)
    assert [file.name for file in tmp_path.iterdir()] == [content]


def test_a_path_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "x.store").write_text("mine")
    with pytest.raises(errors.ForeignFolderError, match="is a file; a store is a folder, so name another --out"):
        cache.StoreWriter(tmp_path / "x.store", make_plan(), provenance={}, overwrite=True)
    with pytest.raises(errors.StoreWriteError, match="Not a directory; make the folder writable"):
        cache.StoreWriter(tmp_path / "x.store" / "y.store", make_plan(), provenance={})
