"""Schedules against equation 21 of the report, written out."""

import pytest
import torch

from thermoebm.schedules import PowerLaw, power_law


@pytest.mark.parametrize("power", [0.1, 0.3, 1, 3, 6, 10])
def test_both_readings_of_equation_21(power):
    of_the_report = torch.tensor([0.0] + [(i / 10) ** power for i in range(1, 11)], dtype=torch.float64)
    of_the_code = torch.tensor([(i / 9) ** power for i in range(10)], dtype=torch.float64)
    torch.testing.assert_close(power_law(10, power), of_the_report)
    torch.testing.assert_close(power_law(10, power, "points"), of_the_code)


@pytest.mark.parametrize("power", [0.1, 1, 10])
def test_the_ends_are_exact_and_the_order_strict(power):
    temperatures = PowerLaw(30, power).temperatures()
    assert temperatures[0] == 0
    assert temperatures[-1] == 1
    assert (temperatures.diff() > 0).all()


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
def test_impossible_schedules(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        PowerLaw(*arguments)
