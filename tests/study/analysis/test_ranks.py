"""Spearman's test: its exact law against every order and closed forms, and its random permutations against that law."""

import math
from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from thermoebm.study.analysis import ranks
from thermoebm.study.analysis.ranks import spearman


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_rho_is_scipys():
    x = np.repeat([1.0, 2.0, 4.0, 8.0], 5)
    y = np.round(x + 3 * normal(0, 20))  # with ties
    result, theirs = spearman(x, y), stats.spearmanr(x, y)
    assert result.effect == pytest.approx(theirs.statistic, rel=1e-12)
    of_ranks = stats.pearsonr(stats.rankdata(x), stats.rankdata(y))  # its p-value is Student's
    assert 2 * stats.t.sf(result.statistic, 18) == pytest.approx(of_ranks.pvalue, rel=1e-9)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([1, 1, 2, 2, 3, 3], [0.1, -0.4, 0.9, 0.2, 0.8, 1.1]),
        ([1, 1, 2, 2, 3, 3], [2, 1, 2, 3, 3, 3]),  # ties in both
        ([1, 5, 5, 5, 9, 10, 11], [3, 1, 2, 2, 7, 2, 4]),  # groups of different sizes
        ([4, 3, 1, 2, 6, 5], [1, 2, 3, 5, 4, 6]),
        ([1, 1, 1, 2, 2, 2], [1, 3, 5, 2, 4, 6]),
    ],
)
def test_p_counts_every_order(x, y):
    """Against all n! permutations of the ranks, with the correlation of each."""
    at, ranked = stats.rankdata(x), stats.rankdata(y)
    every = np.abs([np.corrcoef(at, ranked[list(order)])[0, 1] for order in permutations(range(len(x)))])
    observed = abs(np.corrcoef(at, ranked)[0, 1])
    assert spearman(x, y).p == pytest.approx((every >= observed - 1e-9).mean(), rel=1e-12)


def test_p_is_scipys_permutation_test():
    """Against scipy's own exact enumeration of 8! orders, by pairings."""
    x, y = np.array([1, 1, 1, 2, 2, 3, 3, 3]), [0.3, 0.1, 0.7, 0.2, 0.9, 0.5, 0.8, 1.5]
    theirs = stats.permutation_test(
        (y,),
        lambda values, axis: np.sum((stats.rankdata(values, axis=axis) - 4.5) * (x - 2), axis=axis),
        permutation_type="pairings",
        n_resamples=math.inf,
        vectorized=True,
    )
    assert spearman(x, y).p == pytest.approx(theirs.pvalue, rel=1e-9)


@pytest.mark.parametrize(("levels", "runs"), [(2, 4), (3, 3), (3, 5), (4, 5), (5, 4), (3, 10)])
def test_a_perfect_order_is_one_arrangement_or_its_mirror(levels, runs):
    """2 (k!)^m of the (km)! orders; five runs at three levels: 2.643e-6, where Student's t says 1.1e-7."""
    x = np.repeat(np.arange(levels)[::-1] ** 2, runs)
    result = spearman(x, -x - 0.01 * np.arange(len(x)) / len(x))
    exact = 2 * math.factorial(runs) ** levels / math.factorial(levels * runs)
    assert result.p == pytest.approx(exact, rel=1e-9)
    if (levels, runs) == (3, 5):
        assert exact == pytest.approx(2.643e-6, rel=1e-3)
        assert 2 * stats.t.sf(abs(result.statistic), 13) == pytest.approx(1.13e-7, rel=0.01)


def test_the_law_has_the_variance_of_a_rank_sum():
    """Of permutations Σ a b has the mean n ā b̄ and the variance Σ (a - ā)² Σ (b - b̄)² / (n - 1)."""
    few, many = (0, 0, 0, 3, 3, 5, 5, 5, 5, 9), (0, 1, 2, 2, 2, 6, 7, 8, 8, 11)
    law = ranks._law(few, many)
    s = np.arange(len(law))
    mean = law @ s
    assert law.sum() == pytest.approx(1, rel=1e-12)
    assert mean == pytest.approx(np.mean(few) * np.mean(many) * 10, rel=1e-12)
    assert law @ (s - mean) ** 2 == pytest.approx(np.var(few) * np.var(many) * 100 / 9, rel=1e-12)


def test_random_permutations_agree_with_the_exact_law(monkeypatch):
    """Within 4 standard errors, sqrt(p (1 - p) / 100,000); none as extreme gives 1 / 100,001 and never zero."""
    x = np.repeat([1, 2, 3, 4], 5)
    tables = [x + spread * normal(seed, 20) for seed, spread in ((1, 3.0), (2, 4.0), (3, 0.01))]
    exact = [spearman(x, y).p for y in tables]
    monkeypatch.setattr(ranks, "_MOST_ADDITIONS", 0)
    drawn = [spearman(x, y).p for y in tables]
    assert exact[2] < 1e-9
    assert drawn[2] == 1 / (ranks.PERMUTATIONS + 1)
    for p, estimate in zip(exact[:2], drawn[:2], strict=True):
        assert 0.001 < p < 0.5
        assert estimate == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / ranks.PERMUTATIONS))
    assert drawn == [spearman(x, y).p for y in tables]  # the same each time


def test_the_interval_is_fishers_and_excludes_zero_only_if_p_does():
    """The approximate interval disagrees with the exact p in about 2 % of tables; there it ends at zero."""
    x, error = np.repeat([1, 2, 3, 4], 3), []
    ends_at_zero = 0
    for seed in range(300):
        result = spearman(x, 0.5 * x + normal(seed, 12))
        r, low, high = result.effect, result.low, result.high
        width = 1.959964 * math.sqrt((1 + r * r / 2) / 9)
        fisher = [math.tanh(math.atanh(r) - width), math.tanh(math.atanh(r) + width)]
        assert low <= r <= high
        assert (low < 0 < high) <= (result.p >= 0.05)
        assert (low > 0 or high < 0) <= (result.p < 0.05)
        if 0 in (low, high):
            ends_at_zero += 1
        else:
            error.append(np.abs(np.subtract([low, high], fisher)).max())
    assert 0 < ends_at_zero < 30
    assert max(error) < 1e-6


def test_too_few_values_are_told():
    for x, y in (([1, 2, 3], [1, 2, 3]), ([1, 1, 1, 1], [1, 2, 3, 4]), ([1, 2, 3, 4], [1, 1, 1, 1]), ([], [])):
        with pytest.raises(ValueError, match="too few different values"):
            spearman(x, y)
