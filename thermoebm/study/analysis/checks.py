"""How the report's claims are tested: the choice of runs, the test, and the smallest relevant effect."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from thermoebm.study.analysis import statistics
from thermoebm.study.analysis.statistics import Result, Values
from thermoebm.study.planning.columns import REGIMES, is_extension, regime

VANILLA, SMALL_POWERS, LARGE_POWERS = REGIMES

#: Runs that agree in these settings differ only by chance; a claim lets one of the settings vary.
SETTINGS = [
    *("objective", "estimator", "power", "batch_size", "num_temperatures"),
    *("posterior_steps", "prior_steps", "eta", "features"),
]


@dataclass(frozen=True)
class Relevant:
    """The smallest effects that would matter.

    Args:
        correlation: Spearman's ρ, in absolute value.
        difference: The difference of two means, as a share of the reference's mean.
        r2: The R² of a parabola.
        ratio: The largest ratio of coefficients of variation that counts as a smaller spread.
    """

    correlation: float = 0.3
    difference: float = 0.1
    r2: float = 0.1
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


def in_regime(runs: pd.DataFrame, name: str) -> pd.DataFrame:
    """The runs of one regime, without those that vary anything besides batch size and power."""
    return runs[(regime(runs) == name) & ~is_extension(runs)]


def varied(runs: pd.DataFrame, setting: str) -> pd.DataFrame:
    """The runs of the group named after a setting, and the runs of the groups batch and power that differ from them in
    this setting alone.

    If the group's own runs differ in other settings too, only the runs with their most frequent combination are
    kept.
    """
    others = [name for name in SETTINGS if name != setting]
    keys = pd.Series([tuple(map(str, row)) for row in runs[others].itertuples(index=False)], runs.index, dtype=object)
    group = runs["group"] == setting
    shared = Counter(keys[group]).most_common(1)
    return runs[(group | ~is_extension(runs)) & keys.isin([key for key, _ in shared])]


#: The power p at which the report finds the best samples.
BEST_POWER = 6.0

Select = Callable[[pd.DataFrame], pd.DataFrame]
Test = Callable[[pd.DataFrame, str, Relevant], Outcome]


def regime_runs(name: str) -> Select:
    return lambda runs: in_regime(runs, name)


def varied_runs(setting: str) -> Select:
    return lambda runs: varied(runs, setting)


def trend(select: Select, setting: str, sign: int) -> Test:
    """Whether the measured quantity rises (+1) or falls (-1) with a setting: Spearman's ρ, or Welch's t for two levels.

    The note gives the mean at each level, and Welch's test of each level against the first: the largest batch size, or
    the smallest level of another setting.
    """

    def test(runs: pd.DataFrame, measured: str, relevant: Relevant) -> Outcome:
        runs = select(runs).dropna(subset=[setting])
        levels = {float(level): part[measured].to_numpy() for level, part in runs.groupby(setting)}
        if len(levels) < 2:
            raise Untestable(f"runs at {len(levels)} level(s) of {setting}; it takes two")
        names = sorted(levels, reverse=setting == "batch_size")
        note = _means(setting, names, levels) + _against(names[0], names[1:], levels)
        if len(levels) == 2:
            return _difference(levels[max(names)], levels[min(names)], sign, relevant, note)
        result = statistics.spearman(runs[setting].to_numpy(float), runs[measured].to_numpy())
        worst = result.high if sign > 0 else -result.low
        needed = statistics.repetitions_for_rank(relevant.correlation, len(levels))
        return Outcome(
            *(result, "Spearman's ρ", "Spearman", len(runs), sign * result.effect),
            *(worst < relevant.correlation, needed, note),
        )

    return test


def _difference(a: Values, b: Values, sign: int, relevant: Relevant, note: str) -> Outcome:
    """Tests the difference of the means of a and of the reference b, by Welch's t."""
    result = statistics.welch(a, b)
    least = relevant.difference * abs(float(b.mean()))
    worst = result.high if sign > 0 else -result.low
    needed = statistics.repetitions_for_difference(least, [a.std(ddof=1), b.std(ddof=1)])
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


