"""Curvature by secants: exact for quadratics, and right for kinks, which have no second derivative."""

import pytest
import torch

from tests.oracle import DTYPE, LinearGaussian
from thermoebm.densities import GaussianPrior, TiltedPrior
from thermoebm.networks import Energy
from thermoebm.samplers import largest_curvature, secant_curvature


class Kink(Energy):
    """f(z) = -a |n·z|: a ridge whose curvature is all in one plane."""

    def __init__(self, slope, normal):
        super().__init__()
        self.latent_dim, self.slope, self.normal = len(normal), slope, torch.nn.Parameter(normal / normal.norm())

    def forward(self, z):
        return -self.slope * (z @ self.normal).abs()


@pytest.mark.parametrize("width", [0.01, 1.0])
def test_on_a_quadratic_it_is_the_largest_eigenvalue_at_any_width(width):
    oracle = LinearGaussian(True)
    density, z = oracle.power_posterior(0.0, 5), 3 * torch.randn(5, 3, dtype=DTYPE)
    exact = torch.linalg.eigvalsh(oracle.precision(0.0))[-1].item()
    found = secant_curvature(density, z, width, torch.Generator().manual_seed(0), 60)
    assert found.tolist() == pytest.approx([exact] * 5, rel=1e-3)


def test_on_a_kink_it_is_its_jump_over_the_width():
    """The slope changes by 2 a: over a segment of length 2 w across the plane 1/σ0² + 2 a/(2 w), else 1/σ0²."""
    slope, width, normal = 1.7, 0.4, torch.tensor([1.0, -2.0, 0.5], dtype=DTYPE)
    density = TiltedPrior(Kink(slope, normal), GaussianPrior(1.25))
    across, unit = torch.tensor([0.0, 0.02, -0.05, 0.41, -3.0], dtype=DTYPE), normal / normal.norm()
    z = across.unsqueeze(1) * unit
    found = secant_curvature(density, z, width, torch.Generator().manual_seed(1), 60)
    own = 1 / 1.25**2
    expected = [own + slope / width] * 3 + [own] * 2
    assert found.tolist() == pytest.approx(expected, rel=0.02)
    second = largest_curvature(density, z[1:], torch.Generator().manual_seed(1), 60)
    assert second.tolist() == pytest.approx([own] * 4)  # the second derivative knows nothing of it
