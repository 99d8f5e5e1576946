"""A latent variable model with d = 2 and nonlinear networks, in which every expectation is a sum over a fine grid.

f(z) = vᵀ tanh(U z + u),  g(z) = V tanh(W z + w) + b as images (1, 1, 3),  p_t(z|x) ∝ p(x|z)^t exp(f(z)) N(z; 0, σ0² I)

Integrands are smooth and vanish at the edge, where sums over an even grid converge faster than any power of it.
"""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from tests.oracle import DTYPE, ExactDraws
from thermoebm.densities import GaussianLikelihood, GaussianPrior, TiltedPrior
from thermoebm.networks import Energy, Generator

HIDDEN, PIXELS = 3, 3


class SmoothEnergy(Energy):
    """f(z) = vᵀ tanh(U z + u)."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_dim = 2
        self.layers = nn.Sequential(nn.Linear(2, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1, bias=False))

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z).squeeze(-1)


class SmoothGenerator(Generator):
    """g(z) = V tanh(W z + w) + b as images (1, 1, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_dim, self.image_shape = 2, (1, 1, PIXELS)
        self.layers = nn.Sequential(nn.Linear(2, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, PIXELS))

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z).view(-1, *self.image_shape)


class Quadrature(ExactDraws):
    """The model, two images, and expectations as sums over a grid; all are differentiable in the parameters.

    Args:
        points: Points of the grid along each axis.
        half_width: The grid covers [-half_width, half_width]².
    """

    prior_sigma, likelihood_sigma = 1.1, 0.5

    def __init__(self, points: int = 151, half_width: float = 7.5) -> None:
        rng = torch.Generator().manual_seed(3)
        self.energy, self.generator = SmoothEnergy().to(DTYPE), SmoothGenerator().to(DTYPE)
        with torch.no_grad():
            for parameter in self.parameters:
                parameter.copy_(torch.randn(parameter.shape, generator=rng, dtype=DTYPE))
        self.x = torch.randn(2, 1, 1, PIXELS, generator=rng, dtype=DTYPE)
        self.prior = TiltedPrior(self.energy, GaussianPrior(self.prior_sigma))
        self.likelihood = GaussianLikelihood(self.generator, self.likelihood_sigma)
        self.axis = torch.linspace(-half_width, half_width, points, dtype=DTYPE)
        self.z = torch.cartesian_prod(self.axis, self.axis)
        self._cumulative: dict[float, Tensor] = {}

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Those of the energy, then those of the generator."""
        return [*self.energy.parameters(), *self.generator.parameters()]

    @property
    def in_energy(self) -> Tensor:
        """Which of all components are parameters of the energy."""
        sizes = [sum(p.numel() for p in network.parameters()) for network in (self.energy, self.generator)]
        return torch.tensor([True] * sizes[0] + [False] * sizes[1])

    # Formulas of their own: nothing below uses the densities of the package.

    def log_reference(self, z: Tensor) -> Tensor:
        """log π0 at z (P, 2)."""
        return -z.square().sum(-1) / (2 * self.prior_sigma**2) - math.log(2 * math.pi * self.prior_sigma**2)

    def log_likelihood(self, z: Tensor) -> Tensor:
        """ℓ at z (P, 2) for each image (P, 2)."""
        pixels = self.generator(z).flatten(1).unsqueeze(1)
        return Normal(pixels, self.likelihood_sigma).log_prob(self.x.flatten(1)).sum(-1)

    def log_joint(self, z: Tensor, t: float) -> Tensor:
        """t ℓ + f + log π0 at z (P, 2) for each image (P, 2)."""
        return t * self.log_likelihood(z) + (self.energy(z) + self.log_reference(z)).unsqueeze(-1)

    def probabilities(self, t: float) -> Tensor:
        """p_t(z|x) of each point of the grid and image (P, 2), which adds up to 1."""
        return self.log_joint(self.z, t).softmax(0)

    def log_evidence(self) -> Tensor:
        """log p(x) of each image (2,); cells of the grid cancel."""
        return self.log_joint(self.z, 1.0).logsumexp(0) - self.log_joint(self.z, 0.0).logsumexp(0)

    def over(self, temperatures: Tensor) -> tuple[Tensor, Tensor]:
        """E_t[ℓ] and Var_t(ℓ) at each temperature for each image (T, 2)."""
        with torch.no_grad():
            ell, prior = self.log_likelihood(self.z), self.log_joint(self.z, 0.0)
            p = torch.stack([(prior + t * ell).softmax(0) for t in temperatures.tolist()])
            mean = (p * ell).sum(1)
            return mean, (p * (ell - mean.unsqueeze(1)) ** 2).sum(1)

    # The law of a chain.

    def langevin(self, t: float, step_size: float, steps: int) -> Tensor:
        """Law (P, 2) on the grid of K steps from π0, z ← z + s ∇log p_t(z|x) + sqrt(2 s) ε, for each image.

        One step takes a law q to ∫ N(z'; z + s ∇log p_t(z|x), 2 s I) q(z) dz, a product over the two coordinates of z'.
        """
        laws, wanted = [], torch.is_grad_enabled()
        for image in (0, 1):
            with torch.enable_grad():
                z = self.z.clone().requires_grad_()
                (score,) = torch.autograd.grad(self.log_joint(z, t)[:, image].sum(), z, create_graph=wanted)
            law = self.log_reference(self.z).softmax(0)
            moved = self.z + step_size * score
            rows, columns = (torch.exp(-((self.axis[:, None] - m) ** 2) / (4 * step_size)) for m in moved.unbind(1))
            for _ in range(steps):
                law = ((rows * law) @ columns.T).flatten()
                law = law / law.sum().detach()  # what the normal density is divided by, a constant
            laws.append(law)
        return torch.stack(laws, 1)

    # What objectives ask of a model, answered with exact draws.

    def images(self, count: int) -> Tensor:
        """The two images in turn (count, 1, 1, 3)."""
        return self.x.repeat(count // 2, 1, 1, 1)

    def sample(self, t: float, count: int, rng: torch.Generator) -> Tensor:
        """Independent points of the grid (count, 2) from p_t(z|x) of the two images in turn.

        They are not spread within the cells: so their expectations are the sums over the grid.
        """
        if t not in self._cumulative:
            self._cumulative[t] = self.probabilities(t).detach().T.cumsum(1)
        uniform = torch.rand(2, count // 2, generator=rng, dtype=DTYPE)
        points = torch.searchsorted(self._cumulative[t], uniform).clamp(max=len(self.z) - 1)
        return self.z[points.T.flatten()]
