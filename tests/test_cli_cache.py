"""`tcs cache` on the command line: what the subcommands print, and how they fail. What they do is tested beside `cache`."""

import json
import pathlib

import numpy as np
import pytest
from artefacts import make_store

import cache
from tcs.cli import main


def tcs(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run `tcs cache` in this process: exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as ended:
        main(["cache", *map(str, arguments)])
    output = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, output.out, output.err


@pytest.fixture
def store(tmp_path: pathlib.Path) -> cache.Store:
    return make_store(tmp_path / "x.store")


def test_pack_and_unpack(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, store: cache.Store) -> None:
    packed, back = tmp_path / "x.h5", tmp_path / "y.store"
    told = f"60 rows, 3 classes, identity {store.identity}.\n"
    assert tcs(capsys, "pack", store.path, "--out", packed) == (0, "", f"{packed}: {told}")
    code, out, err = tcs(capsys, "pack", store.path, "--out", packed, "--json")
    assert code == 0
    assert (json.loads(out)["packed"], json.loads(out)["identity"]) == (True, store.identity)
    assert err.startswith(f"{packed} is finished already; nothing to do (--overwrite makes it anew).\n")
    assert tcs(capsys, "unpack", packed, "--out", back) == (0, "", f"{back}: {told}")
    assert "sound" in tcs(capsys, "verify", packed)[1]
    code, out, err = tcs(capsys, "unpack", back, "--out", tmp_path / "z.store")
    assert (code, out) == (1, "")
    assert err == f"Error: {back} is a folder, so there is nothing to unpack; use it as it is, or copy it.\n"
    code, out, err = tcs(capsys, "pack", packed, "--out", tmp_path / "z.h5")
    assert (code, out, err) == (1, "", f"Error: {packed} is packed already; copy the file.\n")


def test_no_file_is_packed_in_the_place_of_a_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, store: cache.Store
) -> None:
    code, out, err = tcs(capsys, "pack", store.path, "--out", f"{tmp_path}/new/")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"Error: --out is '{tmp_path}/new/', the name of a folder, and a file is written;")
    assert not (tmp_path / "new").exists()


def test_merge(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, store: cache.Store) -> None:
    other, out = make_store(tmp_path / "y.store", seed=1), tmp_path / "z.store"
    code, told, _ = tcs(capsys, "merge", store.path, other.path, "--out", out, "--rows-per-shard", 50, "--json")
    assert (code, json.loads(told)["rows"], json.loads(told)["shards"]) == (0, 120, 3)
    code, _, err = tcs(capsys, "merge", store.path, store.path, "--out", tmp_path / "w")
    assert (code, "--prefix-keys" in err, err.count("\n")) == (1, True, 1)
    assert tcs(capsys, "merge", "--out", tmp_path / "w")[0] == 2


def test_subset(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, store: cache.Store) -> None:
    def subset(name: str, *options: object) -> list[str]:
        code, _, err = tcs(capsys, "subset", store.path, "--out", tmp_path / name, *options)
        assert code == 0, err
        return cache.open(tmp_path / name).keys

    ants = [key for key in store.keys if key.startswith("ant/")]
    assert subset("a", "--class", "ant", "--images", "none", "--readout", "avg") == ants
    (tmp_path / "keys.txt").write_text("\r\n".join([store.keys[9], "", store.keys[4], store.keys[0]]))
    assert subset("b", "--keys", tmp_path / "keys.txt") == [store.keys[0], store.keys[4], store.keys[9]]
    drawn = [store.keys[row] for row in (0, 1, 2, 3)]
    (tmp_path / "split.txt").write_text("".join(f"{key.partition('/')[0]} {key}\n" for key in drawn))
    assert subset("c", "--split-file", tmp_path / "split.txt") == drawn
    assert subset("d", "--split-file", tmp_path / "split.txt", "--keys", tmp_path / "keys.txt") == drawn[:1]
    assert subset("e", "--split-file", tmp_path / "split.txt", "--class", "ant") == [drawn[0], drawn[3]]
    (tmp_path / "other.txt").write_text(store.keys[9])
    (tmp_path / "latin.txt").write_bytes(b"\xe4")
    for options, message in (
        (
            ["--keys", tmp_path / "none.txt"],
            "cannot be read (No such file or directory); name a file with one key a line",
        ),
        (["--keys", tmp_path / "latin.txt"], "is no UTF-8 text"),
        (["--keys", tmp_path / "other.txt", "--split-file", tmp_path / "split.txt"], "have no key in common"),
        (["--class", "dog"], "has no class 'dog'; it has ant, bee, cow.\n"),
    ):
        code, out, err = tcs(capsys, "subset", store.path, "--out", tmp_path / "f", *options)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert message in err
    assert tcs(capsys, "subset", store.path, "--out", tmp_path / "f", "--images", "all")[0] == 2


