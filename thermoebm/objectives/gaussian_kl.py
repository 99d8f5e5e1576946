"""KL divergences between adjacent power posteriors, from fitted Gaussians (report, equations 19, 20 and 22)."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


def gaussian_kl(mean_p: Tensor, covariance_p: Tensor, mean_q: Tensor, covariance_q: Tensor) -> Tensor:
    """KL(N(mean_p, covariance_p) ‖ N(mean_q, covariance_q)) (report, equation 20), from Cholesky factors.

    It is ½ (log det Σ_q - log det Σ_p + tr(Σ_q⁻¹ Σ_p) + (μ_q - μ_p)ᵀ Σ_q⁻¹ (μ_q - μ_p) - d).

    Args:
        mean_p, mean_q: (..., d).
        covariance_p, covariance_q: (..., d, d), positive definite.

    Returns:
        Divergence (...), in nats; NaN where a covariance is not positive definite.
    """
    factor_p, factor_q = _cholesky(covariance_p), _cholesky(covariance_q)
    ratio = torch.linalg.solve_triangular(factor_q, factor_p, upper=False)
    shift = torch.linalg.solve_triangular(factor_q, (mean_q - mean_p).unsqueeze(-1), upper=False)
    log_determinants = [factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) for factor in (factor_q, factor_p)]
    quadratic = ratio.square().sum((-2, -1)) + shift.square().sum((-2, -1)) - mean_p.shape[-1]
    return log_determinants[0] - log_determinants[1] + quadratic / 2


def _cholesky(covariance: Tensor) -> Tensor:
    """Cholesky factor, NaN where it fails; torch's own check would make the host wait for the device."""
    factor, info = torch.linalg.cholesky_ex(covariance)
    return factor.where(info[..., None, None] == 0, torch.nan)


@dataclass(frozen=True)
class GaussianKL:
    """The KL terms of the report's evidence estimate; its fields select between readings of the report.

    For one image, log p_θ(x) = trapezium + ½ Σ [KL(p_{i-1}‖p_i) - KL(p_i‖p_{i-1})] is exact. The report fits a Gaussian
    to the samples of a whole batch at each temperature. This estimates the divergence of the pooled posteriors and
    corrects next to nothing; it is kept because it is the report's method. In a training step, the batch is that of
    all processes; in validation, and where gradients are measured, each process fits its own.

    Args:
        combination: ``difference`` of the two divergences: the exact identity, and the report's code. ``sum``: as
            printed in the report's equations 19 and 22; it turns the trapezium into the right Riemann sum.
        covariance: ``full`` or ``diagonal``.
        shrinkage: λ in (1 - λ) S + λ (tr S / d) I, with the sample covariance S. A positive λ makes the covariance
            regular even with fewer samples than dimensions.
        softmax: Apply a softmax to each latent first, as the report's code does.
        ridge: ε of the term ε I added to the covariance; 1e-5 in the report's code. It too makes the covariance
            regular; where it dominates the covariance, it determines the divergence.

    Raises:
        ValueError: If a choice is unknown, λ lies outside [0, 1], or ε is negative or infinite.
    """

    combination: Literal["difference", "sum"] = "difference"
    covariance: Literal["full", "diagonal"] = "full"
    shrinkage: float = 0.1
    softmax: bool = False
    ridge: float = 0.0

    def __post_init__(self) -> None:
        if self.combination not in ("difference", "sum"):
            raise ValueError(f"GaussianKL: combination is '{self.combination}'; choose 'difference' or 'sum'.")
        if self.covariance not in ("full", "diagonal"):
            raise ValueError(f"GaussianKL: covariance is '{self.covariance}'; choose 'full' or 'diagonal'.")
        if not 0 <= self.shrinkage <= 1:
            raise ValueError(f"GaussianKL: shrinkage is {self.shrinkage}; it must lie in [0, 1].")
        if not 0 <= self.ridge < math.inf:
            raise ValueError(f"GaussianKL: ridge is {self.ridge}; it must be finite and not negative.")

    def check(self, samples: int, d: int) -> None:
        """Raises a ValueError if the covariance of this many samples in d dimensions is singular in these settings."""
        unregularised = self.covariance == "full" and self.shrinkage == 0 and self.ridge == 0
        if samples < 2 or (unregularised and (samples <= d or self.softmax)):
            raise ValueError(
                f"GaussianKL: {samples} samples in {d} dimensions give a singular covariance; "
                "use larger batches, shrinkage or ridge above 0 or the diagonal covariance."
            )

    def fit(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (..., d) and regularised covariance (..., d, d) of samples z (..., B, d), in float64.

        Raises:
            ValueError: If there are too few samples for a regular covariance.
        """
        samples, d = z.shape[-2:]
        z = z.double().softmax(-1) if self.softmax else z.double()
        self.check(samples, d)
        mean = z.mean(-2)
        centred = z - mean.unsqueeze(-2)
        identity = torch.eye(d, dtype=z.dtype, device=z.device)
        covariance = centred.mT @ centred / (samples - 1)
        if self.covariance == "diagonal":
            covariance = covariance * identity
        scale = covariance.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
        shrunk = (1 - self.shrinkage) * covariance + self.shrinkage * scale * identity
        return mean, shrunk + self.ridge * identity

    def __call__(self, z: Tensor) -> Tensor:
        """½ Σ_i [KL(p_{i-1}‖p_i) ∓ KL(p_i‖p_{i-1})] in nats, a scalar, from ladder samples z (T, B, d).

        Raises:
            ValueError: If there are too few samples for a regular covariance.
        """
        mean, covariance = self.fit(z)
        forward = gaussian_kl(mean[:-1], covariance[:-1], mean[1:], covariance[1:])
        reverse = gaussian_kl(mean[1:], covariance[1:], mean[:-1], covariance[:-1])
        return self.combine(forward, reverse)

    def combine(self, forward: Tensor, reverse: Tensor) -> Tensor:
        """½ Σ_i [forward_i ∓ reverse_i] over the first axis of divergences (N_t, ...)."""
        signed = forward - reverse if self.combination == "difference" else forward + reverse
        return signed.sum(0) / 2
