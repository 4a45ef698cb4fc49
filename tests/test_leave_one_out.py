"""The penalty that bounds choose, against the errors of all penalties written out. N rows, K coordinates, C classes, P penalties."""

import numpy as np
import pytest

from tcs.coordinates.ceiling import LabelledFeatures, ceiling_curve
from tcs.coordinates.moments import streaming_moments
from tcs.probes import gram, leave_one_out, ridge, targets
from tcs.probes.gram import RELATIVE_PENALTIES, gather_gram
from tcs.probes.leave_one_out import least_error, possible_penalties
from tcs.probes.ridge import SubsetFits, fit_ridge
from tcs.probes.targets import ClassTargets, DenseTargets, one_hot, signed_targets


def problem(rows, dims, classes, seed, spread=1.0):
    generator = np.random.default_rng(seed)
    labels_N = generator.permutation(np.arange(rows) % classes)
    centres_CK = spread * generator.normal(size=(classes, dims))
    x_NK = (centres_CK[labels_N] + generator.normal(size=(rows, dims))) * np.linspace(2, 0.2, dims)
    return x_NK, labels_N


def decomposed(x_NK, y_NC):
    """Eigenvectors' rows, shrinkage of each penalty, and projections, of centred rows and targets."""
    x_NK, y_NC = x_NK - x_NK.mean(0), y_NC - y_NC.mean(0)
    squares_K, v_KK = np.linalg.eigh(x_NK.T @ x_NK)
    scale = squares_K.mean() if squares_K.mean() > 1e-9 else 1.0
    shrink_PK = 1 / (squares_K.clip(0) + RELATIVE_PENALTIES[:, None] * scale)
    return x_NK @ v_KK, shrink_PK, v_KK.T @ x_NK.T @ y_NC, y_NC


def plain_errors(basis_NK, shrink_PK, projected_KC, y_NC):
    """Squared leave-one-out errors of every penalty, a residual at a time."""
    errors = []
    for shrink_K in shrink_PK:
        residual_NC = y_NC - basis_NK @ (shrink_K[:, None] * projected_KC)
        free_N = 1 - 1 / len(y_NC) - (basis_NK**2 * shrink_K).sum(1)
        errors.append(float((residual_NC**2 / free_N[:, None] ** 2).sum()))
    return np.array(errors)


SHAPES = [(40, 6, 10), (120, 20, 40), (300, 8, 100), (26, 25, 13), (90, 30, 15), (60, 3, 30)]


@pytest.mark.parametrize("spread", [0.02, 0.3, 1.0, 8.0])
@pytest.mark.parametrize(("rows", "dims", "classes"), SHAPES)
def test_the_choice_is_that_of_all_errors(rows, dims, classes, spread, monkeypatch):
    monkeypatch.setattr(leave_one_out, "GROUP_ROWS", 16)
    for seed in range(8):
        x_NK, labels_N = problem(rows, dims, classes, seed, spread)
        basis_NK, shrink_PK, projected_KC, y_NC = decomposed(x_NK, signed_targets(labels_N, classes))
        errors_P = plain_errors(basis_NK, shrink_PK, projected_KC, y_NC)
        blocks = [(basis_NK[part], DenseTargets(y_NC[part])) for part in (slice(0, 17), slice(17, None))]
        assert int(errors_P.argmin()) in possible_penalties(blocks, shrink_PK, projected_KC, rows)
        assert least_error(blocks, shrink_PK, projected_KC, rows) == errors_P.argmin()


def test_few_penalties_are_left_to_compute():
    """Bounds that bound nothing would choose rightly, too, and slowly."""
    left = []
    for seed in range(6):
        x_NK, labels_N = problem(1000, 100, 100, seed, 0.3)
        basis_NK, shrink_PK, projected_KC, y_NC = decomposed(x_NK, signed_targets(labels_N, 100))
        left.append(len(possible_penalties([(basis_NK, DenseTargets(y_NC))], shrink_PK, projected_KC, 1000)))
    assert max(left) <= 3