def best_at(power: float) -> Test:
    """Whether samples at a power are better than at both neighbouring powers, by the less certain of two Welch tests.

    The power is a minimum only if both neighbours are worse, so the less significant test decides for both together
    (intersection-union).
    """

    def test(runs: pd.DataFrame, measured: str, relevant: Relevant) -> Outcome:
        runs = runs[(runs["objective"] == "ti") & ~is_extension(runs)]
        levels = {float(level): part[measured].to_numpy() for level, part in runs.groupby("power")}
        below, above = [p for p in levels if p < power], [p for p in levels if p > power]
        if power not in levels or not below or not above:
            raise Untestable(f"it takes runs at p = {power:g} and on both sides of it")
        neighbours = [max(below), min(above)]
        worse, _ = min(
            ((n, statistics.welch(levels[n], levels[power])) for n in neighbours), key=lambda pair: pair[1].statistic
        )
        names = sorted(levels)
        lowest = min(names, key=lambda name: float(levels[name].mean()))
        note = f"lowest mean at p = {lowest:g}; " + _means("power", names, levels)
        note += _against(power, neighbours, levels)
        outcome = _difference(levels[worse], levels[power], 1, relevant, note)
        return outcome._replace(
            effect_name=f"difference to p = {worse:g}",
            test="Welch t, the lesser of both neighbours",
            n=sum(len(levels[p]) for p in (*neighbours, power)),
        )

    return test


def parabola(name: str) -> Test:
    """Whether the distance has a minimum in the variance x: the F test of a parabola against a straight line."""

    def test(runs: pd.DataFrame, measured: str, relevant: Relevant) -> Outcome:
        runs = in_regime(runs, name).dropna(subset=["x"])
        fit = statistics.parabola(runs["x"].to_numpy(), runs[measured].to_numpy())
        inside = runs["x"].min() <= fit.vertex <= runs["x"].max()
        cells = runs.groupby(["batch_size", "power"], dropna=False).ngroups
        note = (
            f"vertex at {fit.vertex:.3g}, {'inside' if inside else 'outside'} the range, a "
            f"{'minimum' if fit.curvature > 0 else 'maximum'}; against a constant F = {fit.whole.statistic:.3g}, "
            f"p = {fit.whole.p:.2g}"
        )
        needed = statistics.repetitions_for_quadratic(relevant.r2, cells)
        favours = fit.curvature if inside else 0.0
        return Outcome(
            *(fit.term, "R²", "F, quadratic against linear", len(runs)),
            favours,
            fit.term.high < relevant.r2,
            needed,
            note,
        )

    return test


def _groups(runs: pd.DataFrame, measured: str, setting: str) -> list[Values]:
    return [part[measured].to_numpy() for _, part in runs.groupby(setting) if len(part) > 1]


def smaller_spread(runs: pd.DataFrame, measured: str, relevant: Relevant) -> Outcome:
    """Whether repetitions vary less in gradient variance within a power than within a batch size."""
    powers = _groups(runs[(runs["objective"] == "ti") & ~is_extension(runs)], measured, "power")
    batches = _groups(in_regime(runs, VANILLA), measured, "batch_size")
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
        statistics.repetitions_for_spread(relevant.ratio, (len(powers), len(batches))),
        note,
    )


def vanilla_is_better(runs: pd.DataFrame, measured: str, relevant: Relevant) -> Outcome:
    """Whether the best batch size has better samples than the best power; the best has the lowest mean distance."""
    ti = _groups(runs[(runs["objective"] == "ti") & ~is_extension(runs)], measured, "power")
    vanilla = _groups(in_regime(runs, VANILLA), measured, "batch_size")
    if not ti or not vanilla:
        raise Untestable("it takes two runs of both models")
    a, b = (min(side, key=lambda group: float(group.mean())) for side in (ti, vanilla))
    note = f"best means {b.mean():.3g} (vanilla) and {a.mean():.3g} (TI)"
    return _difference(a, b, 1, relevant, note)
