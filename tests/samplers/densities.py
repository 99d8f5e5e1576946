"""Targets for samplers: densities at several temperatures, with all that is known of them in closed form.

Latents are (T, n, d): n independent draws at each of T temperatures.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from tests.oracle import DTYPE, LinearGaussian
from thermoebm.densities import Density, GaussianPrior, PowerPosterior, Tempered, TemperedPrior, Terms

T = torch.tensor([[0.0], [0.2], [1.0]], dtype=DTYPE)


class Bimodal(Tempered):
    """q_t(z) ∝ exp(t a(z)) N(z; 0, I) with a(z) = log(w exp(m z_1) + (1 - w) exp(-m z_1)).

    At t = 1 it is the mixture w N(m e_1, I) + (1 - w) N(-m e_1, I), and Z_1/Z_0 = exp(m²/2).
    """

    def __init__(self, t: Tensor, distance: float = 1.5, weight: float = 0.3) -> None:
        self.t = t
        self.distance, self.weight = distance, weight

    def tempered(self, z: Tensor) -> Tensor:
        up, down = self.distance * z[..., 0], -self.distance * z[..., 0]
        w = torch.tensor(self.weight, dtype=z.dtype)
        return torch.logaddexp(w.log() + up, (1 - w).log() + down)

    def log_prob(self, z: Tensor) -> Tensor:
        return self.t * self.tempered(z) - z.square().sum(-1) / 2

    def terms(self, z: Tensor) -> Terms:
        share = torch.sigmoid(2 * self.distance * z[..., 0] + torch.logit(torch.tensor(self.weight, dtype=z.dtype)))
        slope = torch.zeros_like(z)
        slope[..., 0] = self.distance * (2 * share - 1)
        return Terms(torch.stack([self.tempered(z), -z.square().sum(-1) / 2]), torch.stack([slope, -z]))


class Target(ABC):
    """A density at T temperatures. Moments are (T, d) and (T, d, d).

    Attributes:
        stiffness: Largest curvature of -log q_t (T,), which limits step sizes.
    """

    means: Tensor
    covariances: Tensor
    stiffness: Tensor

    @abstractmethod
    def density(self, count: int) -> Density:
        """The density of latents (T, count, d)."""

    @abstractmethod
    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """Exact draws (T, count, d)."""

    @abstractmethod
    def cdf(self, edges: Tensor) -> Tensor:
        """Probability that z_1 is below each edge (T, E)."""

    @abstractmethod
    def langevin(self, step_size: float, steps: int) -> tuple[Tensor, Tensor]:
        """Moments of the law that so many steps of ULA make of exact draws."""

    @property
    def latent_dim(self) -> int:
        return self.means.shape[-1]


class Gaussian(Target):
    """N(m_t, S_t), from its precisions (T, d, d) and means."""

    def __init__(self, density: Callable[[int], Density], moments: list[tuple[Tensor, Tensor]]) -> None:
        self._density = density
        self.means, self.covariances = (torch.stack(parts).detach() for parts in zip(*moments, strict=True))
        self.precisions = torch.linalg.inv(self.covariances)
        self.stiffness = torch.linalg.eigvalsh(self.precisions)[:, -1]

    def density(self, count: int) -> Density:
        return self._density(count)

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        noise = torch.randn(len(self.means), count, self.latent_dim, generator=rng, dtype=DTYPE)
        return self.means[:, None] + noise @ torch.linalg.cholesky(self.covariances).mT

    def cdf(self, edges: Tensor) -> Tensor:
        scale = self.covariances[:, 0, 0].sqrt()
        return torch.special.ndtr((edges - self.means[:, :1]) / scale[:, None])

    def langevin(self, step_size: float, steps: int) -> tuple[Tensor, Tensor]:
        """The mean stays; C ← A C A + 2 s I with A = I - s Λ."""
        eye = torch.eye(self.latent_dim, dtype=DTYPE)
        step, covariance = eye - step_size * self.precisions, self.covariances
        for _ in range(steps):
            covariance = step @ covariance @ step + 2 * step_size * eye
        return self.means, covariance


class Mixture(Target):
    """The bimodal density in d = 2; what is along its first axis is a sum over a fine even grid, exact to rounding."""

    grid = torch.linspace(-9, 9, 1201, dtype=DTYPE)

    def __init__(self, t: Tensor = T, distance: float = 1.5, weight: float = 0.3) -> None:
        self.bimodal = Bimodal(t, distance, weight)
        line = torch.stack([self.grid, torch.zeros_like(self.grid)], -1)
        self.law = self.bimodal.at(t).log_prob(line.expand(len(t), -1, -1)).softmax(1)
        self.means, self.covariances = self._moments(self.law, 1.0)
        self.stiffness = torch.ones(len(t), dtype=DTYPE)  # less than that of N(0, I) anywhere

    def density(self, count: int) -> Density:
        return self.bimodal

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """The first coordinate by the inverse of its distribution, which is linear between points of the grid."""
        total = self._below()
        uniform = torch.rand(len(total), count, generator=rng, dtype=DTYPE)
        right = torch.searchsorted(total, uniform).clamp(1, len(self.grid) - 1)
        low, high = total.gather(1, right - 1), total.gather(1, right)
        first = torch.lerp(self.grid[right - 1], self.grid[right], (uniform - low) / (high - low))
        return torch.stack([first, torch.randn(first.shape, generator=rng, dtype=DTYPE)], -1)

    def cdf(self, edges: Tensor) -> Tensor:
        """Edges are taken to be points of the grid."""
        return self._below()[:, torch.searchsorted(self.grid, edges - 1e-9)]

    def langevin(self, step_size: float, steps: int) -> tuple[Tensor, Tensor]:
        """A step takes the law q to ∫ N(z'; z + s ∇log q_t(z), 2 s) q(z) dz along the first axis."""
        line = torch.stack([self.grid, torch.zeros_like(self.grid)], -1).expand(len(self.law), -1, -1)
        score, laws = self.bimodal.combine(self.bimodal.terms(line))[1][..., 0], []
        for law, drift in zip(self.law, score, strict=True):
            moved = torch.exp(-((self.grid[:, None] - self.grid - step_size * drift) ** 2) / (4 * step_size))
            for _ in range(steps):
                law = moved @ law
                law = law / law.sum()
            laws.append(law)
        second, shrink = 1.0, (1 - step_size) ** 2
        for _ in range(steps):
            second = shrink * second + 2 * step_size
        return self._moments(torch.stack(laws), second)

    def _below(self) -> Tensor:
        """The distribution at the points of the grid, by the trapezium rule."""
        return self.law.cumsum(1) - self.law / 2

    def _moments(self, laws: Tensor, second: float) -> tuple[Tensor, Tensor]:
        mean = laws @ self.grid
        variance = laws @ self.grid**2 - mean**2
        return torch.stack([mean, 0 * mean], 1), torch.diag_embed(torch.stack([variance, 0 * mean + second], 1))


def power_posterior(tilted: bool) -> Target:
    """Of the linear-Gaussian model; without an energy its prior is a plain GaussianPrior."""
    oracle = LinearGaussian(tilted)
    prior = oracle.prior if tilted else oracle.prior.reference
    return Gaussian(
        lambda count: PowerPosterior(prior, oracle.likelihood, oracle.images(count), T),
        [oracle.moments(float(t)) for t in T],
    )


def tempered_prior() -> Target:
    """exp(t f) π0 with a quadratic f."""
    oracle = LinearGaussian()
    eye, matrix = torch.eye(3, dtype=DTYPE) / oracle.prior_sigma**2, oracle.energy.matrix
    covariances = [torch.linalg.inv(t * (matrix + matrix.T) / 2 + eye) for t in T]
    moments = [(s @ (t * oracle.energy.linear), s) for t, s in zip(T, covariances, strict=True)]
    return Gaussian(lambda count: TemperedPrior(oracle.prior, T), moments)


def gaussian_prior() -> Target:
    moments = (torch.zeros(3, dtype=DTYPE), 1.2**2 * torch.eye(3, dtype=DTYPE))
    return Gaussian(lambda count: GaussianPrior(1.2), [moments])


TARGETS: dict[str, Callable[[], Target]] = {
    "gaussian prior": gaussian_prior,
    "tempered prior": tempered_prior,
    "power posterior": lambda: power_posterior(tilted=False),
    "power posterior, tilted": lambda: power_posterior(tilted=True),
    "bimodal": Mixture,
}
#: Those on a path of temperatures, which replica exchange needs.
PATHS = [name for name in TARGETS if name != "gaussian prior"]
