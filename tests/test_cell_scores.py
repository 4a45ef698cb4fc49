"""How a cell is scored: metrics, copies of training images and predictions, against slow references. M images, C classes."""

import csv

import numpy as np
import pytest
import yaml
from artefacts import make_store
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.neighbors import KNeighborsClassifier

import cache
from tcs.config.evaluate import FewshotConfig
from tcs.grid.answers import Answers
from tcs.grid.cell_splits import split_of_cell
from tcs.grid.copies import CopyFinder
from tcs.grid.costs import online_teacher_seconds
from tcs.grid.recipe import plan_cells
from tcs.grid.recipe_file import load_grid
from tcs.grid.references import answer_reference
from tcs.grid.run import fewshot
from tcs.grid.scoring import Scorer
from tcs.metrics import balanced_accuracy
from tcs.reporting.rows import CELL_KEY

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"


@pytest.fixture
def folder(tmp_path):
    make_store(tmp_path / "train.store")
    make_store(tmp_path / "test.store", seed=9, rows=30)
    return tmp_path


def recipe_of(folder, **changes):
    recipe = {
        "train": str(folder / "train.store"),
        "test": str(folder / "test.store"),
        "students": [STUDENT],
        "methods": ["labels"],
        "shots": [2],
        "seeds": [0],
        "references": ["teacher-probe", "teacher-knn", "teacher-centroids", "teacher-all-labels"],
        "options": {"img_size": 16, "steps": 2, "batch_size": 6},
    } | changes
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in recipe.items() if value is not None}))
    return path


def run(folder, **changes):
    """The rows by method, and the cells."""
    path = recipe_of(folder, **changes)
    assert fewshot(FewshotConfig(recipe=str(path), out=str(folder / "grid"))) == 0
    with (folder / "grid" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return rows, {cell.key: cell for cell in plan_cells(load_grid(path))}


def made(images=400, classes=5, seed=0):
    """Logits (M, C) and labels, of which one class has no image."""
    rng = np.random.default_rng(seed)
    labels_M = rng.choice(classes - 1, images, p=[0.6, 0.2, 0.15, 0.05])
    return rng.standard_normal((images, classes)) + 1.5 * np.eye(classes)[labels_M], labels_M


def slow_ece(shares_MC, labels_M, bins=15):
    total = 0.0
    for number in range(bins):
        inside = [row for row in range(len(labels_M)) if number / bins < shares_MC[row].max() <= (number + 1) / bins]
        if inside:
            hits = np.mean([shares_MC[row].argmax() == labels_M[row] for row in inside])
            total += len(inside) / len(labels_M) * abs(hits - np.mean([shares_MC[row].max() for row in inside]))
    return 100 * total


@pytest.mark.parametrize("temperature", [None, 2.5])
def test_measures_are_those_of_scikit_learn_and_of_a_loop(temperature):
    logits_MC, labels_M = made()
    found = Answers.of_logits(logits_MC, temperature).measures(labels_M)
    shares_MC = np.exp(logits_MC / (temperature or 1))
    shares_MC /= shares_MC.sum(1, keepdims=True)
    answers_M = logits_MC.argmax(1)
    own_classes = answers_M != 4  # scikit-learn warns of predictions of a class without images
    assert 0 < own_classes.sum() < len(labels_M)
    recalls = [np.mean(answers_M[labels_M == label] == label) for label in range(4)]
    assert found["balanced_acc"] == pytest.approx(100 * np.mean(recalls), abs=1e-4)
    assert balanced_accuracy(answers_M[own_classes], labels_M[own_classes]) == pytest.approx(
        100 * balanced_accuracy_score(labels_M[own_classes], answers_M[own_classes]), abs=1e-4
    )
    assert found["nll"] == pytest.approx(log_loss(labels_M, shares_MC, labels=range(5)), abs=1e-4)
    assert found["ece"] == pytest.approx(slow_ece(shares_MC, labels_M), abs=1e-3)
    assert found["top1"] == pytest.approx(100 * np.mean(answers_M == labels_M), abs=1e-4)
    assert found["top1"] != found["balanced_acc"]


def test_scores_that_are_no_probabilities_have_no_likelihood():
    logits_MC, labels_M = made()
    scored = Answers.of_scores(logits_MC)
    assert scored.nll(labels_M) is None
    assert set(scored.measures(labels_M)) == {"top1", "top1_err", "top5", "balanced_acc"}
    assert set(Answers(top1_M=logits_MC.argmax(1)).measures(labels_M)) == {"top1", "top1_err", "balanced_acc"}
    shares_MC = np.array([[1.0, 0.0], [0.25, 0.75]])
    certain = Answers.of_probabilities(shares_MC).nll(np.array([1, 1]))
    assert certain == pytest.approx([-np.log(np.finfo(np.float32).tiny), -np.log(0.75)])


def twins(folder, copied, near=()):
    """A test store whose rows `copied` have the bytes of the training rows of the same number, and `near` their features."""
    train, test = cache.open(folder / "train.store"), cache.open(folder / "test.store")
    test.hashes_N16 = test.hashes_N16.copy()
    test.hashes_N16[list(copied)] = train.hashes_N16[list(copied)]
    features = test.features()[np.arange(len(test))].copy()
    features[list(near)] = train.features()[list(near)] * 3.0  # of another length: the angle counts
    test.features = lambda *_, **__: features
    return train, test


def test_exact_and_near_copies_are_told_apart_and_only_of_what_was_seen(folder):
    train, test = twins(folder, copied=[0, 1, 2], near=[2, 3, 4])
    scored_M = np.arange(30)
    seen_n = np.array([0, 2, 3, 9])
    copies = CopyFinder(train, test, scored_M, 0.9999).among(train.hashes_N16[seen_n])
    assert np.flatnonzero(copies.exact_M).tolist() == [0, 2]
    assert np.flatnonzero(copies.near_M).tolist() == [3]
    assert np.flatnonzero(~copies.clean).tolist() == [0, 2, 3]
    without = CopyFinder(train, test, scored_M, None).among(train.hashes_N16[seen_n])
    assert not without.near_M.any()


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_near_copies_are_those_of_all_cosines(folder, monkeypatch, block):
    monkeypatch.setattr("tcs.grid.copies.BLOCK_ROWS", block)
    train, test = cache.open(folder / "train.store"), cache.open(folder / "test.store")
    scored_M = np.arange(3, 30)
    found = CopyFinder(train, test, scored_M, 0.97).among(train.hashes_N16[:20])
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (test.features()[3:30], train.features()[:20])]
    expected_M = (unit[0] @ unit[1].T).max(1) >= 0.97
    assert 0 < expected_M.sum() < len(scored_M)
    np.testing.assert_array_equal(found.near_M, expected_M)


