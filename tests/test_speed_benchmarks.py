"""The side-by-side benchmarks, once and small, so that they cannot rot."""

import itertools
import pathlib
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image
from tables import read_rows

from benchmarks import (
    augmentation,
    decoding,
    extraction,
    gather,
    scaled_decoding,
    scaled_drawings,
    skew_exponential,
    start_up,
    step_parts,
    turns,
    writing,
)


def test_contestants_take_turns():
    calls = []
    seconds = turns.seconds_in_turns({name: lambda name=name: calls.append(name) for name in "ab"}, 3)
    assert calls == list("ababab")
    assert [len(seconds[name]) for name in "ab"] == [3, 3]


def test_a_table_compares_inside_each_round():
    table = turns.Table(title="t", unit="rows/s", base="a", values={"a": [1.0, 10.0, 4.0], "b": [2.0, 5.0, 4.0]})
    assert table.ratios("b") == [2.0, 0.5, 1.0]
    assert "| b | 4.00 [2.00 - 5.00] | 3 | 1.00 [0.50 - 2.00] |" in table.markdown()


def test_drawings_change_most_by_scaled_decoding(results, monkeypatch):
    monkeypatch.setattr(scaled_drawings, "PAGES", 1)
    monkeypatch.setattr(scaled_drawings, "SIZES", (64,))
    scaled_drawings.main()
    rows = read_rows(results / "scaled-decoding" / "drawings.csv")
    assert [(row["kind"], row["px"]) for row in rows] == [("text", "64"), ("coloured lines", "64")]
    for row in rows:  # of photographs it is 0.44 and 14
        assert 1 < float(row["mean"]) == float(row["mean_most"]) < int(row["greatest"])


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


@pytest.fixture
def a_second_each(monkeypatch):
    """Every turn of a contestant takes a second by the clock, so that speeds are amounts."""
    monkeypatch.setattr(turns, "time", types.SimpleNamespace(perf_counter=itertools.count().__next__))


