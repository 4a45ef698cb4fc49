"""Predictions of the cells: read by their key, counted by class, hard images found; broken files named."""

import numpy as np
import pytest
from grid_folders import grid_row, usual_rows, write_predictions, write_rows

import cache
from tcs.errors import ArtefactError
from tcs.reporting.predicted import confusion, hardest, load_predictions
from tcs.reporting.results import load_runs
from tcs.reporting.rows import PREDICTIONS, cell_digest


@pytest.fixture
def folder(tmp_path):
    rows = [grid_row("vit", "kd", 1, seed, 50.0) for seed in (0, 1)]
    write_predictions(write_rows(tmp_path, rows), images=8)
    return tmp_path


def load(folder):
    return load_predictions(folder, load_runs(folder))


def test_a_cell_is_found_by_its_key(folder):
    run = load_runs(folder)[0]
    assert cell_digest(run.key) == cache.digest_of_json(["", "vit", "kd", "1", "0", "none"])[:16]
    found = load(folder)[""]
    assert found.top1_SN.shape == (2, 8)
    assert found.hits().mean() == 0.5
    assert found.test.classes == ("ant", "bee", "cow", "doe")


def test_confusion_counts_every_cell(folder):
    # Images 0 to 3 (a class each) are right, 4 to 7 taken for the next class; two cells.
    assert confusion(load(folder)[""]).tolist() == [[2, 2, 0, 0], [0, 2, 2, 0], [0, 0, 2, 2], [2, 0, 0, 2]]


def test_hard_images_are_those_that_few_get_right_then_those_that_cost_most(folder):
    images = hardest(load(folder)[""], 3)
    assert [image.key for image in images] == ["doe/7.png", "cow/6.png", "bee/5.png"]
    assert (images[0].truth, images[0].taken_for, images[0].right) == ("doe", "ant", 0)
    assert len(hardest(load(folder)[""], 99)) == 4  # what all get right is not hard


def test_cells_without_likelihoods_leave_the_order_to_the_others_or_to_the_place(folder):
    run = load_runs(folder)[0]
    path = folder / PREDICTIONS / f"{cell_digest(run.key)}.npz"
    with np.load(path) as file:
        np.savez(path, top1_N=file["top1_N"], test=file["test"])
    found = load(folder)[""]
    assert np.isnan(found.nll_SN).all(axis=1).tolist() == [True, False]
    assert [image.key for image in hardest(found, 2)] == ["doe/7.png", "cow/6.png"]  # by the cell that has them
    alone = found.chosen([run])
    assert alone is not None
    assert [image.key for image in hardest(alone, 2)] == ["ant/4.png", "bee/5.png"]


def test_what_is_not_there_is_left_out(folder):
    run = load_runs(folder)[1]
    (folder / PREDICTIONS / f"{cell_digest(run.key)}.npz").unlink()
    assert len(load(folder)[""].runs) == 1
    assert load(folder)[""].chosen([run]) is None
    (folder / PREDICTIONS / "test-t1.npz").unlink()
    assert load(folder) == {}


def test_data_sets_are_apart(tmp_path):
    folder = write_rows(tmp_path, usual_rows(seeds=1, datasets=("a", "b")))
    write_predictions(folder)
    assert {name: len(found.runs) for name, found in load(folder).items()} == {"a": 8, "b": 8}


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        (
            {"top1_N": np.zeros(7, np.int16), "test": np.array("t1")},
            "does not hold an answer for each of the 8 test images",
        ),
        (
            {"top1_N": np.full(8, 4, np.int16), "test": np.array("t1")},
            "does not hold an answer for each of the 8 test images",
        ),
        ({"top1_N": np.zeros(8, np.int16)}, "lacks test"),
        ({"top1_N": np.array([None] * 8), "test": np.array("t1")}, "cannot be read"),  # a pickle, which is not loaded
    ],
)
def test_broken_predictions_are_named_with_the_remedy(folder, arrays, told):
    path = folder / PREDICTIONS / f"{cell_digest(load_runs(folder)[0].key)}.npz"
    np.savez(path, **arrays)
    with pytest.raises(
        ArtefactError, match=rf"{path.name} {told}.*; remove {path.name}, and the report does without it\."
    ):
        load(folder)


def test_a_torn_file_is_named(folder):
    path = folder / PREDICTIONS / f"{cell_digest(load_runs(folder)[0].key)}.npz"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ArtefactError, match="cannot be read"):
        load(folder)
