"""Spreading labels over a pool: what it reads, what it does not, and what it refuses. N rows, C classes."""

import dataclasses

import numpy as np
import pool_references as reference
import pytest
import torch

from tcs.errors import ConfigError, DataError
from tcs.pool_labels.estimators import fit_head
from tcs.pool_labels.options import ESTIMATORS, PoolLabelOptions
from tcs.pool_labels.pool import make_pool
from tcs.pool_labels.spread import spread_labels
from tcs.probes.ridge import fit_ridge

ALL = [PoolLabelOptions(estimator=name) for name in ESTIMATORS]


def spread(data, options=None, **changed):
    rows, labels, positions = data
    options = dataclasses.replace(options or PoolLabelOptions(), **changed)
    return spread_labels(rows, positions, labels[positions], labels.max() + 1, options)


def same_bits(one, other):
    return np.array_equal(one.weight_CK, other.weight_CK) and np.array_equal(one.bias_C, other.bias_C)


@pytest.mark.parametrize("options", ALL, ids=ESTIMATORS)
def test_the_head_is_that_of_the_estimator_for_rows_as_they_were_given(options):
    rows, labels, positions = data = reference.blobs()
    pool = make_pool(rows, positions, labels[positions], 3, seed=options.seed)
    inside = torch.softmax(pool.all_rows() @ fit_head(pool, options).T, dim=1).numpy()
    found = spread(data, options, safety=False)
    assert (found.estimator, found.fell_back, found.reason) == (options.estimator, False, None)
    np.testing.assert_allclose(found.soft_labels(rows), inside, atol=1e-4)
    np.testing.assert_array_equal(found.scores(rows).argmax(1), inside.argmax(1))


def test_labelled_rows_have_their_labels_in_the_pool_and_the_others_their_softmax():
    rows, labels, positions = data = reference.blobs(shots=2)
    found = spread(data)
    parts = dict(found.blocks(rows, 50))
    assert list(parts) == [0, 50, 100]
    whole = np.concatenate(list(parts.values()))
    np.testing.assert_array_equal(whole[positions], np.eye(3, dtype=np.float32)[labels[positions]])
    others = np.setdiff1d(np.arange(len(rows)), positions)
    np.testing.assert_array_equal(whole[others], found.soft_labels(rows)[others])


@pytest.mark.parametrize("shots", [1, 4])  # the safety check of one label a class reads no fold, that of four does
@pytest.mark.parametrize("estimator", ["ridge", *ESTIMATORS])
def test_the_order_in_which_labelled_rows_are_named_changes_no_bit(estimator, shots):
    rows, labels, positions = reference.blobs(apart=1.0, shots=shots)
    options, turned = PoolLabelOptions(estimator=estimator), np.roll(positions, 1)
    one, other = (spread((rows, labels, each), options) for each in (positions, turned))
    assert same_bits(one, other)
    assert (one.estimator, one.reason) == (other.estimator, other.reason)
    np.testing.assert_array_equal(one.labelled_M, np.sort(positions))
    np.testing.assert_array_equal(other.labels_M, labels[np.sort(positions)])


@pytest.mark.parametrize("options", ALL, ids=ESTIMATORS)
def test_no_other_label_is_read(options):
    """The scrambled labels are as far as a caller could hand them over: the positions and labels of the split are all there is."""
    rows, labels, positions = reference.blobs(shots=3)
    scrambled = np.random.default_rng(5).integers(0, 3, len(labels))
    scrambled[positions] = labels[positions]
    assert same_bits(spread((rows, labels, positions), options), spread((rows, scrambled, positions), options))


@pytest.mark.parametrize("options", ALL, ids=ESTIMATORS)
def test_the_same_call_gives_the_same_bits_and_the_global_generator_is_left_alone(options):
    data = reference.blobs(shots=2)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one = spread(data, options)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert same_bits(one, spread(data, options))


@pytest.mark.parametrize("options", ALL, ids=ESTIMATORS)
def test_order_of_rows_and_of_classes_does_not_matter(options):
    rows, labels, positions = data = reference.blobs((45, 40, 35))
    order = np.random.default_rng(7).permutation(len(rows))
    renamed = np.array([2, 0, 1])
    places = np.argsort(order)[positions]
    moved = spread((rows[order], renamed[labels][order], places), options, safety=False)
    found = spread(data, options, safety=False)
    np.testing.assert_allclose(moved.soft_labels(rows)[:, renamed], found.soft_labels(rows), atol=5e-3)


