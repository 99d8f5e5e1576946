"""The tests that claims are judged by: against scipy, closed forms, and their own error rates."""

import math
from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from thermoebm.study.analysis import statistics

X = np.repeat([1.0, 2.0, 4.0, 8.0], 5)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_spearman_is_scipys_where_there_are_too_many_orders_to_count():
    y = X + 3 * normal(0, 20)
    result, theirs = statistics.spearman(X, y), stats.spearmanr(X, y)
    assert (result.effect, result.p) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-10)
    assert result.low < result.effect < result.high
    error = math.sqrt((1 + result.effect**2 / 2) / 17)
    assert math.atanh(result.high) - math.atanh(result.low) == pytest.approx(2 * 1.959964 * error, rel=1e-6)


def test_spearman_of_a_small_table_counts_every_order():
    """Against all 720 permutations; nine runs in order at three levels are one of 1,680 arrangements, or its mirror."""
    x, y = [1, 1, 2, 2, 3, 3], normal(2, 6)
    ranks = stats.rankdata(y)
    every = [abs(np.corrcoef(x, [ranks[i] for i in order])[0, 1]) for order in permutations(range(6))]
    observed = abs(np.corrcoef(x, ranks)[0, 1])
    assert statistics.spearman(x, y).p == pytest.approx(np.mean([value >= observed - 1e-9 for value in every]))
    assert statistics.spearman(np.repeat([3, 1, 2], 3), -np.repeat([3, 1, 2], 3) + 0.01 * np.arange(9)).p == (
        pytest.approx(2 / 1680)
    )


def test_welch_is_scipys():
    a, b = normal(1, 7), 2 + 3 * normal(2, 5)
    result, theirs = statistics.welch(a, b), stats.ttest_ind(a, b, equal_var=False)
    interval = theirs.confidence_interval(0.95)
    expected = a.mean() - b.mean(), interval.low, interval.high, theirs.statistic, theirs.pvalue
    assert result == pytest.approx(expected, rel=1e-9)


def test_a_parabola_is_that_of_the_normal_equations():
    """R², both F tests, vertex and curvature by solving with the design matrix itself."""
    x = np.linspace(3.0, 5.0, 12)
    y = 2 * (x - 4.2) ** 2 + 0.1 * normal(3, 12)
    fit = statistics.parabola(x, y)
    residuals = []
    for degree in range(3):
        design = np.vander(x, degree + 1)
        solution = np.linalg.lstsq(design, y, rcond=None)[0]
        residuals.append(float(((y - design @ solution) ** 2).sum()))
    constant, line, parabola = residuals
    assert fit.term.effect == fit.whole.effect == pytest.approx(1 - parabola / constant)
    assert fit.term.statistic == pytest.approx((line - parabola) / (parabola / 9))
    assert fit.term.p == pytest.approx(stats.f.sf(fit.term.statistic, 1, 9))
    assert fit.whole.p == pytest.approx(stats.f.sf((constant - parabola) / 2 / (parabola / 9), 2, 9))
    assert fit.vertex == pytest.approx(-solution[1] / solution[0] / 2, rel=1e-6)
    assert fit.curvature == pytest.approx(solution[0], rel=1e-6)


def test_the_interval_of_r2_inverts_the_noncentral_f():
    """At its ends the observed F is a 2.5 % tail of the F with noncentrality n R² / (1 - R²)."""
    x = np.linspace(-1, 1, 12)
    fit = statistics.parabola(x, 2 * x**2 + 0.5 * normal(4, 12)).whole
    tails = [stats.ncf.cdf(fit.statistic, 2, 9, 12 * end / (1 - end)) for end in (fit.low, fit.high)]
    assert tails == pytest.approx([0.975, 0.025], abs=1e-6)


def test_intervals_cover_the_truth():
    """95 % of 400, within 4 standard errors: 4.4 %."""
    rng = np.random.default_rng(0)
    x = np.linspace(-1, 1, 12)
    mean = 2 * x**2
    truth = mean.var() / (mean.var() + 0.5**2)  # of a fixed design, noise of deviation 0.5
    covered = np.zeros(2)
    for _ in range(400):
        fit = statistics.parabola(x, mean + 0.5 * rng.normal(size=12)).term
        difference = statistics.welch(1 + rng.normal(size=4), 3 * rng.normal(size=6))
        covered += [fit.low < truth < fit.high, difference.low < 1 < difference.high]
    assert covered / 400 == pytest.approx([0.95, 0.95], abs=0.044)


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


