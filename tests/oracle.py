"""A linear-Gaussian latent variable model with a quadratic energy, in which every quantity has a closed form.

f(z) = -½ zᵀ A z + cᵀ z,  g(z) = W z + b,  p_t(z|x) = N(m_t, S_t),
S_t = (A + I/σ0² + t WᵀW/σl²)⁻¹,  m_t = S_t (c + t Wᵀ(x - b)/σl²),  x ~ N(b + W m_0, W S_0 Wᵀ + σl² I)
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from thermoebm.densities import GaussianLikelihood, GaussianPrior, PowerPosterior, TiltedPrior
from thermoebm.networks import Energy, Generator

DTYPE = torch.float64


class QuadraticEnergy(Energy):
    """f(z) = -½ zᵀ A z + cᵀ z."""

    def __init__(self, matrix: Tensor, linear: Tensor) -> None:
        super().__init__()
        self.latent_dim = len(linear)
        self.matrix = nn.Parameter(matrix)
        self.linear = nn.Parameter(linear)

    def forward(self, z: Tensor) -> Tensor:
        return -0.5 * ((z @ self.matrix) * z).sum(-1) + z @ self.linear


class LinearGenerator(Generator):
    """g(z) = W z + b as images (1, 2, 3)."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.latent_dim = weight.shape[1]
        self.image_shape = (1, 2, 3)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)

    def forward(self, z: Tensor) -> Tensor:
        return (z @ self.weight.T + self.bias).view(-1, *self.image_shape)


class ExactDraws(ABC):
    """What objectives ask of a model, answered with exact draws."""

    @abstractmethod
    def sample(self, t: float, count: int, rng: torch.Generator) -> Tensor:
        """Exact draws (count, d) of p_t(z|x)."""

    def sample_prior(self, count: int, rng: torch.Generator, *, differentiable: bool = False) -> Tensor:
        return self.sample(0.0, count, rng)

    def sample_posterior(
        self, x: Tensor, temperatures: Tensor, rng: torch.Generator, *, z_prior: Tensor, differentiable: bool = False
    ) -> Tensor:
        return torch.stack([self.sample(float(t), len(x), rng) for t in temperatures])

    def pooled(self, z: Tensor) -> Tensor:
        return z


class LinearGaussian(ExactDraws):
    """The model, one image x (D,) and everything that can be known about them exactly.

    Args:
        tilted: Whether the energy is a quadratic, or zero.
    """

    prior_sigma, likelihood_sigma = 1.2, 0.5

    def __init__(self, tilted: bool = True, seed: int = 0) -> None:
        rng = torch.Generator().manual_seed(seed)
        d, dim = 3, 6
        root = 0.5 * torch.randn(d, d, generator=rng, dtype=DTYPE)
        linear = torch.randn(d, generator=rng, dtype=DTYPE)
        self.energy = QuadraticEnergy(tilted * root @ root.T, tilted * linear)
        weight = torch.randn(dim, d, generator=rng, dtype=DTYPE)
        self.generator = LinearGenerator(weight, 0.3 * torch.randn(dim, generator=rng, dtype=DTYPE))
        self.x = torch.randn(dim, generator=rng, dtype=DTYPE)
        self.prior = TiltedPrior(self.energy, GaussianPrior(self.prior_sigma))
        self.likelihood = GaussianLikelihood(self.generator, self.likelihood_sigma)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """A, c, W, b."""
        return [self.energy.matrix, self.energy.linear, self.generator.weight, self.generator.bias]

    def images(self, count: int) -> Tensor:
        """The image so many times (count, 1, 2, 3)."""
        return self.x.view(1, 1, 2, 3).expand(count, -1, -1, -1)

    def power_posterior(self, t: float, count: int = 1) -> PowerPosterior:
        """The density under test."""
        return PowerPosterior(self.prior, self.likelihood, self.images(count), torch.tensor(t, dtype=DTYPE))

    def precision(self, t: float) -> Tensor:
        """S_t⁻¹."""
        w, a = self.generator.weight, self.energy.matrix
        eye = torch.eye(w.shape[1], dtype=DTYPE)
        return (a + a.T) / 2 + eye / self.prior_sigma**2 + t * w.T @ w / self.likelihood_sigma**2

    def moments(self, t: float) -> tuple[Tensor, Tensor]:
        """m_t, S_t."""
        covariance = torch.linalg.inv(self.precision(t))
        pull = self.generator.weight.T @ (self.x - self.generator.bias) / self.likelihood_sigma**2
        return covariance @ (self.energy.linear + t * pull), covariance

    def log_evidence(self) -> Tensor:
        """log p(x), differentiable in A, c, W, b."""
        mean, covariance = self.moments(0.0)
        w = self.generator.weight
        noise = self.likelihood_sigma**2 * torch.eye(len(self.x), dtype=DTYPE)
        return MultivariateNormal(self.generator.bias + w @ mean, w @ covariance @ w.T + noise).log_prob(self.x)

    def expected_log_likelihood(self, t: float) -> Tensor:
        """E_t[ℓ]."""
        mean, covariance = self.moments(t)
        w, sigma = self.generator.weight, self.likelihood_sigma
        residual = self.x - self.generator.bias - w @ mean
        squared = residual @ residual + torch.trace(w @ covariance @ w.T)
        return -squared / (2 * sigma**2) - len(self.x) / 2 * math.log(2 * math.pi * sigma**2)

    def variance_of_log_likelihood(self, t: float) -> Tensor:
        """Var_t(ℓ)."""
        mean, covariance = self.moments(t)
        w = self.generator.weight
        spread = w @ covariance @ w.T
        residual = self.x - self.generator.bias - w @ mean
        return (residual @ spread @ residual + torch.trace(spread @ spread) / 2) / self.likelihood_sigma**4

    def over(self, temperatures: Tensor, quantity: str) -> Tensor:
        """One of the quantities above at each temperature (T,)."""
        return torch.stack([getattr(self, quantity)(float(t)) for t in temperatures]).detach()

    def expected_gradients(self, mean: Tensor, covariance: Tensor) -> list[Tensor]:
        """E[∇_A f], E[∇_c f], E[∇_W ℓ], E[∇_b ℓ] for z ~ N(mean, covariance)."""
        second = covariance + torch.outer(mean, mean)
        shifted = self.x - self.generator.bias
        w, variance = self.generator.weight, self.likelihood_sigma**2
        return [
            -second / 2,
            mean,
            (torch.outer(shifted, mean) - w @ second) / variance,
            (shifted - w @ mean) / variance,
        ]

    def sample(self, t: float, count: int, rng: torch.Generator) -> Tensor:
        """Exact draws (count, d) of p_t(z|x)."""
        mean, covariance = (moment.detach() for moment in self.moments(t))
        noise = torch.randn(count, len(mean), generator=rng, dtype=DTYPE)
        return mean + noise @ torch.linalg.cholesky(covariance).T


def flat(tensors: list[Tensor]) -> Tensor:
    """The tensors as one vector."""
    return torch.cat([tensor.detach().flatten() for tensor in tensors])
