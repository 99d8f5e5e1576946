"""The maximum mean discrepancy against its closed form for Gaussians."""

import math

import pytest
import torch

from thermoebm.metrics import rbf_mmd2


def exact(gamma, d, shift):
    """MMD² of N(0, I) and N(shift, I): E k = (1 + 4γ)^-d/2 exp(-γ|Δ|²/(1 + 4γ)) for a distance Δ of the means."""
    scale = (1 + 4 * gamma) ** (-d / 2)
    return 2 * scale - 2 * scale * math.exp(-gamma * shift**2 * d / (1 + 4 * gamma))


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_unbiased_for_gaussians(shift):
    """100 repetitions with 100 and 150 samples: the mean is the closed form within 4 standard errors."""
    rng = torch.Generator().manual_seed(0)
    estimates = torch.stack(
        [
            rbf_mmd2(torch.randn(100, 4, generator=rng), shift + torch.randn(150, 4, generator=rng), 0.05)
            for _ in range(100)
        ]
    )
    standard_error = estimates.std() / 10
    assert abs(estimates.mean() - exact(0.05, 4, shift)) < 4 * standard_error
    assert standard_error < 2e-3  # a tenth of the distance itself


def test_identical_sets_are_not_penalised_for_being_finite():
    x = torch.randn(50, 1, 8, 8)
    gram = torch.exp(-0.05 * torch.cdist(x.flatten(1), x.flatten(1)).square()).double()
    biased = gram.sum() / 50**2
    assert rbf_mmd2(x, x, 0.05).item() == pytest.approx(2 * ((gram.sum() - 50) / (50 * 49) - biased).item(), abs=1e-6)
