"""Claims of several comparisons: the rule recomputed with scipy, false positives on curves without a valley, power."""

import math

import numpy as np
import pytest
from scipy import stats

from thermoebm.study.analysis.composite import lowest, valley
from thermoebm.study.analysis.statistics import compare

#: Gradient variances of the report's four batch sizes (CIFAR-10), and seven even ones.
FOUR, SEVEN = np.array([0.0235, 0.0186, 0.0166, 0.0086]), np.linspace(0.02, 0.14, 7)


def cells(rng, means, deviation=1.0, n=5):
    return list(np.asarray(means)[:, None] + np.reshape(deviation, (-1, 1)) * rng.normal(size=(len(means), n)))


def scaled(curve: np.ndarray, by: float) -> np.ndarray:
    return by * (curve - curve.min()) / np.ptp(curve)


#: Curves of the distance without a valley, in standard deviations of repetitions.
MONOTONE = {
    "-log, 4": scaled(-np.log(FOUR), 4),
    "1/GV, 6": scaled(1 / FOUR, 6),
    "1/GV, 40": scaled(1 / FOUR, 40),
    "1/GV, 20, seven places": scaled(1 / SEVEN, 20),
    "flat": np.zeros(4),
    "flat, then rises": np.array([0, 0, 0, 30.0]),
    "falls, then flat": np.array([30.0, 0, 0, 0]),
    "falls, then flat, seven places": np.array([30.0, 0, 0, 0, 0, 0, 0]),
}


def rate(means, tables: int, deviation=1.0, x=None, n: int = 5) -> float:
    """The share of simulated studies whose valley has p < .05; the variance is measured to a hundredth."""
    rng = np.random.default_rng(len(means) + n)
    x = (FOUR if len(means) == 4 else SEVEN) if x is None else x
    return float(
        np.mean(
            [valley(cells(rng, means, deviation, n), cells(rng, x, 0.01 * x, n)).result.p < 0.05 for _ in range(tables)]
        )
    )


def test_p_is_that_of_the_rule_by_scipy():
    """(number of interior places) times the least over them of the largest of four one-sided Welch p-values."""
    rng = np.random.default_rng(0)
    y, x = cells(rng, [2.0, 0.5, 0.0, 1.0, 2.5]), cells(rng, [0, 1.0, 2, 3, 3.2])

    def p(a, b):
        return stats.ttest_ind(a, b, equal_var=False, alternative="greater").pvalue

    every = [max(p(y[0], y[k]), p(y[4], y[k]), p(x[k], x[0]), p(x[4], x[k])) for k in (1, 2, 3)]
    found = valley(y, x)
    assert found.result.p == pytest.approx(3 * min(every), rel=1e-9)
    assert found.at == np.argmin(every)
    assert valley(y, x[::-1]).result.p == pytest.approx(found.result.p, rel=1e-9)  # the variance may fall as well
    means = [side.mean() for side in y]
    assert found.result.effect == pytest.approx(min(means[0], means[4]) - min(means[1:4]), rel=1e-9)


def test_effect_interval_and_p_are_of_one_hypothesis():
    """p < .05 exactly if the interval is above zero; with both ends lowered by the bound, p is .05."""
    rng = np.random.default_rng(1)
    significant = 0
    for _ in range(200):
        y, x = cells(rng, [2.5, 0.5, 0.0, 2.2]), cells(rng, FOUR, 0.001)
        result = valley(y, x).result
        assert (result.p < 0.05) == (result.low > 0)
        assert result.low <= result.effect <= result.high
        significant += result.p < 0.05
        if result.low > -math.inf:
            at_bound = valley([y[0] - result.low, y[1], y[2], y[3] - result.low], x).result.p
            assert at_bound == pytest.approx(0.05, rel=1e-6)
    assert 50 < significant < 200


def test_an_order_of_the_variances_that_is_not_shown_makes_no_valley():
    """Where the places have one variance, the distance is no function of it, however deep its valley in the setting."""
    rng = np.random.default_rng(2)
    y = cells(rng, [9.0, 0, 0, 9])
    assert valley(y, cells(rng, FOUR, 0.001)).result.p < 0.001
    alike = [valley(y, cells(rng, [1.0, 1, 1, 1])).result for _ in range(300)]
    assert np.mean([result.p < 0.05 for result in alike]) < 0.05
    assert min(result.low for result in alike) == -math.inf


@pytest.mark.parametrize("curve", ["1/GV, 40", "flat, then rises", "falls, then flat"])
def test_monotone_curves_have_no_valley(curve):
    """At most .05 and 4 standard errors of 400 studies: 4.4 %. The exhaustive test is the slow one."""
    assert rate(MONOTONE[curve], 400) < 0.05 + 0.044


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("curve", MONOTONE)
def test_false_positives_on_monotone_curves_are_at_most_five_per_cent(curve, n):
    """Of 2,000 studies, within 3 standard errors: 1.5 %."""
    assert rate(MONOTONE[curve], 2000, n=n) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.slow
@pytest.mark.parametrize("deviations", [(3, 1, 1, 1), (1, 1, 4, 1), (1, 1, 1, 4)])
@pytest.mark.parametrize("curve", ["flat, then rises", "falls, then flat"])
def test_unequal_spreads_make_no_more_of_them(curve, deviations):
    """With one pooled variance they are 8 to 11 %; the published cells differ in spread by up to six."""
    assert rate(MONOTONE[curve], 2000, deviations) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.parametrize(("means", "least"), [((3, 0, 0, 3), 0.97), ((3, 3, 0, 3), 0.92), ((3, 3, 3, 0, 3, 3, 3), 0.8)])
def test_a_valley_of_three_standard_deviations_is_found(means, least):
    """Five repetitions. An independent simulation of the rule found .99, .96 and .87; 4 standard errors: .02 to .07."""
    assert rate(np.array(means, float), 400) > least


def test_the_best_of_several_is_not_chosen_by_its_outcome():
    """Both best means are the same, so at most .05, within 4 standard errors of 1,000: 2.8 %; comparing the two cells
    with the best means as if chosen before the data has 6.7 % at 4 against 3."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(1000):
        low, high = cells(rng, [0, 0, 0, 0]), cells(rng, [0, 5, 5])
        found.append(lowest([[compare(b, a) for b in high] for a in low]).result.p < 0.05)
    assert np.mean(found) < 0.05 + 0.028


def test_the_interval_covers_the_depth():
    """At least 95 %, within 4 standard errors of 500: 3.9 %; also where both ends are alike, and where none is deep."""
    rng = np.random.default_rng(4)
    for means, depth in (((3, 3, 0, 3), 3), ((0, 0, 0, 9), 0)):
        results = [valley(cells(rng, means), cells(rng, FOUR, 1e-4)).result for _ in range(500)]
        assert np.mean([result.low <= depth <= result.high for result in results]) > 0.95 - 0.039


def test_a_single_alternative_is_the_least_certain_two_sided_test():
    rng = np.random.default_rng(5)
    low, a, b = cells(rng, [0, 1.0, 1.5])
    result = lowest([[compare(a, low), compare(b, low)]]).result
    p = [stats.ttest_ind(side, low, equal_var=False).pvalue for side in (a, b)]
    assert result.p == pytest.approx(max(p), rel=1e-9)


def test_fewer_than_four_places_are_told():
    three = cells(np.random.default_rng(6), [3, 0, 3])
    with pytest.raises(ValueError, match=r"runs at 3 place\(s\); a fall and a rise take four"):
        valley(three, three)
