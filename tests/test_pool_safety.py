"""Pools on which spreading could hurt: it ends at most a point below the ridge probe, or says why it was left. C classes."""

import numpy as np
import pool_references as reference
import pytest
import torch

from tcs.pool_labels import safety
from tcs.pool_labels.options import PoolLabelOptions
from tcs.pool_labels.pool import make_pool
from tcs.pool_labels.safety import collapse, held_out_objection, objection
from tcs.pool_labels.spread import spread_labels

SPLITS = range(5)
TAIL = tuple(np.round(60 * 12.0 ** (-np.arange(8) / 7)).astype(int))  # 60 to 5 rows a class


def class_mean(scores, truth):
    return 100 * np.mean([(scores[truth == label].argmax(1) == label).mean() for label in np.unique(truth)])


def gain(seed, per_class, shots, known=None, absent=False, options=None, apart=1.8):
    """Class-mean accuracy on rows outside the pool, over that of the ridge probe, of `known` classes."""
    classes = len(per_class)
    known = classes if known is None else known
    sizes = np.array(per_class) + 40
    rows, labels, _ = reference.blobs(tuple(sizes), dims=12, apart=apart, seed=seed)
    order = np.concatenate([np.flatnonzero(labels == label) for label in range(classes)])
    starts = np.append(0, np.cumsum(sizes)[:-1])
    scored = np.concatenate([order[start : start + 40] for start in starts[:known]])
    pool = np.setdiff1d(np.arange(len(rows)), np.concatenate([order[start : start + 40] for start in starts]))
    positions = np.concatenate([np.flatnonzero(labels[pool] == label)[:shots] for label in range(known)])
    if absent:
        kept = np.union1d(np.flatnonzero(labels[pool] != 0), positions)
        positions, pool = np.searchsorted(kept, positions), pool[kept]
    arguments = (rows[pool], positions, labels[pool][positions], known)
    probe, found = (spread_labels(*arguments, each) for each in (PoolLabelOptions(estimator="ridge"), options))
    return class_mean(found.scores(rows[scored]), labels[scored]) - class_mean(
        probe.scores(rows[scored]), labels[scored]
    )


@pytest.mark.parametrize("shots", [1, 4])
@pytest.mark.parametrize(
    "kind",
    [
        {"per_class": TAIL},
        {"per_class": (40,) * 10, "known": 6},
        {"per_class": (40,) * 6, "absent": True},
        {"per_class": (60, 60)},
    ],
    ids=["long tail", "classes without a label", "a class that is not there", "two classes"],
)
def test_no_pool_costs_more_than_a_point(kind, shots):
    assert np.mean([gain(seed, shots=shots, **kind) for seed in SPLITS]) >= -1


@pytest.mark.parametrize(("enough", "folds"), [(1, 1), (3, 1), (4, 2), (10, 4), (512, 4)])
def test_folds_are_left_out_once_enough_rows_were_held_out(monkeypatch, enough, folds):
    rows, labels, positions = reference.blobs(shots=4)  # 3 classes: 3 rows in each of 4 folds
    pool, fitted = make_pool(rows, positions, labels[positions], 3), []
    monkeypatch.setattr(safety, "ENOUGH_HELD_OUT", enough)
    monkeypatch.setattr(safety, "fit_head", lambda part, _: (fitted.append(part), torch.zeros(3, rows.shape[1] + 1))[1])
    reason = held_out_objection(pool, PoolLabelOptions(), 4)
    assert len(fitted) == folds
    assert all(len(part.labels_M) == 9 for part in fitted)
    assert f"on {3 * folds} labelled rows held out in turn the ridge probe" in reason


def test_a_thousand_classes():
    generator = np.random.default_rng(0)
    centres = 1.2 * generator.normal(size=(1000, 32))
    truth = np.tile(np.arange(1000), 4)
    rows = (centres[truth] + generator.normal(size=(4000, 32))).astype(np.float32)
    pool, scored, shots = rows[:3000], rows[3000:], np.arange(1000)
    probe, found = (
        spread_labels(pool, shots, shots, 1000, PoolLabelOptions(estimator=name, rounds=4)).scores(scored)
        for name in ("ridge", "average")
    )
    assert class_mean(found, truth[3000:]) >= class_mean(probe, truth[3000:]) - 1


def crossed(shots, seed=0):
    """Two wide clusters that have nothing to do with the labels, which a narrow coordinate tells apart."""
    generator = np.random.default_rng(seed)
    labels, cluster = np.tile([0, 1], 200), np.repeat([0, 1], 200)
    rows = generator.normal(size=(400, 4)) * np.array([0.5, 0.5, 0.12, 0.5])
    rows[:, 0] += 20 * cluster
    rows[:, 2] += np.where(labels == 0, -0.5, 0.5)
    positions = np.concatenate([generator.permutation(np.flatnonzero(labels == label))[:shots] for label in (0, 1)])
    return rows.astype(np.float32), labels, positions


def test_held_out_labels_speak_against_spreading_over_clusters_of_something_else():
    rows, labels, positions = crossed(16)
    found, bare, probe = (
        spread_labels(rows, positions, labels[positions], 2, options)
        for options in (
            PoolLabelOptions(estimator="gaussian-em"),
            PoolLabelOptions(estimator="gaussian-em", safety=False),
            PoolLabelOptions(estimator="ridge"),
        )
    )
    assert (found.fell_back, found.estimator) == (True, "ridge")
    assert "on 32 labelled rows held out in turn the ridge probe alone was right on" in found.reason
    np.testing.assert_array_equal(found.weight_CK, probe.weight_CK)
    np.testing.assert_array_equal(found.soft_labels(rows), probe.soft_labels(rows))
    right = [(each.scores(rows).argmax(1) == labels).mean() for each in (found, bare)]
    assert right[0] > 0.95
    assert right[1] < 0.7


def test_held_out_labels_have_nothing_against_clusters_that_are_the_classes():
    rows, labels, positions = reference.blobs((60,) * 4, shots=6)
    pool = make_pool(rows, positions, labels[positions], 4)
    assert held_out_objection(pool, PoolLabelOptions(), 3) is None


def test_a_head_that_puts_all_rows_into_one_class_has_collapsed():
    rows, labels, positions = reference.blobs((60,) * 4)
    pool = make_pool(rows, positions, labels[positions], 4)
    head = torch.zeros(4, rows.shape[1] + 1)
    head[2, -1] = 1
    assert collapse(pool, head) == "the pool falls into 1.0 of 4 classes in effect"
    assert objection(pool, PoolLabelOptions(), head) == collapse(pool, head)
    shared = torch.from_numpy(reference.ridge_probe(pool.labelled().double().numpy(), np.arange(4), 4)).float()
    assert collapse(pool, shared) is None
