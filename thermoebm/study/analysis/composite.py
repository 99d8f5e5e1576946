"""Tests of claims that join several comparisons: one of some alternatives is lower than all its others.

The claim that alternative k is lower than its others j = 1 … J joins J comparisons by *and*; it is wrong if one of them
is. Its p-value is therefore the largest of theirs, without a correction (intersection-union test, Berger 1982). The
claim that this is so of any of K alternatives joins them by *or*; its p-value is K times the least (Bonferroni).

The point of both: a comparison chosen by its outcome, such as the best cell of several against another, or the two arms
of a curve beside its observed minimum, is significant too often.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from thermoebm.study.analysis.statistics import ALPHA, Comparison, Result, Values, compare


class Lowest(NamedTuple):
    """The result of a test; which alternative has the least p-value, and the comparisons that it consists of."""

    result: Result
    at: int
    comparisons: Sequence[Comparison]


def lowest(
    alternatives: Sequence[Sequence[Comparison]], conditions: Sequence[Sequence[Comparison]] | None = None
) -> Lowest:
    """Tests that one of K alternatives is lower than each of its J others.

    The effect is the depth θ, the largest over the alternatives of the least difference to the others, in their units:
    how much lower than *all* others an alternative is. Above zero, the claim is true. With d the one-sided Welch tests,

        p    = max(K, 2) min_k max_j p_kj
        low  = max_k min_j (lower bound of d_kj with probability .05 / max(K, 2) to fail)
        high = max_k min_j (upper bound of d_kj with probability .025 / J to fail)

    so that p < .05 exactly if low > 0; a single alternative counts twice, so that its p-value is the two-sided one of
    its least certain comparison. ``low`` fails with a probability of at most .05 (.025 for K = 1), ``high`` of at most
    .025: in simulated studies both together in less than 5 %.

    Args:
        alternatives: The comparisons of each alternative, (other - alternative).
        conditions: Comparisons that must be above zero too for an alternative to count; what they measure may have
            other units, so they enter p, but of the bounds only whether an alternative counts. Where none does, ``low``
            is -inf, as nothing is shown then.
    """
    k = len(alternatives)
    level = ALPHA / max(k, 2)
    given = conditions or [[] for _ in alternatives]
    p = [max(c.p for c in (*of, *must)) for of, must in zip(alternatives, given, strict=True)]
    depths = [min(c.difference for c in of) for of in alternatives]
    lows = [
        min(c.bound(level) for c in of)
        for of, must in zip(alternatives, given, strict=True)
        if all(c.p < level for c in must)
    ]
    highs = [min(c.bound(1 - ALPHA / 2 / len(of)) for c in of) for of in alternatives]
    possible = [all(c.difference > 0 for c in must) for must in given]
    effect = max((d for d, may in zip(depths, possible, strict=True) if may), default=max(depths))
    at = min(range(k), key=lambda i: (p[i], -depths[i]))
    least = max(alternatives[at], key=lambda c: c.p)
    return Lowest(
        Result(effect, max(lows, default=-np.inf), max(highs), least.t, min(1.0, max(k, 2) * p[at])),
        at,
        alternatives[at],
    )


def valley(y: Sequence[Values], x: Sequence[Values]) -> Lowest:
    """Tests that y falls and then rises while x goes up, at places that stand in the order of a setting.

    An interior place is an alternative: it must have a lower mean of y than the first place, and than the last. Two
    conditions make it a valley *in x*: its mean of x must lie above that of one end and below that of the other, by the
    same test. The order is the setting's, which is known without error, and not that of the measured means of x, whose
    noise can turn a fall into a fall and a rise. That the ends are the first and the last place of the setting is a
    choice made before the data; where x is not monotone in the setting, a minimum may be missed.

    Nothing is assumed of the curve. Neither does the test show that it is a parabola: no test can at so few places. On
    monotone curves p < .05 in at most 5 %. An F test of x² against a straight line, or two lines that meet at the
    observed minimum (Simonsohn 2018), find a valley in a fall that flattens.

    Args:
        y, x: The values of the runs at each place, in the order of the setting; at least four places (two interior)
            with two runs each.

    Raises:
        ValueError: If there are too few places or runs, or neither of two compared places has any spread.
    """
    if len(y) < 4:
        raise ValueError(f"runs at {len(y)} place(s); a fall and a rise take four with two runs each")
    up = np.mean(x[0]) <= np.mean(x[-1])
    inner = range(1, len(y) - 1)
    sides = [compare(y[0], y[k]) for k in inner], [compare(y[-1], y[k]) for k in inner]
    ordered = [
        (compare(x[k], x[0]), compare(x[-1], x[k])) if up else (compare(x[0], x[k]), compare(x[k], x[-1]))
        for k in inner
    ]
    return lowest(list(zip(*sides, strict=True)), ordered)
