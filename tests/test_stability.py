"""The table of what announces a runaway, and of what prevents it, from runs whose numbers are known."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.stability import announced, at, differences, mean, ran_away, warned

ACCEPTANCE, LARGEST = "prior/corrected_acceptance", "prior/step_times_curvature_max"


def run(**columns):
    """A run of ten epochs; columns that are not given are those of a healthy one."""
    healthy = {"epoch": range(1, 11), "prior/energy_tilt": 5.0, "prior/mean_square": 1.0, ACCEPTANCE: 0.9, LARGEST: 1.0}
    return pd.DataFrame(healthy | columns, index=range(10))


def test_a_run_has_run_away_where_the_alarm_would_not_let_it_pass():
    assert ran_away(run()) is None
    tilt = np.full(10, 5.0)
    tilt[6:] = -8.0, 5.0, -9.0, -1e4
    assert ran_away(run(**{"prior/energy_tilt": tilt})) == 7
    assert ran_away(run(**{"prior/mean_square": [1.0] * 8 + [1e6] * 2})) == 9


def test_a_measure_has_announced_it_from_where_on_it_stays_beyond_its_limit():
    """Once beyond and back again is no announcement; what comes after the runaway does not count."""
    largest = [1.0, 3.0, 1.0, 1.0, 2.1, 4.0, 4.0, 0.2, 0.2, 0.2]
    assert announced(run(**{LARGEST: largest}), LARGEST, before=8) == 5
    assert announced(run(**{LARGEST: largest}), LARGEST, before=None) is None
    assert announced(run(**{LARGEST: [3.0] * 10}), LARGEST, before=8) == 1
    assert announced(run(**{LARGEST: [np.nan, 1, np.nan, 3, np.nan, 3] + [np.nan] * 4}), LARGEST, before=8) == 4
    assert announced(run(**{ACCEPTANCE: [0.9] * 5 + [0.5] * 5}), ACCEPTANCE, before=9) == 6
    assert announced(run(), ACCEPTANCE, before=None) is None


def test_false_warnings_are_counted_in_runs_that_did_not_run_away_and_have_uncorrected_chains():
    low = run(**{ACCEPTANCE: [0.9] * 7 + [0.5] * 3})
    away = run(**{ACCEPTANCE: 0.1, "prior/energy_tilt": -100.0})
    corrected = run(**{ACCEPTANCE: 1.0})
    assert warned([({}, low), ({}, run()), ({}, away), ({}, corrected)]) == "3 of 20"
    assert warned([({}, away), ({}, corrected)]) == ""


def test_differences_are_paired_by_seed():
    ours, theirs = {0: 1.0, 1: 12.0, 5: 7.0}, {1: 10.0, 0: 0.0, 2: 99.0}
    assert differences(ours, theirs) == "+1.5 ± 0.5"
    assert differences({0: 1.0}, theirs) == ""
    assert mean([1.0, 3.0]) == "2 ± 1"
    assert mean([1.0]) == "1"


def test_the_value_at_an_epoch_is_the_last_one_known():
    values = run(**{LARGEST: [1.0, np.nan, 3.0] + [np.nan] * 7})
    assert at(values, LARGEST, 2) == 1.0
    assert at(values, LARGEST, 10) == 3.0
    assert at(values, "absent", 10) != pytest.approx(0)
