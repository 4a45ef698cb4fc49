"""Accuracy with and without scaled decoding: pairs of one seed, rows that are made once, and a run of each, small."""

import pathlib

import numpy as np
import pytest
from PIL import Image
from tables import read_rows

from benchmarks import scaled_accuracy
from benchmarks.scaled_accuracy import differences, main, summary
from tcs.reporting.intervals import t_interval


@pytest.fixture
def photos(tmp_path: pathlib.Path) -> pathlib.Path:
    """Two classes of noise, 40 pixels the shorter side: a half of it is enough for frames of 10."""
    for split, count in (("train", 4), ("test", 2)):
        for number in range(2 * count):
            place = tmp_path / "noise" / split / f"class{number % 2}"
            place.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 256, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{number}.jpg")
    return tmp_path / "noise"


def rows_of(top1: dict[tuple[str, str, int], float], px: str = "32") -> list[dict[str, str]]:
    return [
        {"data": data, "px": px, "way": way, "seed": f"{seed}", "top1": f"{value}"}
        for (data, way, seed), value in top1.items()
    ]


def test_differences_are_paired_by_seed():
    whole, scaled = (50.0, 60.0, 70.0), (51.0, 60.0, 74.0)
    rows = rows_of({("a", way, s): v for way, vs in (("whole", whole), ("scaled", scaled)) for s, v in enumerate(vs)})
    expected = t_interval([1.0, 0.0, 4.0])
    assert differences(rows) == {("a", "32"): expected, ("mean of all", ""): expected}
    assert f"| a | 32 | +1.7 ± {expected.half:.1f} (3) |" in summary(rows)


def test_a_seed_that_one_place_lacks_is_in_no_mean_of_all():
    rows = rows_of({("a", "whole", 0): 50, ("a", "scaled", 0): 51, ("a", "whole", 1): 50, ("a", "scaled", 1): 59})
    rows += rows_of({("b", "whole", 0): 50, ("b", "scaled", 0): 53})
    assert differences(rows)["mean of all", ""] == t_interval([2.0])
    assert differences(rows_of({("a", "whole", 0): 50}))["a", "32"] is None


def test_both_ways_are_trained_and_scored(photos, tmp_path, capsys):
    out = tmp_path / "a.csv"
    main([str(photos), "--frames", "10", "--seeds", "1", "--steps", "1", "-b", "4", "--out", str(out)])
    rows = read_rows(out)
    assert [(row["data"], row["px"], row["way"], row["seed"], row["divisor"]) for row in rows] == [
        ("noise", "10", way, "0", "2") for way in ("whole", "scaled")
    ]
    assert all(0 <= float(row["top1"]) <= 100 for row in rows)
    said = capsys.readouterr()
    assert "is scored so: on large JPEGs at a half" in said.err
    assert "| noise | 10 |" in said.out


def test_rows_that_are_there_are_not_made_again_and_pairs_differ_in_the_decoding_alone(photos, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(scaled_accuracy, "top1", lambda config, test: asked.append(config) or 50.0)
    given = [str(photos), "--frames", "10", "--out", str(tmp_path / "a.csv"), "--seeds"]
    main([*given, "1"])
    main([*given, "2"])
    assert [(config.seed, config.augment.scaled_decoding) for config in asked] == [
        (0, False),
        (0, True),
        (1, False),
        (1, True),
    ]
    whole, scaled = (config.options() | {"out": "", "scaled_decoding": None} for config in asked[:2])
    assert whole == scaled
    assert len(read_rows(tmp_path / "a.csv")) == 4
