"""Spearman's rank correlation with an exact p-value: runs at few levels of a setting are far from Student's t."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from thermoebm.study.analysis.statistics import ALPHA, Result, Values

Integers = NDArray[np.int64]

#: Permutations that stand for all of them where the exact law takes too long; p is at least 1 / (1 + this).
PERMUTATIONS = 100_000

# The most additions for an exact law, about half a second; a step of the recursion costs as much as 3,000 of them.
_MOST_ADDITIONS, _STEP = 500_000_000, 3_000


def spearman(x: Sequence[float] | Values, y: Sequence[float] | Values) -> Result:
    """Spearman's rank correlation ρ; the statistic is Student's t with n - 2 degrees of freedom.

    The p-value is the two-sided permutation test's: the share of all orders of the runs whose |ρ| is at least the
    observed one. Student's t gives extreme orders of few levels far too small a probability (five runs at each of three
    levels, in perfect order: 1.1e-7, where the exact value is 2.6e-6). See :func:`rank_p`.

    The interval is Fisher's with the variance of Bonett and Wright 2000, (1 + ρ²/2) / (n - 3), an approximation. Where
    it disagrees with the exact p-value about zero, it is cut or extended to end there: it has values of both signs
    only if p ≥ .05.

    Raises:
        ValueError: If there are fewer than four pairs, or one side is constant.
    """
    a, b = (_ranks(side) for side in (x, y))
    n = len(a)
    if n < 4 or not a.any() or not b.any():
        raise ValueError("too few different values")
    r = float(np.clip(np.corrcoef(a, b)[0, 1], -1, 1))
    t = r * math.sqrt((n - 2) / (1 - r * r)) if abs(r) < 1 else math.copysign(math.inf, r)
    p = rank_p(a, b)
    width = stats.norm.isf(ALPHA / 2) * math.sqrt((1 + r * r / 2) / (n - 3))
    z = math.atanh(min(abs(r), 1 - 1e-12))
    near, far = math.tanh(z - width), math.tanh(z + width)
    near = max(near, 0.0) if p < ALPHA else min(near, 0.0)
    return Result(r, *((near, far) if r >= 0 else (-far, -near)), t, p)


def _ranks(values: Sequence[float] | Values) -> Integers:
    """Ranks from zero, those of ties averaged, divided so that they are whole numbers without a common factor."""
    doubled = np.rint(2 * stats.rankdata(values)).astype(np.int64)
    doubled -= doubled.min(initial=2 * len(doubled))
    return doubled // max(1, int(np.gcd.reduce(doubled)))


def rank_p(a: Integers, b: Integers) -> float:
    """The share of the permutations of one side whose |Σ a b - its mean| is at least the observed one.

    It is exact where the law of Σ a b is cheap (:func:`_law`): four levels of five runs, ten levels of one. Otherwise
    it is (k + 1) / (B + 1), where k of B random permutations are as extreme, which is a valid p-value itself
    (Phipson and Smyth 2010); the random permutations are always the same.

    Args:
        a, b: Ranks as whole numbers (n,); any shift and scale.
    """
    n, mean = len(a), int(a.sum()) * int(b.sum())  # of n Σ a b
    observed = abs(n * int(a @ b) - mean)
    few, many = sorted((np.sort(a), np.sort(b)), key=_states)
    if _states(few) * len(set(few.tolist())) * (int(few @ many) + _STEP) <= _MOST_ADDITIONS:
        law = _law(tuple(few.tolist()), tuple(many.tolist()))
        return min(1.0, float(law[np.abs(n * np.arange(len(law)) - mean) >= observed].sum()))
    rng, extreme = np.random.default_rng(0), 0
    for _ in range(PERMUTATIONS // 10_000):
        orders = rng.permuted(np.tile(a, (10_000, 1)), axis=1)
        extreme += int((np.abs(n * (orders @ b) - mean) >= observed).sum())
    return (extreme + 1) / (PERMUTATIONS + 1)


def _states(values: Integers) -> int:
    """The number of ways to have used some of the values, equal ones not told apart."""
    return math.prod(int(count) + 1 for count in np.unique(values, return_counts=True)[1])


@lru_cache(maxsize=64)
def _law(few: tuple[int, ...], many: tuple[int, ...]) -> Values:
    """P(Σ few many = s) for s = 0, 1, … over all orders of the first side; both are sorted and not negative.

    The values of ``many`` are dealt one after another to the distinct levels of ``few``. What is left to deal depends
    only on how many of each level are used, so the law is kept for each such count.
    """
    levels = sorted(set(few))
    left = tuple(few.count(level) for level in levels)
    size = sum(a * b for a, b in zip(few, many, strict=True)) + 1  # sorted alike: the largest sum
    first = np.zeros(size)
    first[0] = 1
    laws: dict[tuple[int, ...], Values] = {left: first}
    for dealt, value in enumerate(many):
        following: dict[tuple[int, ...], Values] = {}
        for counts, law in laws.items():
            for i, level in enumerate(levels):
                if counts[i]:
                    then = (*counts[:i], counts[i] - 1, *counts[i + 1 :])
                    if then not in following:
                        following[then] = np.zeros(size)
                    shift = level * value
                    following[then][shift:] += counts[i] / (len(few) - dealt) * law[: size - shift]
        laws = following
    (law,) = laws.values()
    return law
