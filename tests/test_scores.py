"""Intervals, classes and confusions of `tcs eval`, against hand work and slow references. N images, C classes."""

import numpy as np
import pytest

from tcs.evaluation.scores import bootstrap_balanced, confusion_of, confusions, score, wilson
from tcs.evaluation.tables import shown


def test_wilson_is_as_published() -> None:
    """Newcombe 1998, Statistics in Medicine 17, table I, method 3."""
    for hits, count, low, high in (
        (81, 263, 25.53, 36.62),
        (15, 148, 6.24, 16.05),
        (0, 20, 0.0, 16.11),
        (1, 29, 0.61, 17.18),
    ):
        assert wilson(hits, count) == (pytest.approx(low, abs=0.005), pytest.approx(high, abs=0.005))
    assert wilson(20, 20)[1] == 100.0
    assert wilson(0, 0) == (0.0, 100.0)


def test_bootstrap_of_balanced_accuracy_is_that_of_resampled_images() -> None:
    rng = np.random.default_rng(1)
    labels_N = np.repeat(np.arange(3), (60, 25, 5))
    hits_N = rng.random(90) < np.array([0.9, 0.6, 0.4])[labels_N]
    means = []
    for _ in range(4000):
        drawn = rng.integers(0, 90, 90)
        recalls = [hits_N[drawn][labels_N[drawn] == c].mean() for c in range(3) if (labels_N[drawn] == c).any()]
        means.append(100 * np.mean(recalls))
    counts_C = np.bincount(labels_N)
    found = bootstrap_balanced(np.bincount(labels_N, weights=hits_N).astype(np.int64), counts_C)
    assert found == pytest.approx(tuple(np.percentile(means, (2.5, 97.5))), abs=1.5)  # 2,000 draws against 4,000
    assert found == bootstrap_balanced(np.bincount(labels_N, weights=hits_N).astype(np.int64), counts_C)


def test_classes_without_images_or_predictions_have_no_recall_or_precision() -> None:
    logits_NC = np.array([[9, 0, 0, 0], [0, 9, 0, 0], [9, 0, 0, 0], [9, 9, 0, 0], [0, 0, 0, 9]], np.float32)
    labels_N = np.array([0, 1, 1, 1, 1])
    row = score(logits_NC, labels_N, ("a", "b", "c", "d"), 2.0)
    assert row["confusion"] == [[1, 0, 0, 0], [2, 1, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert confusion_of(logits_NC, labels_N).tolist() == row["confusion"]
    assert [item["rows"] for item in row["classes"]] == [1, 4, 0, 0]
    assert [item["recall"] for item in row["classes"]] == [100.0, 25.0, None, None]
    assert [item["precision"] for item in row["classes"]] == [pytest.approx(100 / 3, abs=1e-4), 100.0, None, 0.0]
    assert row["classes"][2]["recall_low"] is None
    assert (row["classes"][1]["recall_low"], row["classes"][1]["recall_high"]) == wilson(1, 4)
    assert (row["top1"], row["balanced"], row["temperature"]) == (40.0, 62.5, 2.0)
    assert (row["top1_low"], row["top1_high"]) == wilson(2, 5)
    assert confusions(row) == [(2, "b", "a"), (1, "b", "d")]


def test_scores_of_a_probe_are_no_probabilities() -> None:
    row = score(np.eye(3, dtype=np.float32), np.arange(3), "abc", has_probabilities=False)
    assert (row["ece"], row["best_temperature"], row["top1"]) == (None, None, 100.0)


def test_many_classes_are_shown_by_the_worst_and_by_what_is_taken_for_what() -> None:
    labels_N = np.arange(40)
    logits_NC = np.eye(40, dtype=np.float32)[np.where(labels_N == 7, 8, labels_N)]
    row = score(logits_NC, labels_N, [f"class {number}" for number in range(40)])
    facts = {"model": "m", "rows": 40, "store": "s", "seen": 0}
    lines = shown({**row, **facts})
    assert "the 30 classes of least recall (--json has all 40)" in lines[2]
    assert lines[4].split()[:2] == ["class", "7"]
    assert lines[-1] == "  1 images of class 7 are taken for class 8"
    assert len(lines) == 2 + 1 + 1 + 30 + 1


def test_few_classes_are_shown_as_a_matrix() -> None:
    row = score(np.eye(2, dtype=np.float32)[[0, 1, 1]], np.array([0, 0, 1]), ("ant", "bee"), 1.5)
    lines = shown({**row, "model": "m", "rows": 3, "store": "s", "seen": None})
    assert lines[0].endswith("whether any of them were seen in training only its run could tell")
    assert "at temperature 1.5 (" in lines[1]
    assert lines[3].split() == ["ant", "2", "50.00", "[9.5", "-", "90.5]", "100.00"]
    assert [line.split() for line in lines[-2:]] == [["0", "ant", "1", "1"], ["1", "bee", ".", "1"]]
