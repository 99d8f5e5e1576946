"""Schedules against equation 21 of the report and other formulas, written out; what is no schedule is told."""

import math

import pytest
import torch

from thermoebm.schedules import Adaptive, Geometric, PowerLaw, Sigmoidal, Temperatures, power_law

EVERY = [
    *(PowerLaw(30, power) for power in (0.1, 1, 10)),
    *(PowerLaw(2, 3, "points"), Geometric(2, 1e-30), Geometric(100, 1e-6), Sigmoidal(1, 1.0), Sigmoidal(7, 1e-3)),
    *(Sigmoidal(3000, 4.0), Temperatures([0, 1]), Temperatures([0.0, 1e-40, 0.3, 1.0]), Adaptive(1), Adaptive(30, 0.3)),
]


@pytest.mark.parametrize("power", [0.1, 0.3, 1, 3, 6, 10])
def test_both_readings_of_equation_21(power):
    of_the_report = torch.tensor([0.0] + [(i / 10) ** power for i in range(1, 11)], dtype=torch.float64)
    of_the_code = torch.tensor([(i / 9) ** power for i in range(10)], dtype=torch.float64)
    torch.testing.assert_close(power_law(10, power), of_the_report)
    torch.testing.assert_close(power_law(10, power, "points"), of_the_code)


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
def test_the_ends_are_exact_and_the_order_strict(schedule):
    """In float32 too, in which chains run."""
    temperatures = schedule.temperatures()
    assert temperatures.dtype == torch.float64
    assert temperatures[0] == 0
    assert temperatures[-1] == 1
    assert (temperatures.float().diff() > 0).all()


def test_geometric_temperatures_have_one_ratio():
    t = Geometric(8, 1e-4).temperatures()
    torch.testing.assert_close(t[2:] / t[1:-1], torch.full((7,), 1e4 ** (1 / 7), dtype=torch.float64))
    assert len(t) == 9
    assert t[1] == pytest.approx(1e-4, rel=1e-14)


@pytest.mark.parametrize("delta", [0.5, 4.0])
def test_sigmoidal_temperatures_are_those_of_the_paper(delta):
    """β_i = (β̃_i - β̃_0)/(β̃_N - β̃_0), β̃_i = σ(δ(2i/N - 1)), which is symmetric about 1/2."""
    raw = [1 / (1 + math.exp(-delta * (2 * i / 6 - 1))) for i in range(7)]
    of_the_paper = torch.tensor([(b - raw[0]) / (raw[-1] - raw[0]) for b in raw], dtype=torch.float64)
    t = Sigmoidal(6, delta).temperatures()
    torch.testing.assert_close(t, of_the_paper)
    torch.testing.assert_close(t + t.flip(0), torch.ones_like(t))


def test_a_list_is_taken_to_the_last_bit():
    assert Temperatures([0, 0.1, 0.7, 1]).temperatures().tolist() == [0, 0.1, 0.7, 1]


def test_adaptive_temperatures_begin_as_a_power_law_and_are_copies():
    schedule = Adaptive(12, 3.0)
    before = schedule.temperatures()
    assert torch.equal(before, power_law(12, 3.0))
    before.fill_(0.5)
    assert torch.equal(schedule.temperatures(), power_law(12, 3.0))


def test_each_says_what_it_is():
    every = (PowerLaw(10, 6.0), Geometric(10, 1e-3), Sigmoidal(10, 4.0), Temperatures([0, 1]), Adaptive())
    told = [schedule.describe() for schedule in every]
    assert told == ["power 6", "geometric from 0.001", "sigmoidal, delta 4", "listed temperatures", "adaptive"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((0, 1.0), "num_temperatures is 0"),
        ((1, 1.0, "points"), "needs at least 2"),
        ((10, 0.0), "power is 0.0; it must be positive"),
        ((10, float("nan")), "must be positive and finite"),
        ((10, float("inf")), "must be positive and finite"),
        ((10, 1e3), "power is 1000.0; its temperatures coincide"),  # 0.1^1000 is zero
        ((10, 1e-20), "power is 1e-20; its temperatures coincide"),  # and 0.1^1e-20 one
        ((10, 1.0, "both"), "reading is 'both'"),
    ],
)
def test_impossible_power_laws(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        PowerLaw(*arguments)


@pytest.mark.parametrize(
    ("kind", "arguments", "sentence"),
    [
        (Geometric, (1, 0.1), "num_intervals is 1 and first 0.1; take at least 2"),
        (Geometric, (10, 0.0), "first 0.0; take"),
        (Geometric, (10, 1.0), "first 1.0; take"),
        (Geometric, (10, math.nan), "first nan; take"),
        (Geometric, (3, 1e-300), "first is 1e-300 and temperatures 0 and 1 coincide in float32"),
        (Sigmoidal, (0, 4.0), "num_intervals is 0"),
        (Sigmoidal, (10, -4.0), "delta -4.0; take"),
        (Sigmoidal, (10, math.inf), "delta inf; take"),
        (Sigmoidal, (10, 80.0), "delta is 80.0 and temperatures 7 and 8 coincide in float32"),  # 1 - e^-48 is 1
        (Sigmoidal, (10, 1e-20), "delta is 1e-20 and not every temperature is finite"),
        (Temperatures, ([],), "there are 0 temperatures; give at least 2"),
        (Temperatures, ([0],), "there are 1 temperatures"),
        (Temperatures, ([0.1, 1],), "go from 0.1 to 1; they must begin at 0 and end at 1"),
        (Temperatures, ([0, 0.9],), "go from 0 to 0.9; they must"),
        (Temperatures, ([0, math.nan, 1],), "not every temperature is finite"),
        (Temperatures, ([0, 0.6, 0.5, 1],), "temperatures 1 and 2 descend; each must exceed the one before"),
        (Temperatures, ([0, 0.5, 0.5, 1],), "temperatures 1 and 2 coincide in float32"),
        (Temperatures, ([0, 0.5, 0.5 + 1e-9, 1],), "temperatures 1 and 2 coincide in float32"),
        (Adaptive, (0,), "num_intervals is 0 and rate 0.01; take at least 1"),
        (Adaptive, (10, 6.0, 0.0), "rate 0.0; take"),
        (Adaptive, (10, 6.0, 1.1), "rate 1.1; take"),
        (Adaptive, (10, -1.0), "power is -1.0; it must be positive"),
        (Adaptive, (10, 60.0), "initial_power is 60.0 and temperatures 0 and 1 coincide in float32"),
    ],
)
def test_impossible_schedules(kind, arguments, sentence):
    """One sentence; 0.1^60 is a number in float64 and nothing in float32."""
    with pytest.raises(ValueError, match=sentence) as raised:
        kind(*arguments)
    assert "\n" not in str(raised.value)
