"""Encoders q_φ from images to Gaussians of latents."""

from torch import Tensor

from thermoebm.networks.base import Encoder, check_leak, check_sizes
from thermoebm.networks.convolutions import downward, plan


class ConvEncoder(Encoder):
    """Bottom-up encoder q_φ(z|x) = N(μ_φ(x), V_φ(x)), V_φ diagonal: :class:`ConvGenerator` the other way round.

    It is the inference model of the divergence triangle (Han et al. 2019, arXiv 1812.10907). 4x4 convolutions with
    stride 2 and leaky rectifiers halve the size and double the channels, up to ``16 * features``; a linear layer leads
    from the last map to mean and log variance. Sizes: 128 -> 64 -> 32 -> 16 -> 8 -> 4, and 28 -> 14 -> 7. With F
    features:

        image                 8    16, 28   32           64               128
        channels of its maps  16F  8F, 16F  4F, 8F, 16F  2F, 4F, 8F, 16F  F, 2F, 4F, 8F, 16F

    There is no normalisation: each image is encoded by itself. The log variance is not bounded: KL(q_φ(z|x)‖N(0, I))
    grows with the variance and with minus its logarithm, and so holds it on both sides.

    Args:
        latent_dim: Dimension d of a latent.
        image_shape: (channels, height, width) of an image; one or three channels, square.
        features: Width factor, as of the generator.
        leak: Slope of the leaky rectifiers.

    Raises:
        ValueError: If the image is not square, of size 8, 16, 28, 32, 64 or 128 and with 1 or 3 channels; if
            ``latent_dim`` or ``features`` is smaller than 1; or if the slope is not finite.
    """

    def __init__(
        self, latent_dim: int, image_shape: tuple[int, int, int], features: int = 64, leak: float = 0.2
    ) -> None:
        super().__init__()
        check_sizes(self, latent_dim=latent_dim, features=features)
        check_leak(self, leak)
        smallest, widths = plan(self, image_shape, features, "take", "encoder")
        channels, height, width = image_shape
        self.latent_dim = latent_dim
        self.image_shape = (channels, height, width)
        self.layers = downward(channels, smallest, widths, leak, outputs=2 * latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps images (N, C, H, W) to the mean (N, d) and the log variance (N, d) of q_φ(z|x)."""
        mean, log_variance = self.layers(x).chunk(2, -1)
        return mean, log_variance
