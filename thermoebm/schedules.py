"""Temperature schedules: where on the path from prior (t = 0) to posterior (t = 1) the integrand is evaluated."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Reading = Literal["intervals", "points"]


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
class PowerLaw:
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
        """The schedule's temperatures (T,), float64."""
        return _points(_intervals(self.num_temperatures, self.reading), self.power)  # checked once, not at every step
