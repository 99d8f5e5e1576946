"""Training a linear generator without energy: the optimum of probabilistic PCA, and the point that ULA's law predicts.

x = W z + b + σl ε with z ~ N(0, I) and σl known. With λ_i and u_i those of the images' covariance, the likelihood is
greatest at b = mean and W Wᵀ = Σ_i (λ_i - σl²) u_i u_iᵀ over the first d (Tipping & Bishop 1999, JRSS B 61).
"""

from itertools import pairwise
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from tests.oracle import DTYPE, QuadraticEnergy
from thermoebm.modules import LatentEBM
from thermoebm.networks import Generator
from thermoebm.objectives import MaximumLikelihood, ThermodynamicIntegration
from thermoebm.samplers import ULA
from thermoebm.schedules import PowerLaw

SIGMA, RATE, RUNS = 0.5, 0.4, 16
OBJECTIVES = {
    "maximum likelihood": MaximumLikelihood(),
    "endpoints": ThermodynamicIntegration("endpoints", PowerLaw(2, 2.0), evidence_every=50),
}


class Generators(Generator):
    """As many linear generators as there are trainings: they take the latents in turn, and never meet."""

    def __init__(self, weight, bias):
        super().__init__()
        self.latent_dim, self.image_shape = 2, (1, 2, 3)
        self.weight = torch.nn.Parameter(weight.repeat(RUNS, 1, 1))
        self.bias = torch.nn.Parameter(bias.repeat(RUNS, 1))

    def forward(self, z):
        z = z.view(-1, min(len(z), RUNS), 2)  # a model is tried with one and two latents
        runs = z.shape[1]
        return (torch.einsum("rij,nrj->nri", self.weight[:runs], z) + self.bias[:runs]).reshape(-1, *self.image_shape)


class Point(NamedTuple):
    """What the likelihood depends on: W Wᵀ, which no rotation of the latents changes, and b."""

    spread: Tensor
    bias: Tensor

    @classmethod
    def of(cls, weight, bias):
        return cls(weight @ weight.T, bias)

    def flat(self):
        return torch.cat([self.spread[*torch.triu_indices(6, 6)], self.bias])


def images():
    """150 images of a PPCA model, and a start (W, b) of training."""
    rng = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(6, 2, generator=rng, dtype=DTYPE)).Q * torch.tensor([1.2, 0.8])
    bias, start = torch.randn(6, generator=rng, dtype=DTYPE), 0.5 * torch.randn(6, 2, generator=rng, dtype=DTYPE)
    z, noise = (torch.randn(150, size, generator=rng, dtype=DTYPE) for size in (2, 6))
    return z @ directions.T + bias + SIGMA * noise, (start, torch.zeros(6, dtype=DTYPE))


def closed_form(x):
    """The optimum of the likelihood."""
    values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0))
    return Point(vectors[:, -2:] @ torch.diag(values[-2:] - SIGMA**2) @ vectors[:, -2:].T, x.mean(0))


def expected_gradient(weight, bias, x, s, steps):
    """The gradient of the mean log-likelihood at the law of K steps of size s from N(0, I).

    With Λ the posterior's precision and A = I - s Λ, the mean is (I - A^K) m. The covariance starts at I and comes to
    (Λ - s Λ²/2)⁻¹.
    """
    identity = torch.eye(2, dtype=DTYPE)
    precision = identity + weight.T @ weight / SIGMA**2
    decay = torch.linalg.matrix_power(identity - s * precision, steps)
    stationary = torch.linalg.inv(precision - s * precision @ precision / 2)
    covariance = stationary + decay @ (identity - stationary) @ decay
    shifted = x - bias
    mean = shifted @ weight @ torch.linalg.inv(precision) @ (identity - decay) / SIGMA**2
    second = covariance + mean.T @ mean / len(x)
    return (shifted.T @ mean / len(x) - weight @ second) / SIGMA**2, (shifted - mean @ weight.T).mean(0) / SIGMA**2


def predicted(x, start, s, steps):
    """Where the expected gradient vanishes, by following it from the start."""
    weight, bias = start
    for _ in range(20_000):
        gradients = expected_gradient(weight, bias, x, s, steps)
        weight, bias = weight + RATE * gradients[0], bias + RATE * gradients[1]
        if max(g.abs().max() for g in gradients) < 1e-11:
            return Point.of(weight, bias)
    raise AssertionError("no fixed point")


def trained(x, start, objective, s, steps, learning=(30, 25)):
    """Mean and standard error, over 16 trainings at once, of the point at the average of their last parameters.

    Args:
        learning: Gradient steps at a constant rate, and then at a falling one, over which the parameters are averaged.
    """
    generator = Generators(*start)
    energy = QuadraticEnergy(torch.zeros(2, 2, dtype=DTYPE), torch.zeros(2, dtype=DTYPE)).requires_grad_(False)
    samplers = {"prior_sampler": ULA(0.16, 1), "posterior_sampler": ULA(s, steps)}  # π0 is the prior
    model = LatentEBM(energy, generator, objective, **samplers, likelihood_sigma=SIGMA, compile="off")
    optimizer = torch.optim.SGD(generator.parameters(), lr=RATE * RUNS)  # the loss is a mean over the trainings
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + max(step - learning[0], 0) / 4))
    batch = x.repeat_interleave(RUNS, 0).view(-1, 1, 2, 3)
    average = torch.optim.swa_utils.AveragedModel(generator)
    for step in range(sum(learning)):
        optimizer.zero_grad()
        model.loss(batch, model.stream("training", step), step).backward()
        optimizer.step()
        rates.step()
        if step >= learning[0]:
            average.update_parameters(generator)
    ends = zip(average.module.weight.detach(), average.module.bias.detach(), strict=True)
    points = torch.stack([Point.of(*end).flat() for end in ends])
    return points.mean(0), points.std(0) / RUNS**0.5


def test_the_law_of_many_small_steps_predicts_the_closed_form():
    """With enough of them to forget the start, it is off by an error of first order in the step size."""
    x, start = images()
    exact = closed_form(x).flat()
    errors = [(predicted(x, start, s, round(8 / s)).flat() - exact).abs().max() for s in (0.004, 0.002, 0.001)]
    assert errors[-1] < 0.005
    for coarse, fine in pairwise(errors):
        assert coarse / fine == pytest.approx(2, abs=0.02)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_coarse_steps_arrive_where_their_law_predicts_and_not_at_the_optimum(name):
    """The posterior chains of the shipped configs, 20 steps of 0.01: each number within 4.5 standard errors.

    27 numbers of a t-law with 15 degrees: a false alarm for one new seed in 90.
    """
    x, start = images()
    mean, error = trained(x, start, OBJECTIVES[name], 0.01, 20)
    assert ((mean - predicted(x, start, 0.01, 20).flat()).abs() < 4.5 * error).all()
    assert error.max() < 0.015
    assert ((mean - closed_form(x).flat()).abs() / error).max() > 20


@pytest.mark.slow
@pytest.mark.parametrize("name", OBJECTIVES)
def test_many_small_steps_arrive_at_the_optimum_of_probabilistic_pca(name):
    """800 steps of 0.0025: each number within 4.5 standard errors of the closed form, the bias below one."""
    x, start = images()
    exact = closed_form(x).flat()
    mean, error = trained(x, start, OBJECTIVES[name], 0.0025, 800, (20, 16))
    assert ((mean - exact).abs() < 4.5 * error).all()
    assert error.max() < 0.02
    assert (predicted(x, start, 0.0025, 800).flat() - exact).abs().max() < error.max()
