"""Every estimator of pool labels against dense numpy in float64. N rows, C classes, J coordinates and a one."""

import numpy as np
import pool_references as reference
import pytest
import torch

from tcs.errors import ConfigError
from tcs.pool_labels.balance import class_offsets
from tcs.pool_labels.estimators import fit_head
from tcs.pool_labels.expectation import Sums, gaussian_step, ridge_step
from tcs.pool_labels.head import Calibration, ridge_head
from tcs.pool_labels.mutual_information import fit_mutual_information, objective
from tcs.pool_labels.options import ESTIMATORS, PoolLabelOptions, prior_of
from tcs.pool_labels.pool import make_pool
from tcs.pool_labels.propagation import neighbour_graph

CLOSE = {"rtol": 2e-3, "atol": 2e-3}  # float32 rows and softmax, over a dozen rounds
STEPS = {"ridge-em": reference.ridge_step, "gaussian-em": reference.gaussian_step}


def soft_labels(estimator, options, data):
    rows, labels, positions = data
    pool = make_pool(rows, positions, labels[positions], labels.max() + 1)
    head_CJ = fit_head(pool, options)
    return torch.softmax(pool.all_rows() @ head_CJ.T, dim=1).numpy()


def expected(estimator, options, data):
    rows, labels, positions = data
    x, classes = reference.standardised(rows), labels.max() + 1
    arguments = (x, positions, labels[positions], classes, options)
    head = reference.em(*arguments, STEPS[estimator]) if estimator in STEPS else reference.propagation(*arguments)
    if estimator == "average":
        probe = reference.ridge_probe(x[positions], labels[positions], classes)
        heads = [*(reference.em(*arguments, step, head) for step in STEPS.values()), probe]
        head = sum(share * each / (x @ each.T).std(ddof=1) for share, each in zip((1, 1, 0.5), heads, strict=True))
    return reference.calibrated(head, x, options)


@pytest.mark.parametrize("shots", [1, 3])
@pytest.mark.parametrize("balance", ["half", "uniform", "estimated", "none"])
@pytest.mark.parametrize("estimator", ["ridge-em", "gaussian-em", "propagation", "average"])
def test_estimator_equals_its_formulas(estimator, balance, shots):
    data = reference.blobs((50, 40, 25), shots=shots)
    options = PoolLabelOptions(estimator=estimator, balance=balance, neighbours=7)
    np.testing.assert_allclose(soft_labels(estimator, options, data), expected(estimator, options, data), **CLOSE)


@pytest.mark.parametrize("estimator", ["ridge-em", "average"])
def test_given_shares_are_the_prior_of_the_formulas(estimator):
    data = reference.blobs((60, 30, 30))
    options = PoolLabelOptions(estimator=estimator, balance="given", class_prior=(0.5, 0.25, 0.25))
    found = soft_labels(estimator, options, data)
    np.testing.assert_allclose(found, expected(estimator, options, data), **CLOSE)
    np.testing.assert_allclose(found.mean(0), options.class_prior, atol=0.01)


@pytest.mark.parametrize(("balance", "weight"), [("uniform", 1.0), ("half", 0.5), ("none", 0.0)])
def test_mutual_information_follows_its_gradient(balance, weight):
    rows, labels, positions = data = reference.blobs((50, 40, 25))
    options = PoolLabelOptions(estimator="mutual-information", balance=balance)
    x = reference.standardised(rows)
    head = reference.mutual_information(x, positions, labels[positions], 3, options, weight)
    found = soft_labels("mutual-information", options, data)
    np.testing.assert_allclose(found, reference.calibrated(head, x, options), atol=0.02)


def test_mutual_information_lowers_its_objective():
    rows, labels, positions = reference.blobs((50, 40, 25), apart=1.5)
    pool = make_pool(rows, positions, labels[positions], 3)
    options = PoolLabelOptions(estimator="mutual-information", balance="uniform")
    around = (pool.all_rows(), pool.labelled(), pool.labels_M, torch.full((3,), 1 / 3), 1.0)
    before = objective(Calibration(pool, options)(ridge_head(pool)), *around)
    assert objective(fit_mutual_information(pool, options), *around) < 0.7 * before


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_spreading_recovers_clusters_that_one_label_each_does_not(estimator):
    rows, labels, positions = reference.blobs((70,) * 4, dims=8, apart=2.6, seed=3)
    pool = make_pool(rows, positions, labels[positions], 4)
    probe = (
        reference.standardised(rows) @ reference.ridge_probe(pool.labelled().double().numpy(), np.arange(4), 4).T
    ).argmax(1)
    found = soft_labels(estimator, PoolLabelOptions(estimator=estimator), (rows, labels, positions)).argmax(1)
    assert (found == labels).mean() > (probe == labels).mean() + 0.02


