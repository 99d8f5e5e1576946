"""Energies f_α on latents."""

from typing import Literal

from torch import Tensor, nn

from thermoebm.networks.base import Energy, check_leak


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
        if min(latent_dim, hidden_dim) < 1:
            raise ValueError(f"EnergyMLP: latent_dim {latent_dim} and hidden_dim {hidden_dim} must be at least 1.")
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
