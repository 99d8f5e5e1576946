"""The likelihood of images."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor


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
