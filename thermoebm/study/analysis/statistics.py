"""Two-sided tests with 95 % intervals, and Holm's correction.

Runs are assumed to be independent, here and in all tests of the claims. Repetitions of a cell that share a process or
an order of the training images, as in the report's published results, differ less than independent runs would; p-values
are then too small.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

Values = NDArray[np.float64]

#: The level of tests and intervals.
ALPHA = 0.05


class Result(NamedTuple):
    """An effect with its 95 % interval, and the statistic and p-value of its test."""

    effect: float
    low: float
    high: float
    statistic: float
    p: float


class Comparison(NamedTuple):
    """The difference of two means, its standard error, and Welch and Satterthwaite's degrees of freedom."""

    difference: float
    error: float
    freedom: float

    @property
    def t(self) -> float:
        """Welch's t."""
        return self.difference / self.error

    @property
    def p(self) -> float:
        """The one-sided p-value of a difference above zero."""
        return float(special.stdtr(self.freedom, -self.t))

    def bound(self, tail: float) -> float:
        """The confidence bound that exceeds the true difference with this probability."""
        return self.difference + float(special.stdtrit(self.freedom, tail)) * self.error


def compare(a: Sequence[float] | Values, b: Sequence[float] | Values) -> Comparison:
    """Compares the means of a and b, whose variances may be unequal.

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
    return Comparison(float(a.mean() - b.mean()), math.sqrt(variance), float(freedom))


def welch(a: Sequence[float] | Values, b: Sequence[float] | Values) -> Result:
    """mean(a) - mean(b), and Welch's t test, which allows unequal variances.

    Raises:
        ValueError: As :func:`compare`.
    """
    c = compare(a, b)
    p = 2 * float(special.stdtr(c.freedom, -abs(c.t)))
    return Result(c.difference, c.bound(ALPHA / 2), c.bound(1 - ALPHA / 2), c.t, p)


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
