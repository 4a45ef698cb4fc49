"""Selection against an elimination written out by hand. n labelled rows, K coordinates."""

import json

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from tcs.coordinates.selection import Selection, check_selection, rank_coordinates, select_coordinates
from tcs.errors import ArtefactError
from tcs.probes.ridge import balanced_folds, fit_ridge
from tcs.splits.shots import Split

TELLING = (3, 11, 17)


def rows(shots=8, dims=20, seed=0):
    """Rows of 3 classes that only the coordinates TELLING tell apart; the spectrum falls slowly."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), shots)
    z = generator.normal(size=(3 * shots, dims)) * np.linspace(1.2, 0.8, dims)
    z[:, TELLING] += 6 * np.eye(3)[labels]
    return z.astype(np.float32), labels


def eliminate_by_hand(z, labels, sizes):
    """Drop the weakest by sum_c W_ck^2 var(z_k) with scikit-learn's ridge; only the penalty comes from our probe."""
    active, targets = list(range(z.shape[1])), 2.0 * np.eye(3)[labels] - 1
    for size in sizes:
        penalty = fit_ridge(z[:, active], labels, 3).penalty
        weight = Ridge(alpha=penalty, solver="svd").fit(z[:, active], targets).coef_
        score = (weight**2).sum(0) * z[:, active].var(0)
        kept = sorted(range(len(active)), key=lambda k: -score[k])[:size]
        active = sorted(active[k] for k in kept)
    return active


def test_elimination_follows_the_formula():
    z, labels = rows()
    assert rank_coordinates(z, labels, 3, (10,))[10].tolist() == eliminate_by_hand(z, labels, (16, 13, 10))


def test_the_telling_coordinates_are_found():
    z, labels = rows()
    selection = select_coordinates(z, labels, 3, 8, 0, "digest", minimum=3)
    assert selection.method == "ridge"
    assert set(TELLING) <= set(selection.active_k.tolist())
    assert len(selection.active_k) < 10
    assert (np.diff(selection.active_k) > 0).all()
    assert selection.active_k.dtype == np.int64
    at_three = selection.history[-1]
    assert at_three["size"] == 3
    assert at_three["mean"] > 95 > at_three["spectrum_mean"]


def test_history_holds_every_round_and_what_it_dropped():
    z, labels = rows()
    history = select_coordinates(z, labels, 3, 8, 0, "digest").history
    assert [entry["size"] for entry in history] == [20, 16, 13, 10, 8]
    assert [len(entry["dropped"]) for entry in history] == [0, 4, 3, 3, 2]
    dropped = [k for entry in history for k in entry["dropped"]]
    assert len(set(dropped)) == len(dropped) == 12
    assert json.loads(json.dumps(history)) == list(history)


def test_history_is_what_folds_done_by_hand_give():
    z, labels = rows()
    folds, history = balanced_folds(labels, 5, 0), select_coordinates(z, labels, 3, 8, 0, "digest").history
    sizes = [entry["size"] for entry in history]
    for index, entry in enumerate(history):
        kept, first = [], []
        for fold in range(5):
            inside, outside = folds != fold, folds == fold
            chosen = eliminate_by_hand(z[inside], labels[inside], sizes[1 : index + 1]) if index else range(20)
            for scores, columns in ((kept, list(chosen)), (first, list(range(entry["size"])))):
                probe = fit_ridge(z[inside][:, columns], labels[inside], 3)
                scores.append(100 * (probe.logits(z[outside][:, columns]).argmax(1) == labels[outside]).mean())
        for scores, mean, stderr in ((kept, "mean", "stderr"), (first, "spectrum_mean", "spectrum_stderr")):
            assert entry[mean] == pytest.approx(np.mean(scores))
            assert entry[stderr] == pytest.approx(np.std(scores, ddof=1) / np.sqrt(5))


def test_the_smallest_size_within_one_standard_error_wins():
    z, labels = rows()
    selection = select_coordinates(z, labels, 3, 8, 0, "digest", minimum=1)
    best = max(selection.history, key=lambda entry: entry["mean"])
    near = [entry["size"] for entry in selection.history if entry["mean"] >= best["mean"] - best["stderr"]]
    assert len(selection.active_k) == min(near)
    assert f"{min(near)} of 20 coordinates" in selection.note


def test_accuracy_on_labels_without_meaning_stays_at_chance():
    # Cross-validating sets that had seen the held-out labels would report far more than the 33 % of chance.
    z, _ = rows(shots=10, dims=60)
    noise = np.random.default_rng(5).permutation(np.repeat(np.arange(3), 10))
    z = np.random.default_rng(6).normal(size=z.shape)
    means = [entry["mean"] for entry in select_coordinates(z, noise, 3, None, 0, "digest").history]
    assert np.mean(means) < 50


def test_selection_is_deterministic_for_a_seed():
    z, labels = rows(seed=1)
    first, second = (select_coordinates(z, labels, 3, 8, 4, "digest") for _ in range(2))
    assert first.to_json() == second.to_json()
    other = select_coordinates(z, labels, 3, 8, 5, "digest")
    assert [e["dropped"] for e in other.history] == [e["dropped"] for e in first.history]  # the seed draws folds only


@pytest.mark.parametrize("shots", [1, 3])
def test_too_few_labels_keep_the_spectrum_and_say_so(shots):
    z, labels = rows(shots)
    selection = select_coordinates(z, labels, 3, None, 0, "digest")
    assert (selection.method, selection.history) == ("spectrum", ())
    assert selection.active_k.tolist() == list(range(20))
    assert f"{shots} labels per class are too few" in selection.note


def test_fewer_coordinates_than_the_minimum_are_all_kept():
    z, labels = rows(dims=18)
    assert select_coordinates(z[:, :5], labels, 3, 8, 0, "digest").active_k.tolist() == [0, 1, 2, 3, 4]


def test_sets_of_any_sizes_come_from_one_elimination():
    z, labels = rows()
    sets = rank_coordinates(z, labels, 3, (5, 11, 20))
    assert {size: len(active) for size, active in sets.items()} == {5: 5, 11: 11, 20: 20}
    assert set(sets[5]) <= set(sets[11])
    assert set(TELLING) <= set(sets[5])


def test_a_selection_survives_json():
    z, labels = rows()
    selection = select_coordinates(z, labels, 3, 8, 0, "digest")
    assert Selection.from_json(json.loads(json.dumps(selection.to_json()))).to_json() == selection.to_json()


def test_training_on_another_split_is_refused():
    z, labels = rows()
    selection = select_coordinates(z, labels, 3, 8, 0, "aaaa")
    rows_n = np.arange(24)
    check_selection(selection, Split(rows_n=rows_n, shots=8, split_seed=0, digest="aaaa"))
    with pytest.raises(ArtefactError, match="saw the labels of split aaaa, and this run trains on split bbbb"):
        check_selection(selection, Split(rows_n=rows_n, shots=8, split_seed=1, digest="bbbb"))
