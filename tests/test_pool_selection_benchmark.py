"""The benchmark of selections, once and small, so that it cannot rot."""

import pytest
from artefacts import make_store
from tables import read_rows

from benchmarks import pool_selection


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """A training store alone: no test store is ever opened."""
    folder = tmp_path_factory.mktemp("stores")
    make_store(folder / "ants-train.store", rows=240, images="none", dims=40)
    return folder / "ants"


def run(stores, out):
    pool_selection.main([str(stores), "--out", str(out), "--shots", "1", "4", "--seeds", "2"])
    return read_rows(out)


def test_every_set_of_every_split_is_scored_and_a_rerun_adds_none(stores, tmp_path, capsys):
    rows = run(stores, tmp_path / "selection.csv")
    kinds = [(row["set"], row["size"]) for row in rows if (row["shots"], row["seed"]) == ("1", "100")]
    fixed = [("all", "40"), *((kind, size) for size in ("16", "32") for kind in ("first", "shots", "pool"))]
    assert kinds[:7] == fixed
    assert [kind for kind, _ in kinds[7:]] == ["chosen", "first, as many"]
    assert kinds[7][1] == kinds[8][1]
    assert len(rows) == 2 * 2 * len(kinds)
    assert {row["seed"] for row in rows} == {"100", "101"}
    assert {(row["pool_n"], row["test_n"]) for row in rows} == {("180", "60")}
    assert all(50 < float(row[name]) <= 100 for row in rows for name in ("pool_top1", "shots_top1"))
    table = capsys.readouterr().out
    assert run(stores, tmp_path / "selection.csv") == rows
    assert capsys.readouterr().out == table
    assert table.splitlines()[0] == "| | all | K = 16 | K = 32 | chosen K |"


def test_cells_are_means_over_the_splits_of_one_data_set_and_shots():
    about = {"dataset": "ants", "shots": "1"}
    values = {"all": (90, 92), "first": (70, 74), "pool": (80, 82), "chosen": (88, 90), "first, as many": (85, 86)}
    sizes = {"first": 16, "pool": 16, "chosen": (20, 30), "first, as many": (20, 30), "all": 40}
    rows = [
        about
        | {
            "seed": str(100 + split),
            "set": kind,
            "size": sizes[kind][split] if isinstance(sizes[kind], tuple) else sizes[kind],
            "pool_top1": pair[split],
        }
        for kind, pair in values.items()
        for split in range(2)
    ]
    other = [row | {"shots": "4", "pool_top1": 0} for row in rows]
    line = pool_selection.table_of([*rows, *other])[2]
    assert line == "| ants, 1 | 91.0 | 72.0 -> 81.0 | 85.5 -> 89.0 (K 20 to 30) |"
