"""The figure of the integrand: does it show the numbers it was given?"""

import re

import numpy as np
import pytest
import torch

from thermoebm.callbacks.integrand import integrand_figure


def test_integrand_figure_draws_the_ladder_and_its_numbers():
    """The line is (t, E), and the title has the trapezium and both Riemann sums as numpy computes them."""
    t, e = np.linspace(0, 1, 6) ** 3, np.array([-900.0, -310.0, -120.0, -40.0, -11.5, 3.25])
    figure = integrand_figure(torch.tensor(t), torch.tensor(e), "power 3")
    np.testing.assert_allclose(figure.axes[0].lines[0].get_xydata(), np.stack([t, e], 1))
    numbers = [float(n) for n in re.findall(r"(?:power|trapezium|sum) (-?[\d.]+)", figure.get_suptitle())]
    area = float(((e[1:] + e[:-1]) / 2 * np.diff(t)).sum())
    expected = [3, area, float((e[:-1] * np.diff(t)).sum()), float((e[1:] * np.diff(t)).sum())]
    np.testing.assert_allclose(numbers, expected, atol=0.05 + 1e-9)


def test_every_rung_can_be_told_from_the_next_although_most_are_at_t_0():
    """At p = 6 the first five of eleven dots lie within 2 % of the axis of t; a second panel spaces all evenly."""
    t = (torch.arange(11) / 10) ** 6
    figure = integrand_figure(t, torch.linspace(-120, -20, 11), "power 6")
    figure.draw_without_rendering()
    against_t, against_i = (axes.transData.transform(axes.lines[0].get_xydata())[:, 0] for axes in figure.axes)
    assert (np.diff(against_t)[:4] < 0.02 * figure.axes[0].bbox.width).all()
    assert np.diff(against_i) == pytest.approx(np.diff(against_i)[0])
    assert np.diff(against_i)[0] > 20  # pixels
    assert figure.axes[1].lines[0].get_ydata() == pytest.approx(np.linspace(-120, -20, 11))
