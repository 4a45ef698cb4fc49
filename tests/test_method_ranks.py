"""Average ranks, Friedman's test and Nemenyi's critical difference against Demsar's table and scipy."""

import numpy as np
import pytest
from scipy import stats

from tcs.reporting.ranks import (
    common_scores,
    critical_difference,
    friedman_p,
    mean_ranks,
    rank_methods,
    studentised_range,
)


@pytest.mark.parametrize(("k", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)])
def test_critical_values_are_those_of_demsars_table_5(k, q):
    assert critical_difference(k, 14) == pytest.approx(q * np.sqrt(k * (k + 1) / (6 * 14)), rel=5e-4)


@pytest.mark.parametrize("k", [2, 3, 7, 40])
def test_the_studentised_range_is_scipys(k):
    assert studentised_range(k) == pytest.approx(stats.studentized_range.ppf(0.95, k, np.inf), abs=1e-9)


def test_ranks_are_scipys_with_and_without_ties():
    generator = np.random.default_rng(1)
    for scores_Nk in (generator.normal(size=(9, 4)), generator.integers(0, 3, (20, 5)).astype(float)):
        assert np.array_equal(mean_ranks(scores_Nk), stats.rankdata(-scores_Nk, axis=1))


def test_friedman_is_scipys_with_and_without_ties():
    generator = np.random.default_rng(0)
    for scores_Nk in (generator.normal(size=(9, 4)), generator.integers(0, 3, (9, 4)).astype(float)):
        ranks_Nk = stats.rankdata(-scores_Nk, axis=1)
        assert friedman_p(ranks_Nk) == pytest.approx(stats.friedmanchisquare(*scores_Nk.T).pvalue)


def test_friedman_says_nothing_of_two_methods_or_of_ties_alone():
    assert friedman_p(np.array([[1.0, 2.0], [1.0, 2.0]])) is None
    assert friedman_p(np.full((3, 3), 2.0)) is None


def test_ranks_worked_by_hand():
    ranking = rank_methods(np.array([[50.0, 60.0, 40.0], [55.0, 55.0, 40.0]]), ["a", "b", "c"])
    assert ranking.methods == ("b", "a", "c")
    assert ranking.ranks == (1.25, 1.75, 3.0)  # b: 1 and 1.5; a: 2 and 1.5; c: 3 and 3
    assert ranking.conditions == 2


def test_groups_of_methods_that_do_not_differ():
    scores_Nk = np.tile([40.0, 30.0, 20.0, 10.0], (40, 1))  # ranks 1 2 3 4, CD = 2.569 sqrt(20 / 240) = 0.74
    assert rank_methods(scores_Nk, list("abcd")).alike == ()
    few = rank_methods(scores_Nk[:5], list("abcd"))  # CD = 2.569 sqrt(20 / 30) = 2.10
    assert few.critical == pytest.approx(2.0976, abs=1e-3)
    assert few.alike == ((0, 2), (1, 3))


def test_methods_that_few_conditions_have_do_not_take_the_others_conditions():
    by = {1: {"a": 1.0, "b": 2.0}, 2: {"a": 3.0, "b": 1.0}, 3: {"a": 3.0, "b": 4.0, "rare": 9.0}, 4: {"a": 1.0}}
    scores_Nk, methods = common_scores(by)
    assert methods == ["a", "b"]
    assert scores_Nk.tolist() == [[1, 2], [3, 1], [3, 4]]


def test_one_method_has_no_rank():
    with pytest.raises(ValueError, match="ranks need 2 methods and 1 condition, not 1 and 3"):
        rank_methods(np.ones((3, 1)), ["a"])