@pytest.mark.parametrize(
    ("ours", "step"), [(ridge_step, reference.ridge_step), (gaussian_step, reference.gaussian_step)]
)
def test_step_from_sums_equals_the_step_from_rows(ours, step):
    generator = np.random.default_rng(0)
    rows = reference.standardised(generator.normal(size=(60, 5)))
    soft, weights = reference.softmax(generator.normal(size=(60, 3))), generator.uniform(0.5, 2, 60)
    options = PoolLabelOptions()
    second, cross = (weights[:, None] * rows).T @ rows, (weights[:, None] * soft).T @ rows
    sums = Sums(second_JJ=torch.from_numpy(second), cross_CJ=torch.from_numpy(cross))
    np.testing.assert_allclose(ours(sums, options).numpy(), step(rows, soft, weights, options), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("balance", ["half", "uniform", "estimated"])
def test_offsets_are_the_balanced_matrix(balance):
    logits = np.random.default_rng(1).normal(size=(200, 4)) * 2 + np.array([2.0, 0, 0, -1])
    options = PoolLabelOptions(balance=balance)
    offsets = class_offsets(torch.from_numpy(logits), options, torch.zeros(4, dtype=torch.float64))
    found = reference.softmax(logits + offsets.numpy())
    np.testing.assert_allclose(found, reference.Balance(options, 4)(logits), atol=1e-9)
    assert abs(float(offsets.mean())) < 1e-12


def test_graph_joins_both_ways_and_leaves_the_row_itself_out():
    x = torch.from_numpy(np.random.default_rng(2).normal(size=(30, 4)).astype(np.float32))
    dense = neighbour_graph(x, 5).to_dense()
    torch.testing.assert_close(dense, dense.T)
    assert (dense.diagonal() == 0).all()
    assert ((dense > 0).sum(1) <= 29).all()
    assert torch.linalg.eigvalsh(dense.double()).max() <= 1 + 1e-5  # or the series would grow


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"estimator": "averge"}, "Did you mean average"),
        ({"balance": "equal"}, "balance is 'equal'; it must be one of"),
        ({"balance": "given"}, "a class prior is not given"),
        ({"class_prior": (0.5, 0.5)}, "belong together"),
        ({"balance": "given", "class_prior": (0.5, 0.4)}, "sums to 0.9"),
        ({"balance": "given", "class_prior": (1.2, -0.2)}, "holds -0.2"),
        ({"sharpness": 0.0}, "sharpness is 0.0; it must be positive"),
        ({"label_weight": float("nan")}, "label_weight is nan"),
        ({"penalty": -1.0}, "penalty is -1.0"),
        ({"rounds": 0}, "rounds is 0; it must be 1 or more"),
        ({"neighbours": 0}, "neighbours is 0"),
        ({"shrinkage": 0.0}, "shrinkage is 0.0"),
    ],
)
def test_bad_options_are_refused(values, match):
    with pytest.raises(ConfigError, match=match):
        PoolLabelOptions(**values)


def test_prior_by_name_is_in_the_order_of_the_classes():
    assert prior_of({"b": 0.25, "a": 0.75}, ["a", "b"]) == (0.75, 0.25)


@pytest.mark.parametrize(
    ("shares", "match"),
    [
        ({"cat": 0.5, "dgo": 0.5}, "names 'dgo', which is no class.*Did you mean dog"),
        ({"cat": 1.0}, "lacks 'dog'"),
        ({"cat": 0.5, "dog": 0.6}, "sums to 1.1"),
        ({"cat": 1.0, "dog": 0.0}, "holds 0"),
    ],
)
def test_bad_priors_by_name_are_refused(shares, match):
    with pytest.raises(ConfigError, match=match):
        prior_of(shares, ["cat", "dog"])
