"""Repetitions of each cell with which a test detects an effect with probability .8 at p < .05, uncorrected.

The power of each test is simulated at the test's own assumption, normal repetitions, with its own degrees of freedom
and not with those of an approximation: with few runs Welch's test has fewer degrees of freedom than both samples
together, and the logarithm of a standard deviation of few values is not normal. The simulated probability has a
standard error of .004 (.006 for ranks); the random numbers are always the same.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from scipy import optimize, special, stats

from thermoebm.study.analysis.statistics import ALPHA, Values

#: The probability with which the relevant effect is detected.
POWER = 0.8

# A power of .8 is known to .004; a whole table of ranks takes longer to simulate.
_DRAWS, _TABLES = 10_000, 4_000
_QUANTILES = float(stats.norm.isf(ALPHA / 2) + stats.norm.ppf(POWER))

# Beyond so many repetitions the simulated power no longer tells n from n + 1, and none of it is feasible.
_MOST = 1_000_000


def for_difference(effect: float, deviations: Sequence[float]) -> float:
    """Repetitions to detect a difference of two means with Welch's t; the deviations are those of both cells.

    nan without an effect or a deviation.
    """
    a, b = map(abs, deviations)
    if not effect or not math.isfinite(a + b):
        return math.nan
    if a + b == 0:
        return 2

    def power(n: int) -> float:
        rng = np.random.default_rng(0)
        squares = [side**2 * _mean_squares(rng, n) for side in (a, b)]
        difference = abs(effect) + math.hypot(a, b) / math.sqrt(n) * rng.normal(size=_DRAWS)
        return float((2 * _tails(np.abs(difference), squares[0], squares[1], n) < ALPHA).mean())

    return _least(power, (_QUANTILES * math.hypot(a, b) / effect) ** 2)


def for_lowest(effect: float, deviation: float, alternatives: int, others: int) -> float:
    """Repetitions to detect that one of the alternatives lies below all its others, each by the effect.

    See :func:`thermoebm.study.analysis.composite.lowest`; all cells have the same deviation. nan without an effect or
    a deviation.
    """
    if not effect or not math.isfinite(deviation):
        return math.nan
    if deviation == 0:
        return 2
    level = ALPHA / max(alternatives, 2)

    def power(n: int) -> float:
        rng = np.random.default_rng(0)
        low, square = rng.normal(size=_DRAWS) / math.sqrt(n), _mean_squares(rng, n)
        for _ in range(others):  # goes on with the draws in which all comparisons so far are significant
            high = abs(effect) / deviation + rng.normal(size=len(low)) / math.sqrt(n)
            found = _tails(high - low, square, _mean_squares(rng, n, len(low)), n) < level
            low, square = low[found], square[found]
        return len(low) / _DRAWS

    return _least(power, 2 * ((stats.norm.isf(level) + stats.norm.ppf(POWER)) * deviation / effect) ** 2)


@cache
def for_rank(correlation: float, levels: int) -> float:
    """Repetitions to detect a rank correlation of normal values whose mean rises evenly over the levels.

    The values at level i, i = 1 … m, are N(a i, 1), and a gives the correlation of the level with the value's place in
    the distribution of all values: E[F(y) | i] is the mean over j of Φ(a (i - j) / √2). inf if no a does.
    """
    i = np.arange(levels, dtype=float)

    def excess(a: float) -> float:
        place = special.ndtr(a * (i[:, None] - i) / math.sqrt(2)).mean(1)
        return float(((i - i.mean()) * place).mean() / i.std() * math.sqrt(12)) - abs(correlation)

    if excess(100.0) <= 0:
        return math.inf
    means = float(optimize.brentq(excess, 0, 100)) * i

    def power(n: int) -> float:
        rng = np.random.default_rng(0)
        at, freedom = np.repeat(i - i.mean(), n), levels * n - 2
        found, critical = 0, float(stats.t.isf(ALPHA / 2, freedom))
        for _ in range(_TABLES // 100):
            ranks = (np.repeat(means, n) + rng.normal(size=(100, levels * n))).argsort(1).argsort(1)
            r = ranks @ at / math.sqrt(float(at @ at) * ranks[0].var() * at.size)
            found += int((np.abs(r) * np.sqrt(freedom / (1 - r * r)) > critical).sum())
        return found / _TABLES

    wanted = _QUANTILES**2 * (1 + correlation**2 / 2) / math.atanh(abs(correlation)) ** 2  # Bonett and Wright 2000
    return _least(power, (wanted + 3) / levels * 0.9)


@cache
def for_spread(ratio: float, groups: tuple[int, int]) -> float:
    """Repetitions to detect a ratio of coefficients of variation between two sides with Welch's t on their logarithms.

    The standard deviation of n normal values is that of a χ² with n - 1 degrees of freedom.
    """

    def power(n: int) -> float:
        rng = np.random.default_rng(0)
        sides = [np.log(rng.chisquare(n - 1, (_DRAWS, count))) / 2 for count in groups]
        difference = sides[0].mean(1) - sides[1].mean(1) + math.log(ratio)
        squares = [side.var(1, ddof=1) for side in sides]
        return float((2 * _tails(np.abs(difference), squares[0], squares[1], *groups) < ALPHA).mean())

    # log s has a variance of about 1 / (2 (n - 1)).
    return _least(power, 1 + (_QUANTILES / math.log(ratio)) ** 2 * (1 / groups[0] + 1 / groups[1]) / 2)


def _least(power: Callable[[int], float], start: float) -> float:
    """The least n ≥ 2 with a power of at least :data:`POWER`, sought upwards from a number that is rather too small."""
    n = max(2, math.floor(min(start, _MOST)))
    short, step = n - 1, 1 + n // 16
    while power(n) < POWER:
        if n >= _MOST:
            return math.inf
        short, n, step = n, n + step, 2 * step
    while n - short > 1:
        middle = (short + n) // 2
        short, n = (short, middle) if power(middle) >= POWER else (middle, n)
    return n


def _mean_squares(rng: np.random.Generator, n: int, draws: int = _DRAWS) -> Values:
    """Variances (with n - 1) of n standard normal values."""
    return rng.chisquare(n - 1, draws) / (n - 1)


def _tails(difference: Values, a: Values, b: Values, n: int, m: int | None = None) -> Values:
    """P(T > t) of Welch's t, of differences of means of n and of m (None: n) values with variances a and b."""
    of_a, of_b, m = a / n, b / (m or n), m or n
    freedom = (of_a + of_b) ** 2 / (of_a**2 / (n - 1) + of_b**2 / (m - 1))
    return np.asarray(special.stdtr(freedom, -difference / np.sqrt(of_a + of_b)))
