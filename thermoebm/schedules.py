"""Temperature schedules: where on the path from prior (t = 0) to posterior (t = 1) the integrand is evaluated.

A schedule is even in some coordinate of the path: a power of t, its logarithm, or its thermodynamic length.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from thermoebm.ladders import check, unchecked_equal_length
from thermoebm.ladders import equal_length as equal_length  # for whoever places temperatures
from thermoebm.runtime import processes

Reading = Literal["intervals", "points"]


class Schedule(ABC):
    """Temperatures 0 = t_0 < ... < t_N = 1."""

    @abstractmethod
    def temperatures(self) -> Tensor:
        """The temperatures (T,), float64, ascending from exactly 0 to exactly 1."""

    @abstractmethod
    def describe(self) -> str:
        """The schedule in a few words, for titles and tables."""


def power_law(num_temperatures: int, power: float, reading: Reading = "intervals") -> Tensor:
    """Temperatures t_i = (i/N)^p, ascending from exactly 0 to exactly 1 (report, equation 21).

    The report and its code read N_t differently; both readings are available:

    - ``intervals`` (the report): i = 1..N_t with t_0 = 0 added, so N_t + 1 points and N_t intervals;
    - ``points`` (its code): linspace(0, 1, N_t)^p, so N_t points and N_t - 1 intervals.

    Args:
        num_temperatures: N_t.
        power: p > 0. Above 1 the points concentrate at the prior, below 1 at the posterior.
        reading: What N_t counts.

    Returns:
        Temperatures (T,), float64.

    Raises:
        ValueError: If the schedule has no interval, two temperatures coincide in float64, the power is not positive and
            finite, or the reading is unknown.
    """
    if reading not in ("intervals", "points"):
        raise ValueError(f"Schedule: reading is '{reading}'; choose 'intervals' or 'points'.")
    intervals = _intervals(num_temperatures, reading)
    if intervals < 1:
        least = 1 if reading == "intervals" else 2
        raise ValueError(
            f"Schedule: num_temperatures is {num_temperatures}; reading '{reading}' needs at least {least}."
        )
    if not 0 < power < math.inf:
        raise ValueError(f"Schedule: power is {power}; it must be positive and finite (report: 0.1 to 10).")
    temperatures = _points(intervals, power)
    if not (temperatures.diff() > 0).all():
        raise ValueError(
            f"Schedule: power is {power}; its temperatures coincide: take one from 0.1 to 10, as the report."
        )
    return temperatures


def _intervals(num_temperatures: int, reading: Reading) -> int:
    return num_temperatures if reading == "intervals" else num_temperatures - 1


def _points(intervals: int, power: float) -> Tensor:
    return torch.linspace(0, 1, intervals + 1, dtype=torch.float64) ** power


@dataclass(frozen=True)
class PowerLaw(Schedule):
    """A :func:`power_law` schedule for configs; its fields are the arguments of that function.

    Raises:
        ValueError: As :func:`power_law` does.
    """

    num_temperatures: int = 10
    power: float = 1.0
    reading: Reading = "intervals"

    def __post_init__(self) -> None:
        power_law(self.num_temperatures, self.power, self.reading)

    def temperatures(self) -> Tensor:
        return _points(_intervals(self.num_temperatures, self.reading), self.power)  # checked once, not at every step

    def describe(self) -> str:
        return f"power {self.power:g}"


@dataclass(frozen=True)
class Geometric(Schedule):
    """t_i = first^((N - i)/(N - 1)) for i = 1..N and t_0 = 0: equal ratios from ``first`` to 1.

    Args:
        num_intervals: N, at least 2.
        first: t_1, in (0, 1).

    Raises:
        ValueError: If an argument is out of its range, or two temperatures coincide in float32.
    """

    num_intervals: int = 10
    first: float = 1e-3

    def __post_init__(self) -> None:
        if self.num_intervals < 2 or not 0 < self.first < 1:
            raise ValueError(
                f"Geometric: num_intervals is {self.num_intervals} and first {self.first}; "
                "take at least 2 intervals and a first temperature between 0 and 1."
            )
        check("Geometric", self.temperatures(), f"first is {self.first}")

    def temperatures(self) -> Tensor:
        exponents = torch.linspace(1, 0, self.num_intervals, dtype=torch.float64)
        return torch.cat([exponents.new_zeros(1), self.first**exponents])

    def describe(self) -> str:
        return f"geometric from {self.first:g}"


@dataclass(frozen=True)
class Sigmoidal(Schedule):
    """t_i = (s_i - s_0)/(s_N - s_0) with s_i = 1/(1 + exp(-δ (2i/N - 1))): dense at both ends.

    Source: Grosse, Ghahramani and Adams (2015), arXiv 1511.02543, for annealed importance sampling, with δ = 4.

    Args:
        num_intervals: N, at least 1.
        delta: δ > 0. Near 0 the points are even, above 4 they crowd at 0 and 1.

    Raises:
        ValueError: If an argument is out of its range, or two temperatures coincide in float32.
    """

    num_intervals: int = 10
    delta: float = 4.0

    def __post_init__(self) -> None:
        if self.num_intervals < 1 or not 0 < self.delta < math.inf:
            raise ValueError(
                f"Sigmoidal: num_intervals is {self.num_intervals} and delta {self.delta}; "
                "take at least 1 interval and a positive, finite delta."
            )
        check("Sigmoidal", self.temperatures(), f"delta is {self.delta}")

    def temperatures(self) -> Tensor:
        s = torch.linspace(-self.delta, self.delta, self.num_intervals + 1, dtype=torch.float64).sigmoid()
        return (s - s[0]) / (s[-1] - s[0])

    def describe(self) -> str:
        return f"sigmoidal, delta {self.delta:g}"


@dataclass(frozen=True)
class Temperatures(Schedule):
    """The temperatures of a list.

    Args:
        points: Ascending, from 0 to 1, both included.

    Raises:
        ValueError: If the list has other ends, fewer than 2 points, is not finite, or does not ascend in float32.
    """

    points: list[float]

    def __post_init__(self) -> None:
        check("Temperatures", self.temperatures(), "its points are a list")

    def temperatures(self) -> Tensor:
        return torch.tensor(self.points, dtype=torch.float64)

    def describe(self) -> str:
        return "listed temperatures"


class Adaptive(nn.Module, Schedule):
    """Temperatures at equal thermodynamic length of the model as it learns, which they follow slowly.

    They begin as a power law. After each training step that sampled the whole ladder,

        V_i <- (1 - r) V_i + r (E_i - E_{i-1})/(Δ_i Λ²),    log t_i <- (1 - r) log t_i + r log t*_i,

    with this step's means E_i and its length Λ of the whole ladder, and t* at equal length if V_i is the variance on
    interval i (:func:`thermoebm.ladders.equal_length`). What is averaged first is linear in E, so its noise cancels. At
    rest all intervals have the same length as the chains, short ones with their bias, see it, and neighbours the same
    divergence. t and V are buffers: checkpoints have them.

    Args:
        num_intervals: N, at least 1.
        initial_power: p of the temperatures at first.
        rate: r, in (0, 1]: about 1/r steps are averaged.

    Raises:
        ValueError: If an argument is out of its range.
    """

    points: Tensor
    variances: Tensor

    def __init__(self, num_intervals: int = 10, initial_power: float = 6.0, rate: float = 0.01) -> None:
        if num_intervals < 1 or not 0 < rate <= 1:
            raise ValueError(
                f"Adaptive: num_intervals is {num_intervals} and rate {rate}; take at least 1 interval and a rate "
                "above 0, at most 1."
            )
        super().__init__()
        self.num_intervals, self.initial_power, self.rate = num_intervals, initial_power, rate
        points = power_law(num_intervals, initial_power)
        check("Adaptive", points, f"initial_power is {initial_power}")
        self.register_buffer("points", points)
        self.register_buffer("variances", torch.zeros_like(points[1:]))

    @torch.no_grad()
    def update(self, expected: Tensor) -> None:
        """Moves the temperatures, given E_{t_i}[log p_β(x|z)] (T,) at them, a mean over this process's images.

        All processes must call it in the same steps. Values that are not finite, or never rise, change nothing. No
        device is waited for.
        """
        if expected.shape != self.points.shape:
            raise ValueError(
                f"Adaptive: {tuple(expected.shape)} expected log-likelihoods are given for "
                f"{len(self.points)} temperatures; give one for each."
            )
        expected = processes.mean(expected.to(self.points, copy=True))
        t, delta = self.points, self.points.diff()
        now = expected.diff() / delta
        length = (now.clamp(min=0).sqrt() * delta).sum()
        variances = self.variances.lerp(now / length**2, self.rate)
        rises = (variances * delta).cumsum(0)
        target = unchecked_equal_length(t, torch.cat([rises.new_zeros(1), rises]), self.num_intervals)
        moved = t[1:-1].log().lerp(target[1:-1].log(), self.rate).exp()
        usable = expected.isfinite().all() & (length > 0)
        self.variances.copy_(variances.where(usable, self.variances))
        self.points[1:-1] = moved.where(usable, t[1:-1])

    def temperatures(self) -> Tensor:
        return self.points.double().clone()

    def describe(self) -> str:
        return "adaptive"

    def extra_repr(self) -> str:
        return f"num_intervals={self.num_intervals}, initial_power={self.initial_power:g}, rate={self.rate:g}"