@pytest.mark.parametrize("classes", [3, 40])
def test_of_equal_errors_the_first_is_chosen(classes):
    """Constant rows: every penalty gives weight zero."""
    labels_N = np.arange(80) % classes
    probe = fit_ridge(np.ones((80, 4)), labels_N, classes)
    assert probe.penalty == RELATIVE_PENALTIES[0]
    assert not probe.weight_CK.any()
    twice_NK = np.repeat(problem(40, 5, classes, 0)[0], 2, axis=0)
    basis_NK, shrink_PK, projected_KC, y_NC = decomposed(twice_NK, signed_targets(np.repeat(labels_N[:40], 2), classes))
    same_PK = np.repeat(shrink_PK[::3], 3, axis=0)  # each penalty three times
    found = least_error([(basis_NK, DenseTargets(y_NC))], same_PK, projected_KC, 80)
    assert found == plain_errors(basis_NK, same_PK, projected_KC, y_NC).argmin()
    assert found % 3 == 0


def test_a_row_that_is_reproduced_rules_nothing_out():
    """One row has a coordinate of its own: without a penalty its leverage is 1 and its error unbounded."""
    x_NK, labels_N = problem(40, 6, 10, 3)
    x_NK = np.c_[x_NK, 100 * (np.arange(40) == 7)]
    basis_NK, shrink_PK, projected_KC, y_NC = decomposed(x_NK, signed_targets(labels_N, 10))
    shrink_PK = np.r_[1 / (1 / shrink_PK[:1] - RELATIVE_PENALTIES[0] / shrink_PK[:1]).clip(1e-12), shrink_PK]
    errors_P = plain_errors(basis_NK, shrink_PK, projected_KC, y_NC)
    assert least_error([(basis_NK, DenseTargets(y_NC))], shrink_PK, projected_KC, 40) == np.nanargmin(errors_P)


@pytest.mark.parametrize(("reproduced", "kept"), [(slice(3, 4), 0), (slice(None), 9)])
def test_bounds_of_rows_that_are_reproduced(reproduced, kept, monkeypatch):
    """At the first nine penalties one such row has no bound from above, and where all are such the error is infinite."""
    x_NK, labels_N = problem(40, 6, 10, 3)
    basis_NK, shrink_PK, projected_KC, y_NC = decomposed(x_NK, signed_targets(labels_N, 10))

    def free(*_):
        free_NP = np.full((40, len(shrink_PK)), 0.5)
        free_NP[reproduced, :9] = 0
        return free_NP

    monkeypatch.setattr(leave_one_out, "_free", free)
    kept_p = possible_penalties([(basis_NK, DenseTargets(y_NC))], shrink_PK, projected_KC, 40)
    assert [penalty for penalty in kept_p if penalty < 9] == list(range(kept, 9))


@pytest.mark.parametrize("offset", [-1.0, 0.3])
def test_classes_are_what_they_are_written_out(offset):
    generator = np.random.default_rng(0)
    labels_N, mean_C = generator.integers(0, 6, 30), generator.normal(size=7)  # the last class has no row
    found = ClassTargets(labels_N, np.full(7, offset)).about(mean_C)
    plain = DenseTargets(found.dense())
    np.testing.assert_allclose(plain.values_NC, offset + 2 * np.eye(7)[labels_N] - mean_C, atol=1e-12)
    x_NK, projected_JC = generator.normal(size=(30, 4)), generator.normal(size=(5, 7))
    assert (len(found), found.outputs, len(plain), plain.outputs) == (30, 7, 30, 7)
    for name, given in (("sums", ()), ("squares", ()), ("cross", (x_NK,)), ("products", (projected_JC,))):
        np.testing.assert_allclose(getattr(found, name)(*given), getattr(plain, name)(*given), atol=1e-10)
    halves = found.at(slice(0, 11)).joined([found.at(np.arange(11, 30))])
    np.testing.assert_array_equal(halves.dense(), found.dense())
    np.testing.assert_array_equal(plain.at(slice(0, 11)).joined([plain.at(slice(11, None))]).dense(), found.dense())
    assert not ClassTargets(labels_N[:0], np.full(7, offset)).cross(x_NK[:0]).any()


