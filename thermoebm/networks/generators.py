"""Generators g_β from latents to images, and the layers that they are made of."""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from thermoebm.networks.base import Generator, check_leak, check_sizes
from thermoebm.networks.convolutions import plan


class _FirstLayer(nn.ConvTranspose2d):
    """Transposed convolution of a 1x1 input, computed as a matrix product.

    The result is channels_last in memory. All later layers keep this layout, and the last layer multiplies it without
    a copy.
    """

    def forward(self, z: Tensor) -> Tensor:  # type: ignore[override]
        assert self.bias is not None
        height, width = self.kernel_size
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        h = torch.addmm(self.bias.repeat(height * width), z, weight)
        return h.view(-1, height, width, self.out_channels).permute(0, 3, 1, 2)


class _LastLayer(nn.ConvTranspose2d):
    """Transposed convolution to one or three channels, with other algorithms than torch's.

    Convolution kernels vectorise over output channels, of which there are too few here. Each input pixel makes 4x4
    output pixels, and each 2x2 quarter of them is one pixel of a grid with four times the channels. On a CPU three
    channels are computed as a 2x2 convolution on that grid and a pixel shuffle, one channel as a matrix product and a
    fold. Elsewhere both are a matrix product and four shifted additions on the grid.
    """

    def forward(self, h: Tensor) -> Tensor:  # type: ignore[override]
        assert self.bias is not None
        if h.device.type not in ("cpu", "meta"):
            image = self._added(h)
        else:
            image = self._folded(h) if self.out_channels == 1 else self._shuffled(h)
        return image + self.bias.view(-1, 1, 1)

    def _folded(self, h: Tensor) -> Tensor:
        side = 2 * h.shape[-1]
        columns = (h.permute(0, 2, 3, 1).flatten(1, 2) @ self.weight.flatten(1)).transpose(1, 2)
        return functional.fold(columns, (side, side), self.kernel_size, padding=1, stride=2)

    def _shuffled(self, h: Tensor) -> Tensor:
        weight = self._quarters().flip(2, 4).permute(1, 3, 5, 0, 2, 4).flatten(0, 2)
        weight = weight.contiguous(memory_format=torch.channels_last)
        return self._cropped(functional.conv2d(h, weight, padding=1))

    def _added(self, h: Tensor) -> Tensor:
        weight = self._quarters().permute(0, 2, 4, 1, 3, 5).flatten(1)
        quarters = (h.permute(0, 2, 3, 1) @ weight).chunk(4, -1)
        places = ((0, 1, 0, 1), (1, 0, 0, 1), (0, 1, 1, 0), (1, 0, 1, 0))  # left, right, above, below
        a, b, c, d = (functional.pad(quarter, (0, 0, *at)) for quarter, at in zip(quarters, places, strict=True))
        return self._cropped((a + b + c + d).permute(0, 3, 1, 2))

    def _quarters(self) -> Tensor:
        """The kernel as (input, output, row of the quarter, row in it, column of the quarter, column in it)."""
        return self.weight.unflatten(3, (2, 2)).unflatten(2, (2, 2))

    @staticmethod
    def _cropped(grid: Tensor) -> Tensor:
        """The image on a grid (N, 4 C, H + 1, W + 1)."""
        return functional.pixel_shuffle(grid, 2)[..., 1:-1, 1:-1]


class _TrainedStatistics(nn.Module):
    """Batch normalisation as the report's code ran it: (h - mean)/sqrt(variance + 1e-5) · scale + bias in each channel.

    The running statistics are always used and are never computed from the data. Like scale and bias they are
    parameters: the optimiser updates them, and they are part of the learning gradient. The layer is thus an affine map
    of each image by itself. Nothing keeps a variance positive: below -1e-5 the images are NaN, as in the report's code,
    and :class:`thermoebm.callbacks.NotFiniteAlarm` ends the training.
    """

    epsilon = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(channels))
        self.variance = nn.Parameter(torch.ones(channels))
        self.scale = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, h: Tensor) -> Tensor:
        """Maps (N, C, H, W) to the same shape."""
        factor = self.scale * (self.variance + self.epsilon).rsqrt()
        return h * factor.view(-1, 1, 1) + (self.bias - self.mean * factor).view(-1, 1, 1)


class ConvGenerator(Generator):
    """Top-down generator g_β: transposed 4x4 convolutions from a latent to an image in [-1, 1] (report, table 5).

    The first layer has ``16 * features`` channels. Each further layer doubles the size and halves the channels, except
    that the last one has the channels of the image and is followed by a tanh. Sizes: 4x4 -> 8 -> 16 -> 32 -> 64 -> 128,
    and 7x7 -> 14 -> 28.

    Args:
        latent_dim: Dimension d of a latent.
        image_shape: (channels, height, width) of an image; one or three channels, square.
        features: Width factor, ngf in the report.
        leak: Slope of the leaky rectifiers.
        normalization: ``none``. ``group``: each image is normalised by itself after each hidden layer.
            ``trained_statistics``: the batch normalisation of the report's code after every layer, including the last,
            with statistics that are trained like weights and never computed from the data. Batch statistics are not
            offered: the density of one latent would then depend on the other latents of its batch.

    Raises:
        ValueError: If the image is not square, of size 8, 16, 28, 32, 64 or 128 and with 1 or 3 channels; if
            ``latent_dim`` or ``features`` is smaller than 1; if the slope is not finite; or if the normalisation is
            unknown.
    """

    def __init__(
        self,
        latent_dim: int,
        image_shape: tuple[int, int, int],
        features: int = 64,
        leak: float = 0.2,
        normalization: Literal["none", "group", "trained_statistics"] = "none",
    ) -> None:
        super().__init__()
        check_sizes(self, latent_dim=latent_dim, features=features)
        check_leak(self, leak)
        if normalization not in ("none", "group", "trained_statistics"):
            raise ValueError(
                f"ConvGenerator: normalization is '{normalization}'; choose 'none', 'group' or 'trained_statistics'."
            )
        first_size, widths = plan(self, image_shape, features, "make", "generator")
        channels, height, width = image_shape
        self.latent_dim = latent_dim
        self.image_shape = (channels, height, width)
        self.features = features

        hidden: list[nn.ConvTranspose2d] = [_FirstLayer(latent_dim, widths[0], first_size)]
        hidden += [nn.ConvTranspose2d(wide, narrow, 4, 2, 1) for wide, narrow in pairwise(widths)]
        layers: list[nn.Module] = []
        for layer in hidden:
            layers += [layer, *self._normalised(layer.out_channels, normalization), nn.LeakyReLU(leak)]
        layers += [_LastLayer(widths[-1], channels, 4, 2, 1)]
        if normalization == "trained_statistics":
            layers += [_TrainedStatistics(channels)]
        self.layers = nn.Sequential(*layers, nn.Tanh())

    @staticmethod
    def _normalised(width: int, normalization: str) -> list[nn.Module]:
        """The normalisation after a hidden layer of this width, as a list of at most one layer."""
        if normalization == "trained_statistics":
            return [_TrainedStatistics(width)]
        return [nn.GroupNorm(1, width)] if normalization == "group" else []

    def forward(self, z: Tensor) -> Tensor:
        """Maps latents (N, d) to images (N, C, H, W) in [-1, 1]."""
        return self.layers(z)
