"""The tests that claims are judged by: against scipy, closed forms, and their own error rates."""

import math

import numpy as np
import pytest
from scipy import stats

from thermoebm.study.analysis import statistics


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_welch_is_scipys():
    a, b = normal(1, 7), 2 + 3 * normal(2, 5)
    result, theirs = statistics.welch(a, b), stats.ttest_ind(a, b, equal_var=False)
    interval = theirs.confidence_interval(0.95)
    expected = a.mean() - b.mean(), interval.low, interval.high, theirs.statistic, theirs.pvalue
    assert result == pytest.approx(expected, rel=1e-9)


def test_a_comparison_is_one_side_of_welchs_test():
    a, b = normal(1, 7), 3 * normal(2, 5)
    one = statistics.compare(a, b)
    theirs = stats.ttest_ind(a, b, equal_var=False, alternative="greater")
    assert (one.t, one.p) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-9)
    assert one.bound(0.01) == pytest.approx(theirs.confidence_interval(0.99).low, rel=1e-9)


def test_intervals_cover_the_truth():
    """95 % of 2,000, within 4 standard errors: 2 %."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        difference = statistics.welch(1 + rng.normal(size=4), 3 * rng.normal(size=6))
        covered += difference.low < 1 < difference.high
    assert covered / 2000 == pytest.approx(0.95, abs=0.02)


def test_spreads_are_compared_by_their_coefficients_of_variation():
    """Means do not matter; the ratio of groups that are multiples of one another about their mean is exact."""
    shape, a, b = np.array([-1, 0, 1.5]), [2.0, 7.0, 30.0], [5.0, 0.1]
    jitter = iter((1.0, 1.1, 0.9, 1.0, 1.05))
    groups = [
        [mean * (1 + share * next(jitter) * (shape - shape.mean())) for mean in means]
        for share, means in ((0.05, a), (0.2, b))
    ]
    result = statistics.spread_ratio(*groups)
    assert result.effect == pytest.approx(0.25 * (1.1 * 0.9) ** (1 / 3) / 1.05**0.5, rel=1e-9)
    assert result.low < result.effect < result.high < 0.4
    assert statistics.variation([1, 2, 3]) == 0.5
    assert result.p == pytest.approx(
        stats.ttest_ind(*([math.log(statistics.variation(g)) for g in side] for side in groups), equal_var=False).pvalue
    )


def test_holm_is_the_textbooks():
    """Holm 1979: the k-th smallest of m times m - k + 1, never less than one before it."""
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.5, math.nan, 0.9])[::2] == [1.0, 1.0]
    assert math.isnan(statistics.holm([0.5, math.nan, 0.9])[1])


def test_p_values_are_uniform_where_there_is_no_effect():
    """Below .05 in 5 % of 1,000 (within 4 standard errors, 2.8 %), on the table sizes of small studies."""
    rng = np.random.default_rng(5)
    below = np.zeros(3)
    for _ in range(1000):
        p = (
            statistics.welch(rng.normal(size=3), 2 * rng.normal(size=5)).p,
            statistics.spread_ratio(10 + rng.normal(size=(5, 3)), 10 + rng.normal(size=(3, 3))).p,
            statistics.spread_ratio(10 + rng.normal(size=(7, 5)), 10 + 3 * rng.normal(size=(4, 5))).p,
        )
        below += np.array(p) < 0.05
    assert below[:2] / 1000 == pytest.approx(np.full(2, 0.05), abs=0.0276)
    assert below[2] / 1000 > 0.8  # and often where there is one


def test_what_cannot_be_tested_is_told():
    for test, arguments in (
        (statistics.welch, ([1], [1, 2, 3])),
        (statistics.welch, ([1, 1], [2, 2])),
        (statistics.spread_ratio, ([np.array([1.0, 2.0])], [np.array([1.0, 2.0])])),
        (statistics.spread_ratio, ([np.ones(3), np.ones(3)], [np.ones(2), np.ones(2)])),
    ):
        with pytest.raises(ValueError, match=r"too few|no spread|without spread"):
            test(*arguments)