def test_the_clean_score_is_of_the_other_images_and_empty_where_none_is_left(folder):
    train, test = twins(folder, copied=range(10))
    (cell,) = [cell for cell in plan_cells(load_grid(recipe_of(folder))) if cell.method.label == "labels"]
    truth_M = test.labels_N
    answers_M = truth_M.copy()
    answers_M[:4], answers_M[10:15] = (truth_M[:4] + 1) % 3, (truth_M[10:15] + 1) % 3
    scorer = Scorer(folder / "grid", train, test)
    found = scorer.score(cell, Answers(top1_M=answers_M), train.hashes_N16)
    assert (found["overlap"], found["near_overlap"], found["top1"]) == (10, "", 70.0)
    assert found["top1_clean"] == 75.0  # 15 of 20
    half = scorer.score(cell, Answers(top1_M=answers_M), train.hashes_N16[:5])
    assert (half["overlap"], half["top1_clean"]) == (5, pytest.approx(100 * 20 / 25))
    nothing = Scorer(folder / "grid", train, train).score(cell, Answers(top1_M=train.labels_N), train.hashes_N16)
    assert (nothing["overlap"], nothing["top1_clean"]) == (60, "")


@pytest.mark.parametrize(("rows", "teacher", "kind"), [(60, "another", "overlap"), (30, "made-up", "near_overlap")])
def test_rows_count_copies_of_their_own_training_rows(folder, capsys, rows, teacher, kind):
    """The test images are the training images, or others of the same features: each cell has seen those of its split and pool."""
    make_store(folder / "same.store", rows=rows, seed=0, teacher=teacher)
    found, cells = run(
        folder,
        test=str(folder / "same.store"),
        methods=["labels", "pool-labels"],
        unlabelled=["all"],
        near_copies=0.9999,
        latency=False,
        options={"img_size": 16, "steps": 1, "batch_size": 6, "held_out": 0},
    )
    train, grid = cache.open(folder / "train.store"), load_grid(folder / "recipe.yaml")
    other = ({"overlap", "near_overlap"} - {kind}).pop()
    for row in found:
        cell = cells[tuple(row[column] for column in CELL_KEY)]
        split = split_of_cell(grid, train, cell).rows_n
        seen = rows if row["method"] in ("pool-labels", "teacher-all-labels") else int((split < rows).sum())
        assert (int(row[kind]), int(row[other])) == (seen, 0)
        clean = row["top1_clean"]
        assert (clean == "") == (seen == rows)
    assert len(found) == 6
    said = capsys.readouterr().err
    assert ("LEAKAGE: 60 of the 60 test images of" in said) == (kind == "overlap")
    assert all(row["latency_ms"] == "" for row in found)


