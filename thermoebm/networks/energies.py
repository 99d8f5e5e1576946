"""Energies f_α on latents and on images."""

from typing import Literal

from torch import Tensor, nn

from thermoebm.networks.base import Energy, ImageEnergy, check_leak, check_sizes
from thermoebm.networks.convolutions import downward, plan


class EnergyMLP(Energy):
    """Negative energy f_α of the tilted prior p_α(z) ∝ exp(f_α(z)) π0(z) (report, equation 1 and table 5).

    Two hidden layers with leaky rectifiers. Additive constants of f_α cancel in p_α.

    Args:
        latent_dim: Dimension d of a latent.
        hidden_dim: Width of both hidden layers.
        leak: Slope of the rectifiers for negative inputs.
        output: ``scalar``: a linear last layer, as in the report. ``vector``: as in the report's code, a last layer of
            size d, rectified like the others; f_α is the sum of its outputs.

    Raises:
        ValueError: If a dimension is smaller than 1, the slope is not finite, or the output is unknown.
    """

    def __init__(
        self,
        latent_dim: int,
        hidden_dim: int = 100,
        leak: float = 0.1,
        output: Literal["scalar", "vector"] = "scalar",
    ) -> None:
        super().__init__()
        check_sizes(self, latent_dim=latent_dim, hidden_dim=hidden_dim)
        check_leak(self, leak)
        if output not in ("scalar", "vector"):
            raise ValueError(f"EnergyMLP: output is '{output}'; choose 'scalar' or 'vector'.")
        self.latent_dim = latent_dim
        last: list[nn.Module] = [nn.Linear(hidden_dim, 1)]
        if output == "vector":
            last = [nn.Linear(hidden_dim, latent_dim), nn.LeakyReLU(leak)]
        self.layers = nn.Sequential(
            nn.Linear(latent_dim, hidden_dim),
            nn.LeakyReLU(leak),
            nn.Linear(hidden_dim, hidden_dim),
            nn.LeakyReLU(leak),
            *last,
        )

    def forward(self, z: Tensor) -> Tensor:
        """Maps latents (..., d) to negative energies (...), in nats."""
        return self.layers(z).sum(-1)


class ConvEnergy(ImageEnergy):
    """Negative energy f_α of π_α(x) ∝ exp(f_α(x)): the layers of :class:`ConvEncoder`, with a scalar at their end.

    It is the energy-based model of the divergence triangle (Han et al. 2019, arXiv 1812.10907). 4x4 convolutions with
    stride 2 and leaky rectifiers halve the size to 4x4 (28x28 images: to 7x7) and double the channels, up to
    ``16 * features``; a linear layer leads from there to f_α.

    There is no normalisation: π_α is a density of one image, whatever else is in its batch. f_α has no bound. Additive
    constants of f_α cancel in π_α.

    Args:
        image_shape: (channels, height, width) of an image; one or three channels, square.
        features: Width factor, as of the generator.
        leak: Slope of the leaky rectifiers.

    Raises:
        ValueError: If the image is not square, of size 8, 16, 28, 32, 64 or 128 and with 1 or 3 channels; if
            ``features`` is smaller than 1; or if the slope is not finite.
    """

    def __init__(self, image_shape: tuple[int, int, int], features: int = 64, leak: float = 0.2) -> None:
        super().__init__()
        check_sizes(self, features=features)
        check_leak(self, leak)
        smallest, widths = plan(self, image_shape, features, "take", "energy")
        channels, height, width = image_shape
        self.image_shape = (channels, height, width)
        self.layers = downward(channels, smallest, widths, leak, outputs=1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images (N, C, H, W) to negative energies (N,), in nats."""
        return self.layers(x).squeeze(-1)
