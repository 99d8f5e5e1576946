"""The evidence of a model with an encoder: a linear generator and encoder, for which log p(x) has a closed form.

x = W z + b + σl ε with z ~ N(0, σ0² I), so x ~ N(b, σ0² W Wᵀ + σl² I). The columns of W are orthogonal: the posterior's
covariance is diagonal, and the encoder can be exact.
"""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from tests.oracle import DTYPE, LinearGenerator
from thermoebm.densities import InferredPosterior
from thermoebm.evidence import directly
from thermoebm.modules import VAE, annealed, importance, routes
from thermoebm.modules.annealed import Annealing, annealed_evidence, remarks, summary
from thermoebm.modules.importance import importance_bound
from thermoebm.networks import Encoder
from thermoebm.runtime import randomness

PRIOR, PIXEL, LATENTS, IMAGES = 1.2, 0.5, 2, 40


class LinearEncoder(Encoder):
    """q_φ(z|x) = N(A (x - b), exp s)."""

    def __init__(self, weight, bias, log_variance):
        super().__init__()
        self.latent_dim, self.image_shape = LATENTS, (1, 2, 3)
        self.weight, self.bias, self.log_variance = map(nn.Parameter, (weight, bias, log_variance))

    def forward(self, x):
        mean = (x.flatten(1) - self.bias) @ self.weight.T
        return mean, self.log_variance.expand_as(mean)


def model_of(shrunk=1.0, wider=1.0):
    """The model; the encoder's means are so many times the posterior's, its standard deviations so many times as wide.

    The exact posterior has precision Λ = WᵀW/σl² + I/σ0² and mean Λ⁻¹ Wᵀ (x - b)/σl².
    """
    rng = torch.Generator().manual_seed(2)
    directions = torch.linalg.qr(torch.randn(6, LATENTS, generator=rng, dtype=DTYPE)).Q
    weight = directions * torch.tensor([1.1, 0.6], dtype=DTYPE)
    bias = torch.randn(6, generator=rng, dtype=DTYPE)
    variance = 1 / (weight.square().sum(0) / PIXEL**2 + 1 / PRIOR**2)
    exact = variance.unsqueeze(1) * weight.T / PIXEL**2
    encoder = LinearEncoder(shrunk * exact, bias.clone(), (wider**2 * variance).log())
    return VAE(LinearGenerator(weight, bias), encoder, prior_sigma=PRIOR, likelihood_sigma=PIXEL)


def images_and_evidence(model, count=IMAGES):
    """Images of the model (B, 1, 2, 3), and log p(x) of each (B,)."""
    weight, bias = model.generator.weight.detach(), model.generator.bias.detach()
    law = MultivariateNormal(bias, PRIOR**2 * weight @ weight.T + PIXEL**2 * torch.eye(6, dtype=DTYPE))
    noise = torch.randn(count, 6, generator=torch.Generator().manual_seed(3), dtype=DTYPE)
    x = bias + noise @ law.scale_tril.T
    return x.view(-1, 1, 2, 3), law.log_prob(x)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def streams(name, *counters):
    return randomness.stream("cpu", 0, name, *counters)


SETTINGS = Annealing(chains=16, steps=30, max_steps=60, tolerance=0.05)


def pulls(found, truth):
    """How many standard errors each image's estimate is off the truth, which a log's bias, half its variance, moves."""
    bias = found.standard_error.square() / 2
    return ((found.value + bias - truth) / found.standard_error).detach()


def test_with_the_exact_posterior_each_draw_is_the_evidence():
    """All weights are equal: neither spread nor error, to round-off."""
    model = model_of()
    x, truth = images_and_evidence(model)
    found = importance_bound(model, x, 2, rng())
    torch.testing.assert_close(found.value, truth, rtol=0, atol=1e-12)
    assert found.spread.max() < 1e-12
    torch.testing.assert_close(found.effective_size, torch.full_like(truth, 2))


def test_the_importance_weighted_bound_is_the_evidence_within_its_error():
    """4,000 draws of an encoder that is off: standard errors of .01 to .06 nats, and their pulls are normal."""
    model = model_of(0.8, 1.2)
    x, truth = images_and_evidence(model)
    found = importance_bound(model, x, 4_000, rng())
    assert 0.005 < found.standard_error.min() < found.standard_error.max() < 0.1
    assert pulls(found, truth).abs().max() < 4
    assert pulls(found, truth).square().mean() < 2  # of 40: a standard deviation of .22 from 1


