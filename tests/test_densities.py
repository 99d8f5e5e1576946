"""Densities against torch.distributions, and scores against the gradient of an independently written log-density."""

import math

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


def test_the_codes_constant_is_the_logsumexp_over_the_pixels_of_one_image(networks):
    """Σ_j (a_j - log Σ_k exp a_k) with a_j = -(x_j - g_j)²/(2 σl²), in plain floats for each chain and image."""
    _, generator = networks
    x, z = torch.rand(3, 1, 8, 8, dtype=torch.float64), torch.randn(4, 3, 5, dtype=torch.float64)
    likelihood = GaussianLikelihood(generator, 0.3, "logsumexp")
    in_nats, in_loss = likelihood.for_loss(x, z)
    for t, row in enumerate(z):
        for b, image in enumerate(generator(row)):
            pairs = zip(x[b].flatten().tolist(), image.flatten().tolist(), strict=True)
            a = [-((pixel - mean) ** 2) / (2 * 0.3**2) for pixel, mean in pairs]
            assert in_loss[t, b].item() == pytest.approx(sum(a) - 64 * math.log(sum(map(math.exp, a))), rel=1e-12)
    assert torch.equal(in_nats, likelihood.log_prob(x, z))
    assert torch.equal(in_nats, GaussianLikelihood(generator, 0.3).for_loss(x, z)[1])


@pytest.mark.parametrize(("size", "thousands"), [(64, 115.7), (32, 24.7)])
def test_the_codes_constant_is_d_ln_d_for_perfect_images(size, thousands):
    """All a_j = 0: the loss is D ln D, the offset of the published losses on CelebA and CIFAR-10; in float32."""
    x = torch.rand(2, 3, size, size)
    likelihood = GaussianLikelihood(lambda z: x.repeat(len(z) // 2, 1, 1, 1), 0.3, "logsumexp")
    d = 3 * size**2
    loss = -likelihood.for_loss(x, torch.zeros(3, 2, 5))[1]
    torch.testing.assert_close(loss, torch.full((3, 2), d * math.log(d)), rtol=1e-6, atol=0)
    assert round(loss[0, 0].item() / 1000, 1) == thousands


def test_unknown_constants_are_refused(networks):
    with pytest.raises(ValueError, match="constant is 'none'; choose 'gaussian' or 'logsumexp'"):
        GaussianLikelihood(networks[1], 0.3, "none")


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


@pytest.mark.parametrize("grad", [False, True])
def test_the_energy_s_score_stays_in_float32_under_autocast(networks, grad):
    """Its backward pass too, alone and in a power posterior, whose t = 0 end is the prior."""
    energy, generator = (network.float() for network in networks)
    prior, z = TiltedPrior(energy, GaussianPrior()), torch.randn(6, 5)
    end = PowerPosterior(prior, GaussianLikelihood(generator), torch.zeros(6, 1, 8, 8), torch.zeros(6))
    with torch.set_grad_enabled(grad):
        exact = prior.score(z)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            scores = [prior.score(z), end.score(z)]
    for score in scores:
        torch.testing.assert_close(score, exact, rtol=0, atol=0)


def test_scores_and_chains_are_the_same_in_inference_mode(small_model):
    """torch.func.grad is zero there on torch 2.6; images and temperatures may be tensors of that mode."""
    model, rng = small_model(), torch.Generator().manual_seed(0)
    z = torch.randn(6, 8, generator=rng)
    with torch.no_grad():
        score = model.prior.score(z)
    with torch.inference_mode():
        assert torch.equal(model.prior.score(z), score)
        assert torch.equal(model.prior.score(z.clone()), score)
    assert score.abs().max() > 0.1
    x, t = torch.rand(6, 1, 8, 8, generator=rng), torch.tensor([0.1, 1.0])
    ends = model.sample_posterior(x, t, model.stream("test"))
    with torch.inference_mode():
        assert torch.equal(model.sample_posterior(x.clone(), t.clone(), model.stream("test")), ends)
        assert torch.equal(model.sample_posterior(x, t, model.stream("test")), ends)
