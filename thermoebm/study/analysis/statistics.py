"""The statistical tests of the claims: effects with 95 % intervals, p-values, and the repetitions that a test needs.

All p-values are two-sided. Runs are assumed to be independent; repetitions of a cell that share one order of the
training images, as in the report's published results, differ less than independent runs would.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from thermoebm.study.analysis import quadratic

Values = NDArray[np.float64]

#: The level of tests and intervals, and the power for which the number of repetitions is computed.
ALPHA = 0.05
POWER = 0.8

# With at most so many arrangements of the levels, a rank correlation's p-value is exact; else by Student's t.
_MOST_ARRANGEMENTS = 20_000


class Result(NamedTuple):
    """An effect with its 95 % interval, and the statistic and p-value of its test."""

    effect: float
    low: float
    high: float
    statistic: float
    p: float


class Parabola(NamedTuple):
    """The result of a quadratic regression.

    ``term`` is the F test of the parabola against a straight line, ``whole`` that against a constant; both have the
    parabola's R² with its interval as effect. The ``vertex`` is a minimum if the ``curvature`` is positive.
    """

    term: Result
    whole: Result
    curvature: float
    vertex: float


def spearman(x: Sequence[float] | Values, y: Sequence[float] | Values) -> Result:
    """Spearman's rank correlation; the statistic is Student's t with n - 2 degrees of freedom.

    If x has few levels, the t distribution gives the most extreme orders far too small a probability (nine runs at
    three levels: 1e-4, where the exact probability is 1/840). The p-value of a small table is therefore computed
    exactly, over all arrangements. The interval is Fisher's with the variance of Bonett and Wright 2000,
    (1 + r²/2) / (n - 3).

    Raises:
        ValueError: If there are fewer than four pairs, or one side is constant.
    """
    ranks = [stats.rankdata(side) for side in (x, y)]
    n = len(ranks[0])
    if n < 4 or any(np.ptp(side) == 0 for side in ranks):
        raise ValueError("too few different values")
    a, b = (side - side.mean() for side in ranks)
    r = float(np.clip(a @ b / math.sqrt((a @ a) * (b @ b)), -1, 1))
    t = r * math.sqrt((n - 2) / (1 - r * r)) if abs(r) < 1 else math.copysign(math.inf, r)
    arrangements = _arrangements(tuple(sorted(a.tolist())))
    if arrangements is None:
        p = 2 * float(stats.t.sf(abs(t), n - 2))
    else:
        p = float((np.abs(arrangements @ np.sort(b)) >= abs(a @ b) - 1e-9).mean())
    width = stats.norm.isf(ALPHA / 2) * math.sqrt((1 + r * r / 2) / (n - 3))
    z = math.atanh(min(abs(r), 1 - 1e-12)) * math.copysign(1, r)
    return Result(r, math.tanh(z - width), math.tanh(z + width), t, p)


@cache
def _arrangements(values: tuple[float, ...]) -> Values | None:
    """All distinct orders (A, n) of the values, or None if there are too many."""
    levels = sorted(set(values))
    counts = [values.count(level) for level in levels]
    total = math.factorial(len(values))
    for count in counts:
        total //= math.factorial(count)
    if total > _MOST_ARRANGEMENTS:
        return None
    orders: list[list[float]] = [[]]
    for _ in values:
        orders = [
            [*order, level]
            for order in orders
            for level, count in zip(levels, counts, strict=True)
            if order.count(level) < count
        ]
    return np.array(orders)


def welch(a: Sequence[float] | Values, b: Sequence[float] | Values) -> Result:
    """mean(a) - mean(b), and Welch's t test, which allows unequal variances.

    Raises:
        ValueError: If a side has fewer than two values, or both are constant.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    if min(len(a), len(b)) < 2:
        raise ValueError("too few runs on a side")
    of_a, of_b = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    variance = of_a + of_b
    if variance == 0:
        raise ValueError("no spread within either side")
    freedom = variance**2 / (of_a**2 / (len(a) - 1) + of_b**2 / (len(b) - 1))
    effect, error = float(a.mean() - b.mean()), math.sqrt(variance)
    width = float(stats.t.isf(ALPHA / 2, freedom)) * error
    p = 2 * float(stats.t.sf(abs(effect) / error, freedom))
    return Result(effect, effect - width, effect + width, effect / error, p)


def parabola(x: Sequence[float] | Values, y: Sequence[float] | Values) -> Parabola:
    """Fits a parabola, and tests it against a straight line and against a constant.

    Raises:
        ValueError: If there are fewer than five points or fewer than three values of x, or y is constant.
    """
    if len(x) < 5 or len(set(x)) < 3 or np.ptp(y) == 0:
        raise ValueError("too few different values")
    fit = quadratic.fit(x, y)
    low, high = _r2_interval(fit.f, fit.n)
    return Parabola(
        Result(fit.r2, low, high, fit.curvature_f, fit.curvature_p),
        Result(fit.r2, low, high, fit.f, fit.p),
        fit.coefficients[2],
        fit.vertex,
    )


