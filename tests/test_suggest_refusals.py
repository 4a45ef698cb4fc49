"""Bad input of `tcs suggest`: one line each, and nothing is written."""

import numpy as np
import pytest
from artefacts import make_store
from suggesting import fill_in, run

import tcs
from tcs.errors import ConfigError, DataError
from tcs.labelling.points import points_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suggest")
    make_store(folder / "x.store")
    return folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "--n is 0; it must be 1 or more"),
        ({"sheet": "s.gif"}, r"--sheet is 's.gif'; its name must end in one of \.png, \.jpg, \.jpeg"),
        ({"data": "images"}, "--data has no effect without --sheet or --folder"),
        ({"folder": "out.csv"}, "--out, --sheet and --folder name the same place"),
        ({"labelled": "out.csv"}, "--labelled out.csv would be written over; name another output"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        tcs.SuggestConfig(**{"store": "x.store", "n": 2, "out": "out.csv", **options})


def test_more_images_than_there_are_is_refused(folder, tmp_path):
    with pytest.raises(DataError, match=r"n is 61, and .*x\.store has 60 rows; ask for 60 or fewer"):
        run(folder, tmp_path / "out.csv", n=61)
    run(folder, tmp_path / "first.csv", n=4)
    labelled = fill_in(tmp_path / "first.csv", tmp_path / "labels.csv")
    with pytest.raises(DataError, match=r"n is 57, .* 60 rows; 4 of them have a class in .*; ask for 56 or fewer"):
        run(folder, tmp_path / "out.csv", n=57, labelled=labelled)


def test_a_file_that_labels_everything_leaves_nothing_to_suggest(folder, tmp_path):
    run(folder, tmp_path / "all.csv", n=60)
    labelled = fill_in(tmp_path / "all.csv", tmp_path / "labels.csv")
    with pytest.raises(DataError, match=r"each of the 60 rows of .* has a class in .*; nothing is left to label"):
        run(folder, tmp_path / "out.csv", n=1, labelled=labelled)


def test_a_fully_labelled_store_is_no_obstacle_and_unknown_keys_are(folder, tmp_path):
    (tmp_path / "labels.csv").write_text("key,rank,reason,class\nant/0-0000.pgn,1,,ant\n")
    with pytest.raises(
        DataError, match=r"line 2 names 'ant/0-0000.pgn', which the store lacks\. Did you mean ant/0-00"
    ):
        run(folder, tmp_path / "out.csv", labelled=tmp_path / "labels.csv")
    with pytest.raises(DataError, match=r"none\.csv cannot be read \(No such file or directory\); check labelled"):
        run(folder, tmp_path / "out.csv", labelled=tmp_path / "none.csv")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_named(value):
    """`cache` writes no such row; a store of an earlier release or a bad disk may hold one."""
    features_ND = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    features_ND[7, 2] = value
    with pytest.raises(DataError, match="row 7 of the features holds NaN or Inf"):
        points_of(features_ND)