def test_the_bound_rises_with_the_number_of_draws():
    """Its mean over 4,000 images, of 2, 8 and 32 draws: each below the next, and the truth, by 4 standard errors."""
    model = model_of(0.7, 1.3)
    x, truth = images_and_evidence(model, 4_000)
    values = [importance_bound(model, x, draws, rng(draws)).value for draws in (2, 8, 32)]
    for lower, upper in pairwise([*values, truth]):
        difference = upper - lower
        assert difference.mean() > 4 * difference.std() / math.sqrt(len(x))


def test_draws_that_do_not_fit_side_by_side_are_weighed_together(monkeypatch):
    """In blocks of 2, of which the last has one draw."""
    model = model_of(0.8, 1.2)
    x, _ = images_and_evidence(model)
    whole = importance_bound(model, x, 7, rng())
    monkeypatch.setattr(importance, "_LATENTS", 2 * len(x) + 1)
    parts = importance_bound(model, x, 7, rng())
    torch.testing.assert_close(parts.value, whole.value)
    assert parts.spread.isfinite().all()


def test_annealing_from_the_encoder_is_the_evidence_within_its_error():
    """16 chains of an encoder that is off: a standard error of .01 to .1 nats an image, of .01 of their mean."""
    model = model_of(0.7, 1.3)
    x, truth = images_and_evidence(model)
    evidence = annealed_evidence(model, x, SETTINGS, streams)
    difference = evidence.images.value - truth
    error = difference.std() / math.sqrt(IMAGES)
    bias = evidence.images.standard_error.square().mean() / 2
    assert error < 0.02
    assert abs(difference.mean()) < 4 * error + bias
    assert evidence.images.standard_error.square().mean().sqrt() == pytest.approx(difference.std().item(), rel=0.5)


def test_annealing_is_told_without_draws_of_a_tilted_prior():
    model = model_of(0.7, 1.3)
    evidence = annealed_evidence(model, images_and_evidence(model)[0], SETTINGS, streams)
    told = summary(evidence)
    assert evidence.starts is None
    assert not {"log_z", "evidence_starts_effective_size"} & told.keys()
    assert told["evidence_method"].endswith(f"{told['evidence_steps']} steps, 16 chains")
    assert not [remark for remark in remarks(evidence) if "draws of the prior" in remark]


def test_annealing_from_the_exact_posterior_has_no_error():
    """a(z) is log p(x) wherever the chains are."""
    model = model_of()
    x, truth = images_and_evidence(model)
    found = annealed_evidence(model, x, SETTINGS, streams).images
    torch.testing.assert_close(found.value, truth, rtol=0, atol=1e-10)


class WithoutPrior(InferredPosterior):
    """A path that leaves out the prior."""

    def tempered(self, z):
        return self.likelihood.log_prob(self.x, z) - self.inferred.log_prob(z)


def test_a_path_to_another_density_would_be_seen(monkeypatch):
    """The tests above could fail: with a path that leaves out the prior the mean is off by over 20 errors."""
    model = model_of(0.7, 1.3)
    x, truth = images_and_evidence(model)
    route = routes.route_of(model, 0, 0, streams, None)
    wrong = route._replace(path=lambda x: with_class(route.path(x)))
    monkeypatch.setattr(annealed, "route_of", lambda *_: wrong)
    difference = annealed_evidence(model, x, SETTINGS, streams).images.value - truth
    assert abs(difference.mean()) > 20 * difference.std() / math.sqrt(IMAGES)


def with_class(path):
    path.__class__ = WithoutPrior
    return path


def test_starts_are_draws_of_the_encoder():
    """R of each image, of the mean and the variance that the encoder infers."""
    model = model_of(0.8, 1.2)
    x, _ = images_and_evidence(model, 3)
    route = routes.route_of(model, 0, 0, streams, None)
    z = route.draw(x, 20_000, rng())
    mean, log_variance = (part.detach() for part in model.encoder(x))
    assert z.shape == (20_000, 3, LATENTS)
    assert ((z.mean(0) - mean) / (log_variance / 2).exp()).abs().max() < 4.5 / math.sqrt(20_000)
    torch.testing.assert_close(z.var(0).log(), log_variance, rtol=0, atol=4.5 * math.sqrt(2 / 20_000))
    assert (route.runner, route.starts) == (directly, None)


def test_a_model_without_a_route_is_told():
    with pytest.raises(
        ValueError, match=r"^The evidence of a Linear cannot be annealed: its posterior is not known\.$"
    ):
        routes.route_of(nn.Linear(1, 1), 0, 0, streams, None)