def test_import_and_export(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, store: cache.Store) -> None:
    for to in (tmp_path / "out", tmp_path / "out.parquet"):
        assert tcs(capsys, "export", store.path, "--out", to) == (0, "", f"{to}: 60 rows.\n")
        code, out, err = tcs(capsys, "import", to, "--out", tmp_path / f"{to.name}.store", "--json")
        assert code == 0, err
        assert (json.loads(out)["rows"], json.loads(out)["classes"]) == (60, ["ant", "bee", "cow"])
    avg = tmp_path / "out" / "avg.npy"
    options = ["--features", f"a={avg}", "--features", f"b={avg}", "--teacher", "mine", "--note", "by=me"]
    code, out, _ = tcs(capsys, "import", *options, "--out", tmp_path / "s", "--dtype", "float16", "--json")
    made_from = json.loads(out)["made_from"]
    assert (code, made_from["teacher"], made_from["notes"]) == (0, "mine", {"by": "me"})
    assert np.array_equal(cache.open(tmp_path / "s").features("b")[:], store.features()[:].astype(np.float16))
    code, out, err = tcs(capsys, "import", "--out", tmp_path / "t")
    assert (code, out, err.startswith("Error: there are no features; name a file")) == (1, "", True)
    for wrong in (["--features", "a"], ["--features", "a=x", "--features", "a=y"], ["--note", "=3"]):
        code, _, err = tcs(capsys, "import", *wrong, "--out", tmp_path / "t")
        assert (code, "must be NAME=VALUE, each name once" in err) == (2, True)


def test_a_finished_command_says_so_and_does_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, store: cache.Store
) -> None:
    cache.pack(store.path, tmp_path / "x.h5")
    other = make_store(tmp_path / "y.store", rows=8, seed=1)
    for name, arguments in {
        "u.store": ["unpack", tmp_path / "x.h5"],
        "m.store": ["merge", store.path, other.path],
        "s.store": ["subset", store.path, "--class", "ant"],
        "e": ["export", store.path],
        "e.parquet": ["export", store.path],
        "i.store": ["import", tmp_path / "e"],
    }.items():
        out, said = (
            tmp_path / name,
            f"{tmp_path / name} is finished already; nothing to do (--overwrite makes it anew).\n",
        )
        code, told, err = tcs(capsys, *arguments, "--out", out, "--json")
        assert (code, said in err) == (0, False), err
        paths = [out] if out.is_file() else sorted(out.iterdir())
        before = [(path.name, path.stat().st_ino, path.stat().st_mtime_ns) for path in paths]
        code, again, err = tcs(capsys, *arguments, "--out", out, "--json")
        assert (code, err.startswith(said), json.loads(again)) == (0, True, json.loads(told))
        assert [(path.name, path.stat().st_ino, path.stat().st_mtime_ns) for path in paths] == before
        assert said not in tcs(capsys, *arguments, "--out", out, "--overwrite")[2]


def test_info_of_an_open_store(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, store: cache.Store) -> None:
    with cache.StoreWriter(tmp_path / "y.store", store.manifest.plan, provenance={}):
        pass
    code, out, err = tcs(capsys, "info", tmp_path / "y.store")
    assert (code, err) == (0, "")
    assert "state\topen: 0 of 2 shards are written; rerun the command that began it\n" in out
    assert tcs(capsys, "info", tmp_path / "none")[0] == 1
