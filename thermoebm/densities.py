"""The densities of the model, as objects with ``log_prob`` and its exact gradient ``score``.

Shapes: a latent z is (..., d) and a log-density (...). Energies and log-densities are in nats and stay in the precision
of z (float32 or float64) under autocast; only the generator may run in a lower precision.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn


def without_autocast(z: Tensor) -> AbstractContextManager[Any]:
    """Computes in the precision of z; tensors of the ``meta`` device, which have no values, know no autocast."""
    return nullcontext() if z.is_meta else torch.autocast(z.device.type, enabled=False)


class Density(ABC):
    """A density on latents, which may be unnormalised (``log_prob`` then says so)."""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """Maps z (..., d) to its log-density (...), in nats."""

    def parameters(self) -> list[nn.Parameter]:
        """The parameters of the density's networks; a plain function, not an ``nn.Module``, contributes none."""
        return []

    def score(self, z: Tensor) -> Tensor:
        """∇_z log_prob(z), of the shape of z.

        Under ``no_grad`` it is a plain tensor. Otherwise it carries the graph to the density's parameters, and to z if
        z requires a gradient (double backward). In both cases the ``.grad`` of the parameters is not touched.
        """
        return _gradient(self.log_prob, z)


@cache
def inference_mode_has_gradients() -> bool:
    """Whether torch.func.grad works in inference mode: on torch 2.6 it is zero, without a word."""
    with torch.inference_mode():
        return torch.func.grad(torch.square)(torch.ones(())).item() == 2


def _gradient(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """∇_z Σ function(z), of the shape of z."""
    wanted = torch.is_grad_enabled()
    # Of the two ways below, only torch.func.grad can be compiled and works in inference mode. On small networks it
    # takes nearly twice as long as autograd.grad.
    compiling = torch.compiler.is_compiling()
    inference = not compiling and torch.is_inference_mode_enabled()
    if not wanted and (compiling or (inference and inference_mode_has_gradients())):
        return torch.func.grad(lambda z: function(z).sum())(z)
    if inference:
        with torch.inference_mode(False), torch.no_grad():
            return _gradient(function, z.clone())
    with torch.enable_grad():
        z = z if wanted and z.requires_grad else z.detach().requires_grad_()
        return torch.autograd.grad(function(z).sum(), z, create_graph=wanted)[0]


def _parameters(function: Callable[..., Tensor]) -> list[nn.Parameter]:
    return list(function.parameters()) if isinstance(function, nn.Module) else []


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
        return _parameters(self.energy)

    def score(self, z: Tensor) -> Tensor:
        with without_autocast(z):  # covers the backward pass too
            return super().score(z)


class GaussianLikelihood:
    """Likelihood p_β(x|z) = N(x; g_β(z), σl² I), summed over all pixels (report, equations 2 and 9).

    Args:
        generator: g_β, maps (N, d) to (N, C, H, W).
        sigma: Standard deviation σl.
        constant: Normalisation constant in the value of a loss, and nowhere else. ``gaussian``: that of the density;
            ``logsumexp``: that of the report's code, which adds about D ln D to the loss of an image of D pixels.

    Raises:
        ValueError: If the constant is unknown.
    """

    def __init__(
        self,
        generator: Callable[[Tensor], Tensor],
        sigma: float = 0.3,
        constant: Literal["gaussian", "logsumexp"] = "gaussian",
    ) -> None:
        if constant not in ("gaussian", "logsumexp"):
            raise ValueError(f"The likelihood's constant is '{constant}'; choose 'gaussian' or 'logsumexp'.")
        self.generator = generator
        self.sigma = sigma
        self.constant = constant

    def log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        """ℓ(z) = log p_β(x|z) in nats, with its own constant; x (B, C, H, W), z (..., B, d), result (..., B)."""
        return self._log_prob(self._squared_error(x, z))

    def for_loss(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """ℓ(z), and ℓ(z) with the constant of the loss; the values may differ, the gradients are identical.

        The report's code computes Σ_j (a_j - log Σ_k exp a_k) with a_j = -(x_j - g_j)²/(2 σl²), over the pixels j of
        one image. No gradient flows through the logarithm.

        Args:
            x: Images (B, C, H, W).
            z: Latents (..., B, d).

        Returns:
            Two tensors (..., B), in nats.
        """
        squared_error = self._squared_error(x, z)
        log_prob = self._log_prob(squared_error)
        if self.constant == "gaussian":
            return log_prob, log_prob
        with torch.no_grad():
            a = -0.5 * squared_error.flatten(-3) / self.sigma**2
            shift = (a - a.logsumexp(-1, keepdim=True)).sum(-1) - log_prob
        return log_prob, log_prob + shift

    def _squared_error(self, x: Tensor, z: Tensor) -> Tensor:
        """Squared error of each pixel, (..., B, C, H, W)."""
        image = self.generator(z.reshape(-1, z.shape[-1])).to(z.dtype)
        return (x - image.reshape(*z.shape[:-1], *image.shape[1:])).square()

    def _log_prob(self, squared_error: Tensor) -> Tensor:
        constant = math.prod(squared_error.shape[-3:]) * math.log(self.sigma * math.sqrt(2 * math.pi))
        return -0.5 * squared_error.sum((-3, -2, -1)) / self.sigma**2 - constant


class PowerPosterior(Density):
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

    def parameters(self) -> list[nn.Parameter]:
        return [*self.prior.parameters(), *_parameters(self.likelihood.generator)]

    def score(self, z: Tensor) -> Tensor:
        """t ∇ℓ(z) + ∇ log p_α(z) (report, equation 17); each term is computed in its own precision."""
        return _gradient(lambda z: self.t * self.likelihood.log_prob(self.x, z), z) + self.prior.score(z)
