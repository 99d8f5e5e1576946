"""The settings of a run's schedule, from its config."""

import pytest

from thermoebm.runs.settings import settings

PATH = "thermoebm.schedules."


@pytest.mark.parametrize(
    ("schedule", "power", "intervals"),
    [
        ({"num_temperatures": 10, "power": 6, "reading": "intervals"}, 6.0, 10),
        ({"class_path": f"{PATH}PowerLaw", "init_args": {"num_temperatures": 5, "power": 0.1}}, 0.1, 5),
        ({"class_path": f"{PATH}Geometric", "init_args": {"num_intervals": 12, "first": 0.01}}, None, 12),
        ({"class_path": f"{PATH}Adaptive", "init_args": {"num_intervals": 8, "initial_power": 6.0}}, None, 8),
        ({"class_path": f"{PATH}Temperatures", "init_args": {"points": [0, 0.1, 0.5, 1]}}, None, 3),
        ({"class_path": "mine.Schedule", "init_args": {"n": 3}}, None, None),
        (None, None, None),
    ],
)
def test_a_schedule_has_a_power_only_if_it_is_a_power_law(schedule, power, intervals):
    """An adaptive one begins as a power law and is none."""
    objective = {"class_path": "thermoebm.objectives.ThermodynamicIntegration", "init_args": {"schedule": schedule}}
    found = settings({"model": {"init_args": {"objective": objective}}})
    assert (found["power"], found["num_temperatures"]) == (power, intervals)
