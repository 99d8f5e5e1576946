"""How the report's claims are tested: the test of each, and the smallest relevant effect."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from thermoebm.study.analysis import composite, repetitions, selection, statistics
from thermoebm.study.analysis.ranks import spearman
from thermoebm.study.analysis.statistics import Result, Values
from thermoebm.study.planning.columns import REGIMES

VANILLA, SMALL_POWERS, LARGE_POWERS = REGIMES


@dataclass(frozen=True)
class Relevant:
    """The smallest effects that would matter.

    Args:
        correlation: Spearman's ρ, in absolute value.
        difference: The difference of two means, as a share of the reference's mean; the depth of a minimum, as a share
            of the mean there.
        ratio: The largest ratio of coefficients of variation that counts as a smaller spread.
    """

    correlation: float = 0.3
    difference: float = 0.1
    ratio: float = 0.8


class Outcome(NamedTuple):
    """The outcome of a test. ``favours`` is positive if the effect has the claimed direction; ``irrelevant`` is true if
    the interval excludes every relevant effect in that direction."""

    result: Result
    effect_name: str
    test: str
    n: int
    favours: float
    irrelevant: bool
    repetitions: float
    note: str = ""


class Untestable(ValueError):
    """A claim cannot be tested on the runs of a table."""


#: The power p at which the report finds the best samples.
BEST_POWER = 6.0

#: A test of runs with finite numbers: the column that is measured; ``x`` is the gradient variance.
Test = Callable[[pd.DataFrame, str, Relevant], Outcome]


def trend(setting: str, sign: int) -> Test:
    """Whether the measured quantity rises (+1) or falls (-1) with a setting: Spearman's ρ, or Welch's t for two levels.

    The note gives the mean at each level, and Welch's test of each level against the first: the largest batch size, or
    the smallest level of another setting.
    """

    def test(runs: pd.DataFrame, measured: str, relevant: Relevant) -> Outcome:
        levels = _levels(runs, setting, measured)
        if len(levels) < 2:
            raise Untestable(f"runs at {len(levels)} level(s) of {setting}; it takes two")
        names = sorted(levels, reverse=setting == "batch_size")
        note = _means(setting, names, levels) + _against(names[0], names[1:], levels)
        if len(levels) == 2:
            return _difference(levels[max(names)], levels[min(names)], sign, relevant, note)
        of = runs.dropna(subset=[setting])
        result = spearman(of[setting].to_numpy(float), of[measured].to_numpy(float))
        worst = result.high if sign > 0 else -result.low
        needed = repetitions.for_rank(relevant.correlation, len(levels))
        return Outcome(
            *(result, "Spearman's ρ", "Spearman", len(of), sign * result.effect),
            *(worst < relevant.correlation, needed, note),
        )

    return test


def _levels(runs: pd.DataFrame, setting: str, measured: str) -> dict[float, Values]:
    """The measured values at each level of a setting, from the lowest level to the highest."""
    return {float(level): part[measured].to_numpy(float) for level, part in runs.groupby(setting)}


def _difference(a: Values, b: Values, sign: int, relevant: Relevant, note: str) -> Outcome:
    """Tests the difference of the means of a and of the reference b, by Welch's t."""
    result = statistics.welch(a, b)
    least = relevant.difference * abs(float(b.mean()))
    worst = result.high if sign > 0 else -result.low
    needed = repetitions.for_difference(least, [float(a.std(ddof=1)), float(b.std(ddof=1))])
    return Outcome(
        *(result, "difference", "Welch t", len(a) + len(b), sign * result.effect, worst < least, needed, note)
    )


def _means(setting: str, names: list[float], levels: dict[float, Values]) -> str:
    means = ", ".join(f"{levels[name].mean():.3g}" for name in names)
    return f"means at {setting} {', '.join(f'{name:g}' for name in names)}: {means}"


def _against(first: float, others: list[float], levels: dict[float, Values]) -> str:
    told = []
    for name in others:
        if min(len(levels[name]), len(levels[first])) > 1 and np.ptp([*levels[name], *levels[first]]) > 0:
            result = statistics.welch(levels[first], levels[name])
            told.append(f"{name:g}: t = {result.statistic:.1f}, p = {result.p:.2g}")
    return f"; Welch of {first:g} against " + "; ".join(told) if told else ""


def _lowest(
    found: composite.Lowest, alternatives: list[Values], others: list[Values], relevant: Relevant
) -> tuple[int, float, bool, float]:
    """The last values of an outcome, without the note, of a test that an alternative is lower than all others.

    Repetitions are those that the alternative with the least p-value needs, at the spread of its cell and the others.
    """
    lowest = alternatives[found.at]
    least = relevant.difference * abs(float(lowest.mean()))
    deviation = math.sqrt(float(np.mean([cell.var(ddof=1) for cell in (lowest, *others)])))
    needed = repetitions.for_lowest(least, deviation, len(alternatives), len(others))
    n = sum(map(len, alternatives + others))
    return n, found.result.effect, found.result.high < least, needed


