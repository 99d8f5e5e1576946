"""An encoder's Gaussian of latents, and the path from it to the posterior."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from thermoebm.densities.base import Terms, parameters_of, value_and_gradient
from thermoebm.densities.likelihood import GaussianLikelihood
from thermoebm.densities.priors import GaussianPrior
from thermoebm.densities.tempered import Tempered


class DiagonalGaussian(NamedTuple):
    """q_φ(z|x) = N(z; μ(x), diag σ²(x)), as an encoder returns it.

    Args:
        mean: μ (B, d).
        log_variance: log σ² (B, d).
    """

    mean: Tensor
    log_variance: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """μ + σ ε, of noise ε (..., B, d)."""
        return self.mean + (0.5 * self.log_variance).exp() * noise

    def log_prob(self, z: Tensor) -> Tensor:
        """log q_φ(z|x) (..., B), in nats, of z (..., B, d)."""
        squared = (z - self.mean).square() * (-self.log_variance).exp()
        return -0.5 * (squared + self.log_variance + math.log(2 * math.pi)).sum(-1)

    def kl_to(self, prior: GaussianPrior) -> Tensor:
        """KL(q_φ(z|x) ‖ N(0, σ0² I)) (B,), in nats."""
        log_ratio = self.log_variance - 2 * math.log(prior.sigma)
        return 0.5 * (log_ratio.exp() + self.mean.square() / prior.sigma**2 - 1 - log_ratio).sum(-1)


def inferred(encoder: Callable[[Tensor], tuple[Tensor, Tensor]], x: Tensor) -> DiagonalGaussian:
    """q_φ(z|x) of images (B, C, H, W), in their precision also where the encoder runs in a lower one."""
    mean, log_variance = encoder(x)
    return DiagonalGaussian(mean.to(x.dtype), log_variance.to(x.dtype))


class InferredPosterior(Tempered):
    """q_φ(z|x)^(1-t) (p_θ(x|z) p(z))^t: from the encoder's Gaussian at t = 0 to the posterior at t = 1.

    Args:
        inferred: q_φ of the images.
        prior: p.
        likelihood: p_θ.
        x: Images (B, C, H, W).
        t: Temperatures in [0, 1], broadcastable to z without its last axis.
    """

    def __init__(
        self, inferred: DiagonalGaussian, prior: GaussianPrior, likelihood: GaussianLikelihood, x: Tensor, t: Tensor
    ) -> None:
        self.inferred = inferred
        self.prior = prior
        self.likelihood = likelihood
        self.x = x
        self.t = t

    def log_prob(self, z: Tensor) -> Tensor:
        """(1 - t) log q_φ(z|x) + t (log p_θ(x|z) + log p(z)) (..., B), in nats."""
        return self.t * self.tempered(z) + self.inferred.log_prob(z)

    def tempered(self, z: Tensor) -> Tensor:
        """log p_θ(x|z) + log p(z) - log q_φ(z|x) (..., B): the log weight of a draw from q_φ."""
        return self.likelihood.log_prob(self.x, z) + self.prior.log_prob(z) - self.inferred.log_prob(z)

    def terms(self, z: Tensor) -> Terms:
        weight, gradient = value_and_gradient(self.tempered, z)
        base, score = value_and_gradient(self.inferred.log_prob, z)
        return Terms(torch.stack([weight, base]), torch.stack([gradient, score]))

    def parameters(self) -> list[nn.Parameter]:
        return parameters_of(self.likelihood.generator)