def _r2_interval(f: float, n: int) -> tuple[float, float]:
    """The interval of the parabola's R² (x fixed): at its ends f is the 97.5 % or 2.5 % quantile of a noncentral F."""

    def noncentrality(tail: float) -> float:
        def excess(value: float) -> float:
            return float(stats.ncf.cdf(f, 2, n - 3, value)) - tail

        if excess(1e-9) < 0:
            return 0.0
        top = 10.0 + 4 * f
        while excess(top) > 0 and top < 1e7:
            top *= 2
        return float(optimize.brentq(excess, 1e-9, top)) if excess(top) <= 0 else math.inf

    low, high = noncentrality(1 - ALPHA / 2), noncentrality(ALPHA / 2)
    return tuple(1.0 if value == math.inf else value / (value + n) for value in (low, high))  # type: ignore[return-value]


def variation(values: Sequence[float] | Values) -> float:
    """Coefficient of variation: the standard deviation (with n - 1) over the mean."""
    return float(np.std(values, ddof=1) / np.mean(values))


def spread_ratio(a: Sequence[Values], b: Sequence[Values]) -> Result:
    """Ratio of the geometric mean coefficients of variation of the groups in a to those in b, by Welch's test on logs.

    Each group of runs is one observation. Groups of different sizes bias the ratio a little, as E[log s] grows with the
    size.

    Raises:
        ValueError: If a side has fewer than two groups of two runs, or a group has no spread or a negative mean.
    """
    logs = [[variation(group) for group in side if len(group) > 1] for side in (a, b)]
    if any(value <= 0 for side in logs for value in side):
        raise ValueError("a group without spread, or with a mean below zero")
    effect, low, high, statistic, p = welch(*(np.log(side) for side in logs))
    return Result(math.exp(effect), math.exp(low), math.exp(high), statistic, p)


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number by Holm 1979; a NaN stands for no test, is not counted and stays NaN."""
    corrected = list(map(float, p))
    tests = sorted((value, i) for i, value in enumerate(corrected) if not math.isnan(value))
    most = 0.0
    for rank, (value, i) in enumerate(tests):
        corrected[i] = most = max(most, min(1.0, (len(tests) - rank) * value))
    return corrected


# Repetitions of each cell that detect an effect with probability POWER at level ALPHA, two-sided


def repetitions_for_difference(effect: float, deviations: Sequence[float]) -> float:
    """Repetitions per cell to detect a difference of means, by the noncentral t; deviations are those of both cells."""
    noise = math.sqrt(float(np.square(deviations).mean()))
    if not effect or not math.isfinite(noise):
        return math.nan
    n = max(2, math.floor(2 * (_QUANTILES * noise / effect) ** 2))  # would be enough if the deviation were known
    while True:
        freedom, shift = 2 * n - 2, abs(effect) / (noise * math.sqrt(2 / n)) if noise else math.inf
        if shift > 30 or stats.nct.sf(stats.t.isf(ALPHA / 2, freedom), freedom, shift) >= POWER:
            return n
        n += 1


def repetitions_for_rank(correlation: float, levels: int) -> float:
    """Repetitions per cell to detect a rank correlation, by Fisher's z and Bonett and Wright's variance."""
    wanted = _QUANTILES**2 * (1 + correlation**2 / 2) / math.atanh(abs(correlation)) ** 2
    return math.ceil((wanted + 3) / levels)


def repetitions_for_quadratic(r2: float, levels: int) -> float:
    """Repetitions per cell to detect a curvature that explains r2 of the variance, by the noncentral F."""
    for n in range(2, 10_000):
        freedom = n * levels - 3
        if (
            freedom > 0
            and stats.ncf.sf(stats.f.isf(ALPHA, 1, freedom), 1, freedom, n * levels * r2 / (1 - r2)) >= POWER
        ):
            return n
    return math.inf


def repetitions_for_spread(ratio: float, levels: tuple[int, int]) -> float:
    """Repetitions per cell to detect a ratio of coefficients of variation between two sides, by the noncentral t.

    The logarithm of the standard deviation of n normal values has variance ψ'((n - 1) / 2) / 4.
    """
    freedom, cells = sum(levels) - 2, 1 / levels[0] + 1 / levels[1]
    critical = stats.t.isf(ALPHA / 2, freedom)
    n = 2
    while True:
        shift = abs(math.log(ratio)) / math.sqrt(float(special.polygamma(1, (n - 1) / 2)) / 4 * cells)
        if shift > 30 or stats.nct.sf(critical, freedom, shift) >= POWER:
            return n
        n += 1


_QUANTILES = float(stats.norm.isf(ALPHA / 2) + stats.norm.ppf(POWER))
