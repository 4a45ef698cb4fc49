"""Intervals, paired differences and Holm's correction, against numbers worked by hand and scipy's own tests."""

import pytest
from scipy import stats

from tcs.reporting.intervals import holm, paired_difference, t_interval


def test_interval_worked_by_hand():
    # Mean 4, squares 4 + 0 + 4 over n - 1 = 2: std 2. t(0.975, 2) = 4.302653 (table). Half = 4.302653 * 2 / sqrt 3.
    interval = t_interval([2.0, 4.0, 6.0])
    assert (interval.mean, interval.n, interval.std) == (4.0, 3, 2.0)
    assert interval.half == pytest.approx(4.968275, abs=1e-6)
    # t = 4 / (2 / sqrt 3) = 3.464102; with 2 degrees of freedom p = 1 - t / sqrt(t^2 + 2) = 0.074180.
    assert interval.p == pytest.approx(0.074180, abs=1e-6)


def test_interval_agrees_with_scipy():
    values = [51.2, 49.8, 53.1, 50.0, 47.7]
    result = stats.ttest_1samp(values, 0)
    low, high = result.confidence_interval(0.95)
    interval = t_interval(values)
    assert interval.half == pytest.approx((high - low) / 2)
    assert interval.p == pytest.approx(result.pvalue)


def test_single_value_has_no_interval():
    interval = t_interval([61.5])
    assert (interval.mean, interval.n, interval.half, interval.std, interval.p) == (61.5, 1, None, None, None)


@pytest.mark.parametrize(("value", "p"), [(0.0, 1.0), (2.5, 0.0)])
def test_equal_values_are_certain(value, p):
    interval = t_interval([value] * 3)
    assert (interval.half, interval.p) == (0.0, p)


def test_paired_difference_uses_shared_seeds_only():
    ours = {("0", "a"): 50.0, ("1", "b"): 60.0, ("2", "c"): 70.0}
    theirs = {("2", "c"): 65.0, ("0", "a"): 47.0, ("1", "other split"): 0.0}
    difference = paired_difference(ours, theirs)
    assert (difference.mean, difference.n) == (4.0, 2)
    assert difference.half == pytest.approx(12.7062047, rel=1e-6)  # std sqrt 2, n 2: half = t(0.975, 1)
    assert paired_difference(ours, {("9", "z"): 1.0}) is None


def test_holm_worked_by_hand():
    # Sorted 0.01 0.02 0.03 0.04 times 4 3 2 1 = 0.04 0.06 0.06 0.04; made monotone 0.04 0.06 0.06 0.06.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
