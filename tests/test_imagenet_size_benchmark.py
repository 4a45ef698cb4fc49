"""The benchmark of growth, once and small, so that it cannot rot. N rows, D dims."""

import subprocess

import numpy as np

import cache
from benchmarks import growth, imagenet_size
from benchmarks.imagenet_size import RandomRows, Size, run_stage, write_stores
from tcs.plain_files import load_table

TINY = ["--rows", "300", "--dims", "8", "--classes", "3", "6", "--shares", "0.5", "1"]


def test_rows_are_the_same_whenever_they_are_read():
    rows = RandomRows(rows=50, dims=4, classes=5, part=0)
    assert rows[0:20].tolist() == rows[0:20].tolist() != rows[20:40].tolist()
    assert rows[40:60].shape == (10, 4)
    other = RandomRows(rows=50, dims=4, classes=5, part=1)
    assert rows[0:20].tolist() != other[0:20].tolist()


def test_a_store_is_what_was_drawn(tmp_path):
    write_stores(Size(rows=60, dims=4, classes=5, folder=str(tmp_path)))
    store = cache.open(tmp_path / "train.store")
    expected_ND = RandomRows(rows=60, dims=4, classes=5, part=0)[0:60]
    np.testing.assert_array_equal(store.features()[:], expected_ND)
    assert np.bincount(store.labels_N).tolist() == [12] * 5
    assert not set(store.keys) & set(cache.open(tmp_path / "test.store").keys)


def test_every_stage_has_a_colour_of_its_own():
    assert len(set(growth.COLOURS)) == len(growth.COLOURS) == len(imagenet_size.STAGES) + 1


def test_memory_of_several_commits_is_not_joined():
    facts = [(30, "3.0", "900", "b"), (10, "1.0", "700", "a"), (20, "0.0", "800", "a"), (40, "4.0", "", "b")]
    rows = [dict(zip(("rows", "seconds", "peak_mib", "commit"), fact, strict=True)) for fact in facts]
    assert growth.lines_of(rows, "seconds", apart=False) == [[(10, 1.0), (30, 3.0), (40, 4.0)]]
    assert growth.lines_of(rows, "peak_mib", apart=True) == [[(10, 700.0), (20, 800.0)], [(30, 900.0)]]


def test_the_figure_has_one_legend_that_names_every_stage(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(growth, "save_figure", lambda figure, path: drawn.append(figure))
    growth.draw(
        load_table(imagenet_size.OUT / "imagenet-size.csv"), ("write", *imagenet_size.STAGES), tmp_path / "x.png"
    )
    (legend,) = drawn[0].legends
    named = [text.get_text() for text in legend.get_texts()]
    assert named == [
        "write",
        *(stage for stage in imagenet_size.STAGES if stage != "transductive probe"),
    ]  # not measured


def test_stages_are_rows_of_a_table_that_grows(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(
        imagenet_size, "in_a_process", lambda size, stage, limit: (asked.append(stage), run_stage(size, stage))[1]
    )
    given = [*TINY, "--folder", str(tmp_path / "scratch"), "--out", str(tmp_path / "out")]
    imagenet_size.main([*given, "--stages", "open", "split", "held-out"])
    rows = load_table(tmp_path / "out" / "imagenet-size.csv")
    assert [(row["rows"], row["classes"], row["stage"]) for row in rows] == [
        (count, classes, stage)
        for count in ("150", "300")
        for classes in ("3", "6")
        for stage in ("write", "open", "split", "held-out")
    ]
    assert all(float(row["peak_mib"]) > 10 for row in rows if row["stage"] != "write")
    assert (tmp_path / "out" / "imagenet-size.png").read_bytes().startswith(b"\x89PNG")
    assert list((tmp_path / "scratch").iterdir()) == []
    asked.clear()
    imagenet_size.main([*given, "--stages", "split", "kd probe"])
    assert asked == ["kd probe"] * 4


def test_a_stage_over_its_limit_has_no_row_and_is_tried_again(tmp_path, monkeypatch, capsys):
    limits = []

    def endless(command, *, timeout, **_options):
        limits.append(timeout)
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(imagenet_size.subprocess, "run", endless)
    left = tmp_path / "scratch" / "1-3" / "train.store"  # by a run that was killed
    left.mkdir(parents=True)
    (left / "manifest.json").write_text("half")
    given = [
        "--rows",
        "30",
        "--dims",
        "8",
        "--classes",
        "3",
        "--shares",
        "1",
        "--stages",
        "open",
        "--limit-seconds",
        "7",
    ]
    for _ in range(2):
        imagenet_size.main([*given, "--folder", str(tmp_path / "scratch"), "--out", str(tmp_path / "out")])
    assert limits == [7.0, 7.0]
    assert [row["stage"] for row in load_table(tmp_path / "out" / "imagenet-size.csv")] == ["write"]
    assert "open of 30 rows took longer than 7 s and was ended; it has no row in the table." in capsys.readouterr().err
