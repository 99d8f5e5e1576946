"""So many repetitions have the power they state: each test is simulated anew, on raw values."""

import math

import numpy as np
import pytest
from scipy import special, stats

from thermoebm.study.analysis import repetitions

TABLES = 4000
ERROR = math.sqrt(0.8 * 0.2 / TABLES)  # of a simulated power, .006; that of the search itself is .004 (.006 for ranks)


def welch(a: np.ndarray, b: np.ndarray, alternative: str = "two-sided") -> np.ndarray:
    """scipy's p-values of pairs of samples in rows."""
    return stats.ttest_ind(a, b, axis=-1, equal_var=False, alternative=alternative).pvalue


def difference(rng, n, effect, deviations):
    a, b = (deviation * rng.normal(size=(TABLES, n)) for deviation in deviations)
    return welch(a + effect, b) < 0.05


def lowest(rng, n, effect, alternatives, others):
    """One cell below the others; the best of the alternatives is that cell, as all others are far above."""
    low = rng.normal(size=(TABLES, n))
    p = [welch(effect + rng.normal(size=(TABLES, n)), low, "greater") for _ in range(others)]
    return max(alternatives, 2) * np.max(p, axis=0) < 0.05


def spread(rng, n, ratio, groups):
    logs = []
    for count, share in zip(groups, (0.01 * ratio, 0.01), strict=True):
        values = 1 + share * rng.normal(size=(TABLES, count, n))
        logs.append(np.log(values.std(axis=2, ddof=1) / values.mean(axis=2)))
    return welch(*logs) < 0.05


def rank(rng, n, slope, levels):
    """Values whose mean rises by a slope from level to level; Student's t of their ranks."""
    at = np.repeat(np.arange(levels), n)
    ranked = stats.rankdata(slope * at + rng.normal(size=(TABLES, levels * n)), axis=1)
    r = (ranked - ranked.mean(1, keepdims=True)) @ (at - at.mean()) / (n * levels * ranked.std(1) * at.std())
    return 2 * stats.t.sf(np.abs(r) * np.sqrt((n * levels - 2) / (1 - r * r)), n * levels - 2) < 0.05


def slope_of(correlation: float, levels: int) -> float:
    """The slope at which ranks and levels correlate so, found on a large sample of quantiles."""
    at = np.repeat(np.arange(levels), 4000)
    noise = np.tile(special.ndtri((np.arange(4000) + 0.5) / 4000), levels)
    grid = np.linspace(0.01, 2, 400)
    found = [stats.spearmanr(at, slope * at + noise).statistic for slope in grid[::20]]
    return float(np.interp(correlation, found, grid[::20]))


@pytest.mark.parametrize(
    ("needed", "simulate", "arguments"),
    [
        (repetitions.for_difference, difference, (0.8, [0.5, 1.0])),
        (repetitions.for_difference, difference, (1.5, [1.0, 0.1])),  # four degrees of freedom, not eight
        (repetitions.for_difference, difference, (0.6, [1.0, 0.0])),
        (repetitions.for_spread, spread, (0.5, (7, 4))),
        (repetitions.for_spread, spread, (0.6, (6, 3))),
    ],
)
def test_so_many_repetitions_find_the_effect_four_times_in_five(needed, simulate, arguments):
    """At n the power is .8 or more, at n - 1 less, each within 4 standard errors of both simulations."""
    n, rng = int(needed(*arguments)), np.random.default_rng(1)
    power, before = (simulate(rng, m, *arguments).mean() for m in (n, n - 1))
    margin = 4 * math.hypot(ERROR, 0.004)
    assert 0.8 - margin < power < 0.88
    assert before < 0.8 + margin


@pytest.mark.parametrize(("alternatives", "others"), [(1, 2), (2, 2), (5, 2), (4, 7)])
def test_so_many_repetitions_find_the_lowest_cell(alternatives, others):
    n, rng = int(repetitions.for_lowest(1.2, 1.0, alternatives, others)), np.random.default_rng(2)
    power, before = (lowest(rng, m, 1.2, alternatives, others).mean() for m in (n, n - 1))
    margin = 4 * math.hypot(ERROR, 0.004)
    assert 0.8 - margin < power < 0.86
    assert before < 0.8 + margin


@pytest.mark.parametrize(("correlation", "levels"), [(0.3, 3), (0.3, 5), (0.5, 4)])
def test_so_many_repetitions_find_a_rank_correlation(correlation, levels):
    n, rng = int(repetitions.for_rank(correlation, levels)), np.random.default_rng(3)
    slope = slope_of(correlation, levels)
    power, before = (rank(rng, m, slope, levels).mean() for m in (n, n - 1))
    margin = 4 * math.hypot(ERROR, 0.006)
    assert 0.8 - margin < power < 0.85
    assert before < 0.8 + margin


def test_where_no_number_can_be_given():
    assert math.isnan(repetitions.for_difference(0.0, [1, 1]))
    assert math.isnan(repetitions.for_difference(1.0, [1, math.nan]))
    assert math.isnan(repetitions.for_lowest(0.0, 1.0, 2, 2))
    assert repetitions.for_difference(1.0, [0, 0]) == repetitions.for_lowest(1.0, 0.0, 2, 2) == 2
    assert repetitions.for_difference(1e-9, [1, 1]) == math.inf
    assert repetitions.for_rank(0.99, 3) == math.inf  # three levels cannot tell apart all values of a level