@pytest.mark.parametrize(
    ("count", "simulate"),
    [
        (
            lambda: statistics.repetitions_for_difference(0.8, [0.5, 1.0]),
            lambda rng, n: statistics.welch(0.8 + 0.5 * rng.normal(size=n), 1.0 * rng.normal(size=n)).p,
        ),
        (
            lambda: statistics.repetitions_for_quadratic(0.3, 4),
            lambda rng, n: (
                statistics.parabola(
                    x := np.repeat([-3.0, -1, 1, 3], n), (x**2 - 5) / 4 * math.sqrt(0.3 / 0.7) + rng.normal(size=4 * n)
                ).term.p
            ),
        ),
        (
            lambda: statistics.repetitions_for_rank(0.5, 3),
            lambda rng, n: (
                statistics.spearman(
                    x := rng.normal(size=3 * n), 0.518 * x + math.sqrt(1 - 0.518**2) * rng.normal(size=3 * n)
                ).p
            ),  # Pearson's 0.518 is Spearman's 0.5 of normal variables: 2 sin(π/6 · 0.5)
        ),
        (
            lambda: statistics.repetitions_for_spread(0.5, (7, 4)),
            lambda rng, n: (
                statistics.spread_ratio(10 + 0.5 * rng.normal(size=(7, n)), 10 + 1.0 * rng.normal(size=(4, n))).p
            ),
        ),
    ],
)
def test_so_many_repetitions_find_the_effect_four_times_in_five(count, simulate):
    """Power .8 within .1 (the counts are approximations, 400 simulations), and clearly less with half of them."""
    n, rng = int(count()), np.random.default_rng(1)
    found, halved = (np.mean([simulate(rng, m) < 0.05 for _ in range(400)]) for m in (n, max(2, n // 2)))
    assert found == pytest.approx(0.8, abs=0.1)
    assert halved < 0.68


def test_p_values_are_uniform_where_there_is_no_effect():
    """Below .05 in 5 % of 1,000 (within 4 standard errors, 2.8 %), on the table sizes of small studies."""
    rng = np.random.default_rng(5)
    batches = np.repeat([1.0, 2.0, 3.0], 3)
    below = np.zeros(5)
    for _ in range(1000):
        p = (
            statistics.spearman(batches, rng.normal(size=9)).p,
            statistics.spearman(X, rng.normal(size=20)).p,
            statistics.welch(rng.normal(size=3), 2 * rng.normal(size=5)).p,
            statistics.parabola(x := rng.normal(size=9), x + rng.normal(size=9)).term.p,
            statistics.spread_ratio(10 + rng.normal(size=(5, 3)), 10 + rng.normal(size=(3, 3))).p,
        )
        below += np.array(p) < 0.05
    assert below / 1000 == pytest.approx(np.full(5, 0.05), abs=0.0276)


def test_what_cannot_be_tested_is_told():
    for test, arguments in (
        (statistics.spearman, ([1, 2, 3], [1, 2, 3])),
        (statistics.spearman, ([1, 1, 1, 1], [1, 2, 3, 4])),
        (statistics.spearman, ([1, 2, 3, 4], [1, 1, 1, 1])),
        (statistics.welch, ([1], [1, 2, 3])),
        (statistics.welch, ([1, 1], [2, 2])),
        (statistics.parabola, ([1, 2, 3, 4], [1, 2, 3, 5])),
        (statistics.parabola, ([1, 1, 2, 2, 2], [1, 2, 3, 5, 6])),
        (statistics.spread_ratio, ([np.array([1.0, 2.0])], [np.array([1.0, 2.0])])),
        (statistics.spread_ratio, ([np.ones(3), np.ones(3)], [np.ones(2), np.ones(2)])),
    ):
        with pytest.raises(ValueError, match=r"too few|no spread|without spread"):
            test(*arguments)