def test_a_grid_keeps_what_each_cell_said_of_each_image(folder):
    rows, cells = run(folder)
    test = cache.open(folder / "test.store")
    place = folder / "grid" / "predictions"
    with np.load(place / f"test-{test.identity}.npz", allow_pickle=False) as images:
        assert images["keys"].tolist() == test.keys
        assert tuple(images["classes"].tolist()) == test.classes
        labels_M = images["labels"]
    np.testing.assert_array_equal(labels_M, test.labels_N)
    assert labels_M.dtype == np.int16
    for row in rows:
        cell = cells[tuple(row[column] for column in CELL_KEY)]
        assert cell.digest == cache.digest_of_json(["", *cell.key[1:]])[:16]
        with np.load(place / f"{cell.digest}.npz", allow_pickle=False) as kept:
            assert ("batch_size" in kept) == (row["model"] != "teacher")
            assert kept.get("batch_size", 64) == 64  # of a student of 16 px
            assert str(kept["test"]) == test.identity
            assert 100 * float((kept["top1_N"] == labels_M).mean()) == pytest.approx(float(row["top1"]), abs=1e-3)
            assert ("nll_N" in kept) == (row["nll"] != "") == (row["method"] == "labels")
            if row["nll"]:
                assert float(kept["nll_N"].mean(dtype=np.float64)) == pytest.approx(float(row["nll"]), rel=1e-2)
    assert len(list(place.iterdir())) == len(rows) + 1


def test_classes_that_the_test_store_numbers_otherwise_have_a_file_of_their_own(folder):
    other = make_store(folder / "other.store", seed=9, rows=30, classes=("cow", "ant", "bee"))
    train = cache.open(folder / "train.store")
    scorer = Scorer(folder, train, other)
    assert scorer.test_id.startswith(f"{other.identity}-")
    assert [train.classes[label] for label in scorer.truth] == [other.classes[label] for label in other.labels_N]


def test_a_student_has_its_costs_and_all_its_rows_the_same(folder):
    rows, _ = run(folder, shots=[1, 2], references=[])
    assert len({(row["gmacs"], row["latency_ms"]) for row in rows}) == 1
    assert 0 < float(rows[0]["gmacs"]) < 0.01
    assert float(rows[0]["latency_ms"]) > 0
    assert rows[0]["online_teacher_s"] == ""  # these stores do not say how long their teacher took
    store = cache.open(folder / "train.store")
    store.manifest.provenance["run"] = {"seconds": 10.0, "teacher_seconds_per_image": 0.25}
    assert online_teacher_seconds(store, 200) == 50.0


def test_references_are_those_of_scikit_learn(folder):
    train, test = cache.open(folder / "train.store"), cache.open(folder / "test.store")
    rows_N = np.array([0, 3, 6, 1, 4, 2, 5, 8])  # three of the first class, two, three
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train.features()[rows_N], test.features()[:])]
    found = answer_reference("teacher-centroids", train, test, rows_N, 0, "cpu")
    means = np.stack([unit[0][train.labels_N[rows_N] == label].mean(0) for label in range(3)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    slow = (
        KNeighborsClassifier(1).fit(means, range(3)).predict(unit[1])
    )  # on the sphere the nearest is the one of the largest cosine
    np.testing.assert_array_equal(found.top1_M, slow)
    assert found.log_shares_MC is None
    bare = answer_reference("teacher-centroids", train, test, np.array([0, 1, 3]), 0, "cpu")
    assert 2 not in bare.top1_M  # a class without rows is never the nearest
    voted = answer_reference("teacher-knn", train, test, rows_N[[0, 3, 5]], 0, "cpu")  # one row a class: k is 1
    nearest = KNeighborsClassifier(1).fit(unit[0][[0, 3, 5]], train.labels_N[rows_N[[0, 3, 5]]])
    np.testing.assert_array_equal(voted.top1_M, nearest.predict(unit[1]))


def test_the_row_of_all_labels_is_there_once_and_reads_every_label(folder):
    rows, _ = run(folder, shots=[1, 2], seeds=[0, 1], references=["teacher-all-labels", "all-labels"], latency=False)
    (teacher,) = [row for row in rows if row["method"] == "teacher-all-labels"]
    assert (teacher["model"], teacher["shots"], teacher["seed"], teacher["unlabelled"]) == ("teacher", "0", "0", "none")
    train, test = cache.open(folder / "train.store"), cache.open(folder / "test.store")
    every = answer_reference("teacher-probe", train, test, np.arange(60), 0, "cpu")
    assert float(teacher["top1"]) == every.accuracies(test.labels_N)["top1"]
    students = [row for row in rows if row["method"] == "all-labels"]
    assert [(row["model"], row["shots"], row["seed"]) for row in students] == [(STUDENT, "0", seed) for seed in "01"]
    assert {row["split_id"] for row in students} == {teacher["split_id"]}
    assert not list((folder / "grid" / "splits").glob("shots-0*"))
