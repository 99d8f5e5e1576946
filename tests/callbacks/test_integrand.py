"""The figure of the integrand: does it show the numbers it was given?"""

import re

import numpy as np
import torch

from thermoebm.callbacks.integrand import integrand_figure


def test_integrand_figure_draws_the_ladder_and_its_numbers():
    """The line is (t, E), and the title has the trapezium and both Riemann sums as numpy computes them."""
    t, e = np.linspace(0, 1, 6) ** 3, np.array([-900.0, -310.0, -120.0, -40.0, -11.5, 3.25])
    (axes,) = integrand_figure(torch.tensor(t), torch.tensor(e), power=3).axes
    np.testing.assert_allclose(axes.lines[0].get_xydata(), np.stack([t, e], 1))
    numbers = [float(n) for n in re.findall(r"(?:=|trapezium|sum) (-?[\d.]+)", axes.get_title())]
    area = float(((e[1:] + e[:-1]) / 2 * np.diff(t)).sum())
    expected = [3, area, float((e[:-1] * np.diff(t)).sum()), float((e[1:] * np.diff(t)).sum())]
    np.testing.assert_allclose(numbers, expected, atol=0.05 + 1e-9)
