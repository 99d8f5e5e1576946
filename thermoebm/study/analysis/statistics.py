"""The tests that claims are judged by: effects with 95 % intervals, p-values, and how many runs an effect would need.

All p-values are two-sided. Runs are taken for independent: repetitions of a cell that share an order of the training
images, as in the report's published results, differ less than that.
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

#: Of intervals, and of the power that repetitions are counted for.
ALPHA = 0.05
POWER = 0.8

# Up to so many arrangements of the levels a rank correlation's p-value is exact; beyond, Student's t approximates it.
_MOST_ARRANGEMENTS = 20_000


class Result(NamedTuple):
    """An effect, its 95 % interval, the test's statistic and p-value."""

    effect: float
    low: float
    high: float
    statistic: float
    p: float


class Parabola(NamedTuple):
    """What a quadratic regression says.

    ``term`` is the F test of its quadratic term against a straight line, with R² and its interval as effect; ``whole``
    that of the parabola against a constant. ``vertex`` is a minimum where the ``curvature`` is positive.
    """

    term: Result
    whole: Result
    curvature: float
    vertex: float


def spearman(x: Sequence[float] | Values, y: Sequence[float] | Values) -> Result:
    """Spearman's rank correlation; the statistic is Student's t with n - 2 degrees of freedom.

    With few levels of x the t distribution makes the most extreme orders far too improbable (nine runs at three levels:
    1e-4 for what one arrangement in 840 gives), so that small tables are enumerated. The interval is Fisher's with the
    variance of Bonett and Wright 2000, (1 + r²/2) / (n - 3).

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
    """All different orders (A, n) of the values, or None if they are too many."""
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
    """A parabola, and whether it says more than a straight line and than a constant.

    Raises:
        ValueError: If there are fewer than five points, or three values of x.
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
    """Of the parabola's R², from the noncentral F distributions (fixed x) of which f is a 2.5 % tail."""

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
    """Coefficient of variation: standard deviation (n - 1) over the mean."""
    return float(np.std(values, ddof=1) / np.mean(values))


def spread_ratio(a: Sequence[Values], b: Sequence[Values]) -> Result:
    """Typical coefficient of variation within the groups a over that within b: exp of Welch's test on its logarithms.

    Each group of runs is one observation. Groups of different sizes bias it a little: E[log s] grows with the size.

    Raises:
        ValueError: If a side has fewer than two groups of two runs, or a group no spread.
    """
    logs = [[variation(group) for group in side if len(group) > 1] for side in (a, b)]
    if any(value <= 0 for side in logs for value in side):
        raise ValueError("a group without spread, or with a mean below zero")
    effect, low, high, statistic, p = welch(*(np.log(side) for side in logs))
    return Result(math.exp(effect), math.exp(low), math.exp(high), statistic, p)


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number by Holm 1979; NaN is no test, counts for nothing and stays."""
    corrected = list(map(float, p))
    tests = sorted((value, i) for i, value in enumerate(corrected) if not math.isnan(value))
    most = 0.0
    for rank, (value, i) in enumerate(tests):
        corrected[i] = most = max(most, min(1.0, (len(tests) - rank) * value))
    return corrected


# Repetitions of each cell with which an effect is found with probability POWER at level ALPHA, two-sided


def repetitions_for_difference(effect: float, deviations: Sequence[float]) -> float:
    """Of two cells, to find a difference of means, by the noncentral t; deviations are those of the two cells."""
    noise = math.sqrt(float(np.square(deviations).mean()))
    if not effect or not math.isfinite(noise):
        return math.nan
    n = max(2, math.floor(2 * (_QUANTILES * noise / effect) ** 2))  # enough if the deviation were known
    while True:
        freedom, shift = 2 * n - 2, abs(effect) / (noise * math.sqrt(2 / n)) if noise else math.inf
        if shift > 30 or stats.nct.sf(stats.t.isf(ALPHA / 2, freedom), freedom, shift) >= POWER:
            return n
        n += 1


def repetitions_for_rank(correlation: float, levels: int) -> float:
    """Of so many cells, to find a rank correlation, by Fisher's z and Bonett and Wright's variance."""
    wanted = _QUANTILES**2 * (1 + correlation**2 / 2) / math.atanh(abs(correlation)) ** 2
    return math.ceil((wanted + 3) / levels)


def repetitions_for_quadratic(r2: float, levels: int) -> float:
    """Of so many cells, to find a curvature that explains r2 of the variance, by the noncentral F."""
    for n in range(2, 10_000):
        freedom = n * levels - 3
        if (
            freedom > 0
            and stats.ncf.sf(stats.f.isf(ALPHA, 1, freedom), 1, freedom, n * levels * r2 / (1 - r2)) >= POWER
        ):
            return n
    return math.inf


def repetitions_for_spread(ratio: float, levels: tuple[int, int]) -> float:
    """Of each cell on two sides, to find a ratio of coefficients of variation, by the noncentral t.

    Of n normal values the logarithm of the standard deviation has variance ψ'((n - 1) / 2) / 4.
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
