"""The reference prior, and the energy-based prior that tilts it."""

import math
from collections.abc import Callable

from torch import Tensor, nn

from thermoebm.densities.base import Density, Terms, parameters_of, without_autocast


class GaussianPrior(Density):
    """Reference prior π0(z) = N(z; 0, σ0² I).

    Args:
        sigma: Standard deviation σ0.
    """

    def __init__(self, sigma: float = 1.0) -> None:
        self.sigma = sigma

    def log_prob(self, z: Tensor) -> Tensor:
        """Normalised log-density (...) of z (..., d), in nats."""
        constant = z.shape[-1] * math.log(self.sigma * math.sqrt(2 * math.pi))
        return -0.5 * z.square().sum(-1) / self.sigma**2 - constant

    def score(self, z: Tensor) -> Tensor:
        return -z / self.sigma**2

    def terms(self, z: Tensor) -> Terms:
        return Terms(self.log_prob(z).unsqueeze(0), self.score(z).unsqueeze(0))


class TiltedPrior(Density):
    """Energy-based prior p_α(z) = exp(f_α(z)) π0(z) / Z_α (report, equation 1).

    Args:
        energy: f_α, maps (..., d) to (...).
        reference: π0.
    """

    def __init__(self, energy: Callable[[Tensor], Tensor], reference: GaussianPrior) -> None:
        self.energy = energy
        self.reference = reference

    def tilt(self, z: Tensor) -> Tensor:
        """f_α(z) in nats, (..., d) -> (...); computed in the precision of z even under autocast."""
        with without_autocast(z):
            return self.energy(z)

    def log_prob(self, z: Tensor) -> Tensor:
        """f_α(z) + log π0(z) in nats, (..., d) -> (...): the log-density without its constant -log Z_α."""
        return self.tilt(z) + self.reference.log_prob(z)

    def parameters(self) -> list[nn.Parameter]:
        return parameters_of(self.energy)

    def score(self, z: Tensor) -> Tensor:
        with without_autocast(z):  # covers the backward pass too
            return super().score(z)

    def terms(self, z: Tensor) -> Terms:
        with without_autocast(z):
            return super().terms(z)
