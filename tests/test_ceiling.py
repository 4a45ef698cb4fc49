"""The ceiling curve on made-up features, cell by cell against probes fitted by hand."""

import dataclasses

import numpy as np
import pytest
from sklearn.decomposition import PCA

from tcs.coordinates.ceiling import LabelledFeatures, ceiling_curve, curve_dims, match_classes, possible_shots
from tcs.coordinates.moments import streaming_moments
from tcs.errors import DataError
from tcs.probes.ridge import fit_ridge
from tcs.splits.shots import k_shot_split

CLASSES = ("ant", "bee", "cow")


def labelled(rows=240, dims=20, seed=0, classes=CLASSES):
    """Classes differ along strong axes, and 14 weak axes are noise: few principal axes hold all there is to know."""
    generator = np.random.default_rng(seed)
    labels = np.arange(rows) % len(classes)
    features = generator.normal(size=(rows, dims)) * np.concatenate([np.full(6, 1.0), np.full(dims - 6, 0.2)])
    features[:, :3] += 2.0 * np.eye(3)[labels]
    keys = [f"{seed}/{row}.png" for row in range(rows)]
    return LabelledFeatures(features=features.astype(np.float32), keys=keys, labels_N=labels, classes=classes)


def curve(train, **options):
    return ceiling_curve(train, *streaming_moments(train.features), **({"split_seeds": (100, 101)} | options))


def cell(rows, **wanted):
    (row,) = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    return row


def test_dims_double_up_to_all():
    assert curve_dims(512) == (16, 32, 64, 128, 256, 512)
    assert curve_dims(100) == (16, 32, 64, 100)
    assert curve_dims(7) == (7,)


def test_every_cell_is_there_once():
    rows = curve(labelled(), shots=(4, None), dims=(4, 20))
    cells = [(row["shots"], row["axes"], row["power"], row["components"]) for row in rows]
    assert len(set(cells)) == len(cells) == 2 * 5 + 2 * 3
    assert {row["n"] for row in rows if row["shots"] == 4} == {2}
    everything = cell(rows, shots=None, axes="pca", components=4)
    assert (everything["n"], everything["stderr"]) == (1, None)
    assert (everything["labelled_rows"], everything["scored_rows"]) == (192, 48)
    assert cell(rows, shots=4, axes="random", components=4)["scored_rows"] == 240 - 12


@pytest.mark.parametrize("whiten", [False, True])
def test_a_cell_equals_a_probe_fitted_by_hand(whiten):
    train, test = labelled(), labelled(seed=1)
    rows = curve(train, shots=(4,), dims=(5, 20), split_seeds=(100,), test=test)
    split = k_shot_split(train.keys, train.labels_N, CLASSES, 4, 100).rows_n
    model = PCA(5, whiten=whiten, svd_solver="full").fit(train.features)
    probe = fit_ridge(model.transform(train.features[split]), train.labels_N[split], 3)
    by_hand = probe.accuracy(model.transform(test.features), test.labels_N)
    found = cell(rows, axes="pca", power=1.0 if whiten else 0.0, components=5)
    # Our whitening keeps a floor under the spectrum, so a row or two of 240 may fall on the other side.
    assert found["accuracy"] == pytest.approx(by_hand, abs=1.0 if whiten else 1e-6)
    assert (found["labelled_rows"], found["scored_rows"]) == (12, 240)


def test_all_axes_hold_the_same_whatever_they_are_called():
    rows = curve(labelled(), shots=(8,), dims=(4, 20))
    whole = {row["axes"]: row["accuracy"] for row in rows if row["components"] == 20 and row["power"] == 0}
    assert whole["pca"] == pytest.approx(whole["random"], abs=0.3) == pytest.approx(whole["selected"], abs=0.3)


def test_principal_axes_beat_random_ones_where_the_signal_is_strong():
    rows = curve(labelled(), shots=(16,), dims=(6, 20))
    principal, random = (cell(rows, axes=axes, power=0.0, components=6)["accuracy"] for axes in ("pca", "random"))
    assert principal > random + 5


def test_the_curve_is_deterministic():
    assert curve(labelled(), shots=(4,), dims=(5,)) == curve(labelled(), shots=(4,), dims=(5,))


def test_test_classes_are_matched_by_name():
    train = labelled()
    order = np.array([1, 2, 0])
    test = labelled(seed=1)
    renamed = dataclasses.replace(test, labels_N=order[test.labels_N], classes=("cow", "ant", "bee"))
    np.testing.assert_array_equal(match_classes(renamed, CLASSES), test.labels_N)
    assert curve(train, shots=(4,), dims=(5,), test=renamed) == curve(train, shots=(4,), dims=(5,), test=test)
    unlabelled = dataclasses.replace(test, labels_N=np.full(240, -1))
    assert (match_classes(unlabelled, CLASSES) == -1).all()
    with pytest.raises(DataError, match=r"the test store has class 'yak', which the training store lacks \(1 such"):
        match_classes(dataclasses.replace(test, classes=("ant", "bee", "yak")), CLASSES)


def test_shots_that_leave_nothing_to_score_are_left_out_with_a_note():
    train = labelled(rows=30)
    assert possible_shots(train, (4, 9)) == ([4, 9], None)
    kept, note = possible_shots(train, (4, 10, 16))
    assert kept == [4]
    assert note == "no ceiling at 10, 16 shots: the smallest class has 10 labelled rows"


def test_a_store_without_labels_is_refused():
    train = labelled()
    with pytest.raises(DataError, match="0 labelled rows leave none to score"):
        curve(dataclasses.replace(train, labels_N=np.full(240, -1)), shots=(None,))