@pytest.mark.parametrize("options", ALL, ids=ESTIMATORS)
def test_blocks_of_any_size_give_the_same_head(options):
    rows, labels, positions = reference.blobs()
    heads = [
        fit_head(make_pool(rows, positions, labels[positions], 3, block_rows=size), options) for size in (8192, 17)
    ]
    torch.testing.assert_close(heads[0], heads[1], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("options", ALL, ids=ESTIMATORS)
def test_scale_and_origin_of_the_coordinates_do_not_matter(options):
    rows, labels, positions = data = reference.blobs()
    found = spread(data, options, safety=False).soft_labels(rows)
    moved = 40 * rows + 300
    np.testing.assert_allclose(
        spread((moved, labels, positions), options, safety=False).soft_labels(moved), found, atol=0.02
    )


def test_a_sample_stands_for_a_large_pool(monkeypatch):
    """With a sample of 150 of 600 rows, offsets, graph and objective come from fewer rows, EM begins on them, and the labels stay good."""
    data = reference.blobs((200, 200, 200), apart=3.2)
    limits = ("head.SAMPLE_ROWS", "propagation.GRAPH_ROWS", "mutual_information.SAMPLE_ROWS", "expectation.EARLY_ROWS")
    for module in limits:
        monkeypatch.setattr(f"tcs.pool_labels.{module}", 150)
    rows, labels, positions = data
    pool = make_pool(rows, positions, labels[positions], 3, seed=4)
    sample = pool.sample(150)
    assert len(sample) == 150
    assert set(positions) <= set(sample.tolist())
    assert torch.equal(sample, pool.sample(150))
    assert not torch.equal(sample, dataclasses.replace(pool, seed=5).sample(150))
    for options in ALL:
        found = spread(data, options, safety=False)
        assert (found.scores(rows).argmax(1) == labels).mean() > 0.93, options.estimator


def test_a_sample_of_a_pool_with_many_labels_holds_as_many_rows_without():
    rows, labels, _ = reference.blobs((200, 200, 200))
    positions = np.arange(0, 500, 2)
    sample = make_pool(rows, positions, labels[positions], 3).sample(300)
    assert len(sample) == 500
    assert np.isin(positions, sample).all()


def test_float16_rows_and_tensors_are_taken_as_they_are():
    rows, labels, positions = reference.blobs()
    half = rows.astype(np.float16)
    found = spread((half, labels, positions))
    assert same_bits(found, spread((torch.from_numpy(half), labels, positions)))
    np.testing.assert_allclose(
        found.soft_labels(half), spread((half.astype(np.float32), labels, positions)).soft_labels(half)
    )


def test_without_a_pool_it_is_exactly_the_ridge_probe():
    rows, labels, positions = reference.blobs(shots=4)
    shots, truth = rows[positions], labels[positions]
    probe = fit_ridge(shots, truth, 3)
    found = spread_labels(shots, np.arange(12), truth, 3)
    np.testing.assert_array_equal(found.weight_CK, probe.weight_CK)
    np.testing.assert_array_equal(found.bias_C, probe.bias_C)
    assert found.reason == "every row of the pool is labelled, so there is nothing to spread to"
    assert found.estimator == "ridge"


def test_the_ridge_probe_can_be_asked_for():
    rows, labels, positions = data = reference.blobs()
    in_order = np.sort(positions)
    probe, found = fit_ridge(rows[in_order], labels[in_order], 3), spread(data, estimator="ridge")
    np.testing.assert_array_equal(found.weight_CK, probe.weight_CK)
    assert not found.fell_back
    logits = found.sharpness * found.scores(rows)
    assert logits.std() == pytest.approx(6.0, rel=1e-6)
    np.testing.assert_allclose(found.soft_labels(rows), reference.softmax(logits), atol=1e-6)


def test_a_constant_coordinate_does_no_harm():
    """It is counted where the mean variance is taken, so that penalties move a little, and nothing else."""
    rows, labels, positions = data = reference.blobs()
    wider = np.hstack([rows, np.full((len(rows), 1), 7, np.float32)])
    for options in ALL:
        found = spread((wider, labels, positions), options, safety=False)
        assert np.isfinite(found.weight_CK).all()
        without = spread(data, options, safety=False).scores(rows).argmax(1)
        assert (found.scores(wider).argmax(1) == without).mean() > 0.98, options.estimator


def test_rows_that_are_all_alike_give_finite_labels():
    found = spread_labels(np.ones((20, 3), np.float32), np.array([0, 1]), np.array([0, 1]), 2)
    assert np.isfinite(found.soft_labels(np.ones((20, 3)))).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_refused_by_number(value):
    rows, labels, positions = reference.blobs()
    rows[50, 2] = value
    with pytest.raises(DataError, match=r"row 50 of the pool holds NaN.*\(1 such rows"):
        spread((rows, labels, positions))


@pytest.mark.parametrize(
    ("positions", "labels", "classes", "match"),
    [
        ([0, 1], [0, 1], 3, r"class 2 has no labelled row \(1 of 3"),
        ([0], [0], 1, "labels of 1 class cannot be spread"),
        ([0, 1], [0], 2, "2 labelled rows have 1 labels"),
        ([0, 10], [0, 1], 2, r"run from 0 to 10; they must lie in 0\.\.9"),
        ([3, 3], [0, 1], 2, "row 3 of the pool is labelled twice"),
        ([0, 1], [0, 2], 2, r"labels run from 0 to 2; they must lie in 0\.\.1"),
        ([], [], 2, "class 0 has no labelled row"),
    ],
)
def test_labels_that_cannot_be_spread_are_refused(positions, labels, classes, match):
    with pytest.raises(DataError, match=match):
        spread_labels(np.zeros((10, 3), np.float32), np.array(positions), np.array(labels), classes)


def test_rows_must_be_a_matrix():
    with pytest.raises(DataError, match=r"have shape \(10,\); they must be \(rows, coordinates\)"):
        spread_labels(np.zeros(10, np.float32), np.array([0, 1]), np.array([0, 1]), 2)


def test_a_prior_of_other_classes_is_refused():
    with pytest.raises(ConfigError, match="has 2 shares; it needs one for each of the 3 classes"):
        spread(reference.blobs(), balance="given", class_prior=(0.5, 0.5))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("options", ALL, ids=ESTIMATORS)
def test_gpu_gives_nearly_the_same_labels(options):
    rows, labels, positions = reference.blobs(shots=2)
    arguments = (rows, positions, labels[positions], 3, options)
    cpu, gpu = (spread_labels(*arguments, device=device).soft_labels(rows) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(gpu, cpu, atol=0.02)
