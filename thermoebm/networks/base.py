"""What an energy and a generator are, and what networks check alike."""

import math

from torch import nn


class Energy(nn.Module):
    """A negative energy f_α: maps latents (..., d) to (...), in nats.

    Attributes:
        latent_dim: Dimension d of a latent.
    """

    latent_dim: int


class Generator(nn.Module):
    """A generator g_β: maps latents (N, d) to images (N, C, H, W).

    Attributes:
        latent_dim: Dimension d of a latent.
        image_shape: (C, H, W).
    """

    latent_dim: int
    image_shape: tuple[int, int, int]


def check_leak(network: nn.Module, leak: float) -> None:
    """Checks the slope of a network's leaky rectifiers for negative inputs.

    Raises:
        ValueError: If it is not finite.
    """
    if not math.isfinite(leak):
        raise ValueError(f"{type(network).__name__}: leak is {leak}; it must be finite (report: 0.1 and 0.2).")
