"""The side-by-side benchmarks, once and small, so that they cannot rot."""

import csv
import sys

import numpy as np
import pytest

from benchmarks import gather, turns, writing


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(turns, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def read_rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_contestants_take_turns():
    calls = []
    seconds = turns.seconds_in_turns({name: lambda name=name: calls.append(name) for name in "ab"}, 3)
    assert calls == list("ababab")
    assert [len(seconds[name]) for name in "ab"] == [3, 3]


def test_a_table_compares_inside_each_round():
    table = turns.Table(title="t", unit="rows/s", base="a", values={"a": [1.0, 10.0, 4.0], "b": [2.0, 5.0, 4.0]})
    assert table.ratios("b") == [2.0, 0.5, 1.0]
    assert "| b | 4.00 [2.00 - 5.00] | 3 | 1.00 [0.50 - 2.00] |" in table.markdown()


def test_gather_compares_stores_with_one_map(results, capsys, monkeypatch):
    for package in ("webdataset", "zarr"):
        monkeypatch.setitem(sys.modules, package, None)
    gather.main(["--rows", "600", "--dims", "16", "--batch", "8", "--batches", "40", "--rounds", "2"])
    printed = capsys.readouterr().out
    assert "| store, 16 shards |" in printed
    assert "webdataset is not installed: its row is left out." in printed
    assert "commit" in printed.splitlines()[-2]
    rows = read_rows(results / "gather" / "gather.csv")
    base = [row for row in rows if row["contestant"] == "np.take, one map"]
    assert {float(row["ratio"]) for row in base} == {1.0}
    assert (results / "gather" / "gather.png").read_bytes().startswith(b"\x89PNG")


def test_gather_draws_every_row_once_before_any_twice():
    batches = gather.shuffled(rows=10, size=4, count=5, seed=0)
    assert np.bincount(np.concatenate(batches)).tolist() == [2] * 10


def test_writing_compares_stores_with_plain_files(results, capsys, tmp_path):
    sizes = ["--rows", "40", "--image-rows", "20", "--per-shard", "16", "--dims", "8", "--memory-rows", "30"]
    writing.main([*sizes, "--rounds", "1", "--folders", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "read: " in printed
    rows = read_rows(results / "writing" / "writing.csv")
    assert len({row["table"] for row in rows}) == 3
    assert all(float(row["value"]) > 0 for row in rows)
