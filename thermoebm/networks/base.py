"""What energies, generators and encoders are, and what networks check alike."""

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


class Encoder(nn.Module):
    """An encoder q_φ(z|x), a diagonal Gaussian: maps images (N, C, H, W) to its mean (N, d) and log variance (N, d).

    Attributes:
        latent_dim: Dimension d of a latent.
        image_shape: (C, H, W).
    """

    latent_dim: int
    image_shape: tuple[int, int, int]


class ImageEnergy(nn.Module):
    """A negative energy f_α of images: maps images (N, C, H, W) to (N,), in nats.

    Attributes:
        image_shape: (C, H, W).
    """

    image_shape: tuple[int, int, int]


def check_sizes(network: nn.Module, **sizes: int) -> None:
    """Checks the sizes of a network, by the names of its arguments.

    Raises:
        ValueError: If one is smaller than 1.
    """
    if min(sizes.values()) < 1:
        said = " and ".join(f"{name} {size}" for name, size in sizes.items())
        raise ValueError(f"{type(network).__name__}: {said} must be at least 1.")


def check_leak(network: nn.Module, leak: float) -> None:
    """Checks the slope of a network's leaky rectifiers for negative inputs.

    Raises:
        ValueError: If it is not finite.
    """
    if not math.isfinite(leak):
        raise ValueError(f"{type(network).__name__}: leak is {leak}; it must be finite (report: 0.1 and 0.2).")
