"""Densities against torch.distributions, and scores against the gradient of an independently written log-density."""

import pytest
import torch
from torch.distributions import Normal

from tests.oracle import LinearGaussian
from thermoebm.densities import GaussianLikelihood, GaussianPrior, PowerPosterior, TiltedPrior
from thermoebm.networks import ConvGenerator, EnergyMLP


@pytest.fixture
def networks():
    torch.manual_seed(0)
    return EnergyMLP(5, 20).double(), ConvGenerator(5, (1, 8, 8), 2).double()


def test_gaussian_prior_is_normalised():
    z = torch.randn(4, 3, 5, dtype=torch.float64)
    torch.testing.assert_close(GaussianPrior(1.7).log_prob(z), Normal(0, 1.7).log_prob(z).sum(-1))


def test_likelihood_is_a_normal_density_over_all_pixels(networks):
    _, generator = networks
    x, z = torch.rand(3, 1, 8, 8, dtype=torch.float64), torch.randn(4, 3, 5, dtype=torch.float64)
    expected = torch.stack([Normal(generator(row), 0.3).log_prob(x).sum((1, 2, 3)) for row in z])
    torch.testing.assert_close(GaussianLikelihood(generator, 0.3).log_prob(x, z), expected)


def test_power_posterior_matches_the_closed_form_up_to_a_constant():
    oracle = LinearGaussian()
    z = torch.randn(50, 3, dtype=torch.float64)
    for t in (0.0, 0.3, 1.0):
        mean, covariance = oracle.moments(t)
        exact = torch.distributions.MultivariateNormal(mean, covariance).log_prob(z)
        difference = oracle.power_posterior(t, 50).log_prob(z) - exact
        torch.testing.assert_close(difference, difference[0].expand(50))


@pytest.mark.parametrize("recording", [True, False])
def test_scores_are_the_gradients_of_the_log_densities(networks, recording):
    """Every score equals autograd's gradient of the formula written out here, with and without a graph."""
    energy, generator = networks
    x = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    t = torch.tensor([[0.0], [0.2], [1.0]], dtype=torch.float64)
    z = torch.randn(3, 3, 5, dtype=torch.float64, requires_grad=True)
    error = torch.stack([(x - generator(row)).square().sum((1, 2, 3)) for row in z])
    log_prior = energy(z) - z.square().sum(-1) / (2 * 1.2**2)
    log_posterior = -t * error / (2 * 0.3**2) + log_prior

    reference = GaussianPrior(1.2)
    prior = TiltedPrior(energy, reference)
    posterior = PowerPosterior(prior, GaussianLikelihood(generator, 0.3), x, t)
    for density, log_prob in (
        (reference, -z.square().sum(-1) / (2 * 1.2**2)),
        (prior, log_prior),
        (posterior, log_posterior),
    ):
        (expected,) = torch.autograd.grad(log_prob.sum(), z, retain_graph=True)
        with torch.set_grad_enabled(recording):
            torch.testing.assert_close(density.score(z), expected)


def test_log_densities_stay_in_float32_under_autocast(networks):
    energy, generator = (network.float() for network in networks)
    x, z = torch.rand(3, 1, 8, 8), torch.randn(3, 5)
    in_float32 = generator(z)
    prior = TiltedPrior(energy, GaussianPrior())
    posterior = PowerPosterior(prior, GaussianLikelihood(generator, 0.3), x, torch.ones(()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not torch.equal(generator(z).float(), in_float32)  # the generator does run in bfloat16
        assert posterior.log_prob(z).dtype == torch.float32
        under_autocast = prior.log_prob(z)
    torch.testing.assert_close(under_autocast, energy(z) + GaussianPrior().log_prob(z), rtol=0, atol=0)