def test_writing_compares_stores_with_plain_files(results, capsys, tmp_path, a_second_each):
    sizes = ["--rows", "40", "--image-rows", "20", "--per-shard", "16", "--dims", "8", "--memory-rows", "30"]
    writing.main([*sizes, "--rounds", "1", "--folders", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "read: " in printed
    rows = read_rows(results / "writing" / "writing.csv")
    tables = {row["table"]: [other for other in rows if other["table"] == row["table"]] for row in rows}
    features, images, memory = tables.values()
    contestants = ["plain files", "store", "store, behind", "two digests, nothing written"]
    for table, least_bytes in ((features, 40 * 8 * 2), (images, 20 * (8 * 2 + writing.IMAGE_BYTES))):
        assert [row["contestant"] for row in table] == contestants
        (megabytes,) = {float(row["value"]) for row in table}  # in a second of the clock here: all write the same bytes
        assert least_bytes <= 1e6 * megabytes <= least_bytes + 100_000
    assert [row["contestant"] for row in memory] == [
        f"{what} {n} rows" for what in ("write", "read") for n in (30, 300)
    ]
    assert all(15 < float(row["value"]) < 3000 for row in memory)  # an interpreter with numpy and h5py


def test_augmentation_compares_a_batch_with_image_after_image(results, capsys, a_second_each):
    augmentation.main(["--setting", "16x3", "--setting", "64x2", "--rounds", "1", "--threads", "1"])
    assert "| resized crop, flip, colours, grey, erasing: 2 images, 73 to 64 px, cpu |" in capsys.readouterr().out
    rows = read_rows(results / "augmentation" / "augmentation.csv")
    assert len({row["table"] for row in rows}) == 6
    assert {row["contestant"] for row in rows} == {
        "Pillow, image by image",
        "torchvision v2, image by image",
        "torchvision v2, one draw a batch",
        "tcs, the batch at once",
        "tcs, pad, crop and flip in turn",
    }
    assert len(rows) == 6 * 4 + 2
    for row in rows:  # images in a second of the clock here
        assert f": {float(row['value']):.0f} images, " in row["table"]
        assert (row["unit"], float(row["ratio"])) == ("images/s", 1.0)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, size in enumerate([(300, 260), (270, 400), (256, 256)]):
        noise = np.random.default_rng(number).integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize(size).save(folder / f"{number}.jpg")
    return folder


@pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning")  # restores the filters as well
def test_decoding_compares_speeds_and_pixels(results, photos, capsys, monkeypatch):
    monkeypatch.setattr(decoding, "MODELS", ("mean",))
    monkeypatch.setattr(decoding.timm, "create_model", lambda *_, **__: Mean())
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    decoding.main([str(photos), "--rounds", "1"])
    printed = capsys.readouterr().out
    assert f"| {decoding.BASE} | 0, 0.0000 | 100% | 0, 0.0000 | 0.0e+00 |" in printed
    assert "| torchvision, timm's transform | 0, 0.0000 | 100% |" in printed
    assert len({row["contestant"] for row in read_rows(results / "decoding" / "decoding.csv")}) == 6


def test_scaled_decoding_compares_speeds_and_tells_what_changes(results, photos, capsys, monkeypatch):
    monkeypatch.setattr(scaled_decoding, "time", types.SimpleNamespace(process_time=itertools.count().__next__))
    monkeypatch.setattr(scaled_decoding, "TILE", (256, 256))
    monkeypatch.setattr(scaled_decoding, "MOSAICS", ((3, 2),))
    scaled_decoding.main([str(photos), "--rounds", "2", "--large", "1", "--sizes", "40", "150"])
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines()]
    changes = [line for line in lines if len(line) == 4 and " MP, " in line[0] and "images/s" not in line[1]]
    assert [line[0].partition(", ")[0] for line in changes] == ["| 3 photographs"] * 2 + ["| 1 mosaics of 3 x 2"] * 2
    assert [float(line[1]) > 0 for line in changes] == [
        True,
        False,
        True,
        False,
    ]  # a half of 256 or 512 is too small for 150
    (chosen,) = [[float(cell.strip(" |")) for cell in line[1:]] for line in lines if line[0] == "| 3 at 40 px"]
    assert chosen[2] <= chosen[0] < chosen[1]
    assert chosen[3] == chosen[0]  # sides of these photographs are even: there is nothing to round
    rows = read_rows(results / "scaled-decoding" / "scaled-decoding.csv")
    assert [row["contestant"] for row in rows] == ["whole", "whole", "scaled", "scaled"] * 4
    assert {float(row["ratio"]) for row in rows} == {1.0}


class Mean(torch.nn.Module):
    """A model of one line."""

    def forward(self, images_B3HW):
        return images_B3HW.mean(dim=(2, 3))


@pytest.mark.parametrize("keep", ["original", "resized:64", "none"])
def test_extraction_says_where_the_time_goes(results, photos, capsys, keep):
    options = ["--teacher", "test_vit", "--images", "9", "--batch-size", "8", "--workers", "1", "--rounds", "1"]
    extraction.main([str(photos), *options, "--keep", keep])
    assert "commit" in capsys.readouterr().out
    rows = read_rows(results / "extraction" / "extraction.csv")
    steps = {row["contestant"]: float(row["value"]) for row in rows if "where the time goes" in row["table"]}
    assert steps["all steps"] == pytest.approx(sum(steps.values()) / 2, rel=1e-3)
    assert ("shrink what is kept" in steps) == (keep == "resized:64")
    passes = [row["contestant"] for row in rows if "where the time goes" not in row["table"]]
    assert passes == ["loader + forward", "extract", "forward"]


def test_parts_of_a_step_are_compared_with_what_they_were(results, capsys, monkeypatch):
    monkeypatch.setattr(step_parts, "CALLS", 20)
    monkeypatch.setattr(step_parts, "BATCHES", ((4, 8),))
    step_parts.main(["--rounds", "1"])
    rows = read_rows(results / "step-parts" / "step-parts.csv")
    assert [(row["table"], row["contestant"]) for row in rows] == [
        (table, way) for table in ("seeding", "inputs, 4 images of 8 px") for way in ("before", "now")
    ]
    assert float(rows[1]["ratio"]) < 1


def test_the_exponential_is_held_against_what_it_was(results, capsys, monkeypatch):
    monkeypatch.setattr(skew_exponential, "WIDTHS", ((2, 12), (5, 12), (12, 12)))
    skew_exponential.main(["--rounds", "1"])
    rows = read_rows(results / "skew-exponential" / "skew-exponential.csv")
    assert [row["contestant"] for row in rows] == ["before", "now"] * 3
    monkeypatch.setattr(skew_exponential, "expm0", lambda raw: 2 * skew_exponential.before(raw))
    with pytest.raises(AssertionError, match=r"^0\.|^1"):
        skew_exponential.main(["--rounds", "1"])


def test_the_old_seeding_drew_what_own_randomness_draws():
    drawn = []
    before = torch.get_rng_state()
    for own in (step_parts.seeded_everywhere, step_parts.own_randomness):
        with own(3, torch.device("cpu")):
            drawn.append(torch.rand(3).tolist())
    assert drawn[0] == drawn[1]
    assert torch.equal(torch.get_rng_state(), before)


def test_short_commands_are_held_against_their_bound(results, capsys, tmp_path, monkeypatch):
    calls = []
    (tmp_path / "grid").mkdir()
    (tmp_path / "grid" / "results.csv").write_text("titles\na row\nanother\n")
    clock = itertools.accumulate(itertools.cycle([0.0, 0.25]))
    monkeypatch.setattr(start_up, "children_seconds", lambda: next(clock))
    monkeypatch.setattr(start_up.subprocess, "run", lambda command, **options: calls.append(command[3:]))
    start_up.main([str(tmp_path / "grid"), "--rounds", "2"])
    assert [call[0] for call in calls] == ["methods", *["report"] * 4] * 2
    assert [pathlib.Path(call[3]).name for call in calls[1:5]] == [
        "report.md",
        "report.html",
        "report.svg",
        "report.csv",
    ]
    assert "0.25 s; the bound of 1 s is kept." in capsys.readouterr().out
    rows = read_rows(results / "start-up" / "start-up.csv")
    assert {(row["table"], float(row["value"])) for row in rows} == {("grid, 2 rows", 0.25)}
    slow = turns.Table(title="t", unit="s", base="a", values={"a": [0.5], "b": [1.5]})
    assert start_up.verdict([slow]) == "- The longest: b of t, 1.50 s; the bound of 1 s is NOT kept."
