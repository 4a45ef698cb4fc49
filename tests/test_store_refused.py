"""What the reader refuses at opening: the stored example of version 1 with one thing changed, and what is no store."""

import json
import shutil
from pathlib import Path

import pytest

import cache
from cache import errors

EXAMPLE = Path(__file__).parent / "fixtures" / "store_v1"


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
