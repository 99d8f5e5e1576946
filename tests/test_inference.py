"""The path from an encoder's Gaussian to the posterior, against formulas of torch.distributions."""

import pytest
import torch
from torch.distributions import Independent, Normal

from thermoebm.densities import DiagonalGaussian, GaussianLikelihood, GaussianPrior, InferredPosterior
from thermoebm.networks import ConvGenerator

IMAGES, LATENTS, PRIOR, PIXEL = 3, 5, 1.3, 0.4


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def parts():
    """The generator, q_φ of the images, and the images."""
    torch.manual_seed(0)
    generator = ConvGenerator(LATENTS, (1, 8, 8), 2).double()
    inferred = DiagonalGaussian(randn(IMAGES, LATENTS, seed=1), randn(IMAGES, LATENTS, seed=2))
    return generator, inferred, torch.tanh(randn(IMAGES, 1, 8, 8, seed=3))


def path(parts, t):
    generator, inferred, x = parts
    prior, likelihood = GaussianPrior(PRIOR), GaussianLikelihood(generator, PIXEL)
    return InferredPosterior(inferred, prior, likelihood, x, torch.as_tensor(t, dtype=torch.float64))


def ends(parts, z):
    """log q_φ(z|x) and log p_θ(x|z) + log p(z) of z (R, B, d), by formulas of their own."""
    generator, (mean, log_variance), x = parts
    inferred = Independent(Normal(mean, log_variance.exp().sqrt()), 1).log_prob(z)
    images = torch.stack([generator(row) for row in z])
    joint = Normal(images, PIXEL).log_prob(x).sum((2, 3, 4)) + Normal(0, PRIOR).log_prob(z).sum(-1)
    return inferred, joint


def test_it_goes_from_the_encoders_gaussian_to_the_joint_density(parts):
    """At t = 0 and t = 1 each with its constant, and between them on the straight line of logarithms."""
    z = randn(4, IMAGES, LATENTS, seed=4)
    inferred, joint = ends(parts, z)
    torch.testing.assert_close(path(parts, 0.0).log_prob(z), inferred)
    torch.testing.assert_close(path(parts, 1.0).log_prob(z), joint)
    torch.testing.assert_close(path(parts, 0.3).log_prob(z), 0.7 * inferred + 0.3 * joint)
    torch.testing.assert_close(path(parts, 0.3).tempered(z), joint - inferred)


@pytest.mark.parametrize("recording", [True, False])
@pytest.mark.parametrize("t", [0.0, 0.25, 1.0, [[0.0], [0.1], [0.6], [1.0]]])
def test_terms_and_scores_are_those_of_autograd(parts, t, recording):
    """One temperature of all chains z (R, B, d), or one for each of them (R, 1)."""
    z = randn(4, IMAGES, LATENTS, seed=4).requires_grad_()
    density, at = path(parts, t), torch.as_tensor(t, dtype=torch.float64)
    inferred, joint = ends(parts, z)
    expected = (1 - at) * inferred + at * joint
    (gradient,) = torch.autograd.grad(expected.sum(), z)
    with torch.set_grad_enabled(recording):
        terms = density.terms(z)
        value, score = density.combine(terms)
        assert terms.values.shape == (2, 4, IMAGES)
        torch.testing.assert_close(value, expected.detach())
        torch.testing.assert_close(score, gradient)
        torch.testing.assert_close(density.score(z), gradient)
    assert not value.requires_grad
    assert not score.requires_grad


def test_terms_do_not_depend_on_the_temperature(parts):
    """So that exchanges and annealing need one pass for all temperatures."""
    z = randn(4, IMAGES, LATENTS, seed=4)
    terms, other = path(parts, 0.0).terms(z), path(parts, 0.7)
    value, score = other.combine(terms)
    torch.testing.assert_close(value, other.log_prob(z))
    torch.testing.assert_close(score, path(parts, 0.0).at(torch.tensor(0.7).double()).score(z))


def test_chains_read_the_generators_parameters(parts):
    assert [*map(id, path(parts, 0.5).parameters())] == [*map(id, parts[0].parameters())]