def test_few_classes_are_written_out_and_many_are_not():
    labels_N = np.arange(20) % 5
    assert isinstance(one_hot(labels_N, 5, 11), np.ndarray)
    assert isinstance(one_hot(labels_N, 5, 10), ClassTargets)
    np.testing.assert_array_equal(one_hot(labels_N, 5, 11), 2 * np.eye(5)[labels_N] - 1)


def never_many(monkeypatch):
    """Everything written out and computed, as with few classes."""
    for module in (targets, leave_one_out):
        monkeypatch.setattr(module, "has_many", lambda *_: False)


@pytest.mark.parametrize(("rows", "dims", "classes"), [*SHAPES, (20, 30, 10)])
def test_probes_of_many_classes_are_those_of_dense_targets(rows, dims, classes, monkeypatch):
    cases = [problem(rows, dims, classes, seed) for seed in range(3)]
    monkeypatch.setattr(ridge, "BLOCK_ROWS", 16)
    found = [fit_ridge(x_NK, labels_N, classes) for x_NK, labels_N in cases]
    never_many(monkeypatch)
    for (x_NK, labels_N), probe in zip(cases, found, strict=True):
        expected = fit_ridge(x_NK, labels_N, classes)
        assert probe.penalty == pytest.approx(expected.penalty, rel=1e-12)
        np.testing.assert_allclose(probe.weight_CK, expected.weight_CK, rtol=1e-7, atol=1e-10)
        np.testing.assert_allclose(probe.bias_C, expected.bias_C, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_a_ceiling_of_many_classes_has_the_cells_of_the_exact_form(seed, monkeypatch):
    x_ND, labels_N = problem(360, 24, 30, seed, 0.8)
    rows = LabelledFeatures(
        features=x_ND.astype(np.float32),
        keys=[f"{seed}/{row}" for row in range(360)],
        labels_N=labels_N,
        classes=[f"class {label}" for label in range(30)],
    )
    found = ceiling_curve(rows, *streaming_moments(rows.features), shots=(2, 4, None), split_seeds=(100, 101))
    never_many(monkeypatch)
    assert found == ceiling_curve(rows, *streaming_moments(rows.features), shots=(2, 4, None), split_seeds=(100, 101))
    assert len({row["accuracy"] for row in found}) > 5


def test_a_fit_that_is_asked_for_again_is_not_made_again(monkeypatch):
    x_NK, labels_N = problem(60, 8, 5, 0)
    made = []
    plain = gram.Gram.ridge
    monkeypatch.setattr(gram.Gram, "ridge", lambda self: (made.append(len(self.mean_K)), plain(self))[1])
    fits = SubsetFits(x_NK, labels_N, 5)
    first = fits.fit(np.arange(4))
    assert fits.fit(np.arange(4), np.ones(4, np.float32)) is first
    assert fits.fit(np.arange(4), np.full(4, 2.0)) is not first
    assert fits.fit(np.array([0, 1, 2, 4])) is not first
    assert made == [4, 4, 4]


def test_sums_of_classes_are_gathered_block_by_block():
    x_NK, labels_N = problem(50, 4, 9, 1)
    whole = gather_gram([(x_NK, signed_targets(labels_N, 9))], 50)
    blocks = ((x_NK[at : at + 7], one_hot(labels_N[at : at + 7], 9, 4)) for at in range(0, 50, 7))
    found = gather_gram(blocks, 50)
    np.testing.assert_allclose(found.mean_C, whole.mean_C)
    np.testing.assert_allclose(found.cross_KC, whole.cross_KC, atol=1e-10)
    np.testing.assert_allclose(found.sample_targets.dense(), whole.sample_targets.dense(), atol=1e-12)