def best_at(power: float) -> Test:
    """Whether samples at a power are better than at both neighbouring powers, by :func:`composite.lowest`."""

    def test(runs: pd.DataFrame, measured: str, relevant: Relevant) -> Outcome:
        levels = _levels(runs, "power", measured)
        below, above = [p for p in levels if p < power], [p for p in levels if p > power]
        if power not in levels or not below or not above:
            raise Untestable(f"it takes runs at p = {power:g} and on both sides of it")
        neighbours = [max(below), min(above)]
        found = composite.lowest([[statistics.compare(levels[p], levels[power]) for p in neighbours]])
        names = sorted(levels)
        best = min(names, key=lambda name: float(levels[name].mean()))
        note = f"lowest mean at p = {best:g}; " + _means("power", names, levels) + _against(power, neighbours, levels)
        worse = min(neighbours, key=lambda p: float(levels[p].mean()))
        of = _lowest(found, [levels[power]], [levels[p] for p in neighbours], relevant)
        test_name = "Welch t, the lesser of both neighbours"
        return Outcome(found.result, f"difference to p = {worse:g}", test_name, *of, note)

    return test


def valley(name: str) -> Test:
    """Whether the distance falls and then rises with the gradient variance x over a regime: :func:`composite.valley`.

    The places are the levels of the setting that the regime varies, batch size or power.
    """
    setting = "batch_size" if name == VANILLA else "power"

    def test(runs: pd.DataFrame, measured: str, relevant: Relevant) -> Outcome:
        y, x = (_levels(runs, setting, column) for column in (measured, "x"))
        places = [place for place in y if len(y[place]) > 1]
        found = composite.valley([y[place] for place in places], [x[place] for place in places])
        inner, ends = places[1:-1], (places[0], places[-1])
        at = inner[found.at]
        beside = [f"{e:g}: t = {c.t:.1f}, p = {c.p:.2g}" for e, c in zip(ends, found.comparisons, strict=True)]
        note = f"{_means(setting, places, y)}; variances {_numbers(places, x)}; "
        note += f"one-sided Welch of {at:g} against the ends {'; '.join(beside)}"
        if found.result.low == -math.inf:
            note += "; the variance is not shown to lie between those of the ends"
        if alone := [f"{place:g}" for place in y if place not in places]:
            note += f"; left out, as one run has no spread: {', '.join(alone)}"
        of = _lowest(found, [y[place] for place in inner], [y[place] for place in ends], relevant)
        return Outcome(found.result, "depth", "Welch t, a fall and a rise", *of, note)

    return test


def _numbers(names: list[float], levels: dict[float, Values]) -> str:
    return ", ".join(f"{levels[name].mean():.3g}" for name in names)


def _groups(runs: pd.DataFrame, measured: str, setting: str) -> list[Values]:
    return [values for values in _levels(runs, setting, measured).values() if len(values) > 1]


def _both_models(runs: pd.DataFrame, measured: str) -> tuple[list[Values], list[Values]]:
    """The cells of TI by power and those of the vanilla model by batch size, with two runs each."""
    vanilla = selection.in_regime(runs, VANILLA)
    return _groups(selection.powers(runs), measured, "power"), _groups(vanilla, measured, "batch_size")


def smaller_spread(runs: pd.DataFrame, measured: str, relevant: Relevant) -> Outcome:
    """Whether repetitions vary less in gradient variance within a power than within a batch size."""
    powers, batches = _both_models(runs, measured)
    if min(len(powers), len(batches)) < 2:
        raise Untestable("it takes two runs at each of two powers and two batch sizes")
    result = statistics.spread_ratio(powers, batches)
    medians = [float(np.median([statistics.variation(group) for group in side])) for side in (powers, batches)]
    note = f"median coefficient of variation {medians[0]:.2g} over powers, {medians[1]:.2g} over batch sizes"
    return Outcome(
        result,
        "ratio of variation",
        "Welch t on their logarithms",
        sum(map(len, powers + batches)),
        -math.log(result.effect),
        result.low > relevant.ratio,
        repetitions.for_spread(relevant.ratio, (len(powers), len(batches))),
        note,
    )


def vanilla_is_better(runs: pd.DataFrame, measured: str, relevant: Relevant) -> Outcome:
    """Whether some batch size has better samples than every power, by :func:`composite.lowest`."""
    ti, vanilla = _both_models(runs, measured)
    if not ti or not vanilla:
        raise Untestable("it takes two runs of both models")
    found = composite.lowest([[statistics.compare(a, b) for a in ti] for b in vanilla])
    best = [min(float(group.mean()) for group in side) for side in (vanilla, ti)]
    note = f"best means {best[0]:.3g} (vanilla) and {best[1]:.3g} (TI)"
    return Outcome(
        found.result, "difference", "Welch t, the least of all pairs", *_lowest(found, vanilla, ti, relevant), note
    )
