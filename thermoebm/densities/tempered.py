"""Paths of densities in a temperature: from prior to posterior, and from the reference prior to the tilted one."""

import copy
from abc import abstractmethod
from typing import Self

import torch
from torch import Tensor, nn

from thermoebm.densities.base import Density, Terms, gradient, parameters_of, value_and_gradient, without_autocast
from thermoebm.densities.likelihood import GaussianLikelihood
from thermoebm.densities.priors import TiltedPrior


class Tempered(Density):
    """One density of a path q_t(z) ∝ exp(t a(z)) q_0(z): annealing and exchange of temperatures need no more of it.

    Attributes:
        t: Temperatures in [0, 1], broadcastable to z without its last axis.
    """

    t: Tensor

    @abstractmethod
    def tempered(self, z: Tensor) -> Tensor:
        """a(z) (...) in nats, which d log q_t(z)/dt is, but for a constant."""

    def at(self, t: Tensor) -> Self:
        """The density of the same path at other temperatures."""
        other = copy.copy(self)
        other.t = t
        return other

    def combine(self, terms: Terms) -> tuple[Tensor, Tensor]:
        """t a + log q_0 and its gradient, from the terms (a, log q_0)."""
        (a, base), (da, dbase) = terms.values.unbind(), terms.gradients.unbind()
        return self.t * a + base, torch.as_tensor(self.t).unsqueeze(-1) * da + dbase


class TemperedPrior(Tempered):
    """q_t(z) ∝ exp(t f_α(z)) π0(z): from the reference prior at t = 0 to the tilted prior at t = 1.

    Args:
        prior: p_α.
        t: Temperatures in [0, 1], broadcastable to z without its last axis.
    """

    def __init__(self, prior: TiltedPrior, t: Tensor) -> None:
        self.prior = prior
        self.t = t

    def log_prob(self, z: Tensor) -> Tensor:
        """t f_α(z) + log π0(z) in nats, without its constant."""
        return self.t * self.prior.tilt(z) + self.prior.reference.log_prob(z)

    def tempered(self, z: Tensor) -> Tensor:
        """f_α(z) (...), in nats."""
        return self.prior.tilt(z)

    def parameters(self) -> list[nn.Parameter]:
        return self.prior.parameters()

    def score(self, z: Tensor) -> Tensor:
        with without_autocast(z):
            return super().score(z)

    def terms(self, z: Tensor) -> Terms:
        with without_autocast(z):
            f, gradient = value_and_gradient(self.prior.energy, z)
        reference = self.prior.reference
        return Terms(torch.stack([f, reference.log_prob(z)]), torch.stack([gradient, reference.score(z)]))


class PowerPosterior(Tempered):
    """Power posterior p_t(z|x) = p_β(x|z)^t p_α(z) / Z_t(x) (report, equation 16).

    Args:
        prior: p_α.
        likelihood: p_β.
        x: Images (B, C, H, W).
        t: Temperatures in [0, 1], broadcastable to z without its last axis: (T, 1) for z (T, B, d).
    """

    def __init__(self, prior: Density, likelihood: GaussianLikelihood, x: Tensor, t: Tensor) -> None:
        self.prior = prior
        self.likelihood = likelihood
        self.x = x
        self.t = t

    def log_prob(self, z: Tensor) -> Tensor:
        """t ℓ(z) + log p_α(z) in nats, without -log Z_t(x) and without any constant that the prior omits."""
        return self.t * self.likelihood.log_prob(self.x, z) + self.prior.log_prob(z)

    def tempered(self, z: Tensor) -> Tensor:
        """ℓ(z) = log p_β(x|z) (...), in nats."""
        return self.likelihood.log_prob(self.x, z)

    def terms(self, z: Tensor) -> Terms:
        """ℓ(z) and log p_α(z), without -log Z_α; each is computed in its own precision."""
        ell, gradient = value_and_gradient(lambda z: self.likelihood.log_prob(self.x, z), z)
        prior, score = self.prior.combine(self.prior.terms(z))
        return Terms(torch.stack([ell, prior]), torch.stack([gradient, score]))

    def parameters(self) -> list[nn.Parameter]:
        return [*self.prior.parameters(), *parameters_of(self.likelihood.generator)]

    def score(self, z: Tensor) -> Tensor:
        """t ∇ℓ(z) + ∇ log p_α(z) (report, equation 17); each term is computed in its own precision."""
        return gradient(lambda z: self.t * self.likelihood.log_prob(self.x, z), z) + self.prior.score(z)
