"""What the networks of images share: the sizes they are for, the widths of their layers, and layers that go down."""

from itertools import pairwise

from torch import nn

# Image size -> (size of the smallest map, number of doublings from it to the image).
_PLANS = {8: (4, 1), 16: (4, 2), 28: (7, 2), 32: (4, 3), 64: (4, 4), 128: (4, 5)}


def plan(
    network: nn.Module, image_shape: tuple[int, int, int], features: int, does: str, role: str
) -> tuple[int, list[int]]:
    """The hidden maps of a network between images and a vector, whichever way it goes.

    Args:
        network: The network, for the sentence of the error.
        image_shape: (channels, height, width) of an image.
        features: Width factor: the smallest map has ``16 * features`` channels.
        does: What the network does with images, ``make`` or ``take``, for the same sentence.
        role: What the network is, such as ``generator``.

    Returns:
        The size of the smallest map, and the channels of each, the smallest first. Each map is twice as large as the
        one before and has half its channels, but at least one. The image comes after the last and is not among them.

    Raises:
        ValueError: If the image is not square, of size 8, 16, 28, 32, 64 or 128 and with 1 or 3 channels.
    """
    channels, height, width = image_shape
    if height != width or height not in _PLANS or channels not in (1, 3):
        raise ValueError(
            f"{type(network).__name__} cannot {does} images of shape {(channels, height, width)}: it {does}s square "
            f"images of size {', '.join(map(str, _PLANS))} with 1 or 3 channels; resize the data or give another "
            f"{role}."
        )
    smallest, doublings = _PLANS[height]
    return smallest, [max(16 * features // 2**i, 1) for i in range(doublings)]


def downward(channels: int, smallest: int, widths: list[int], leak: float, outputs: int) -> nn.Sequential:
    """Layers from images (N, C, H, W) to numbers (N, outputs): the maps of ``plan``, the largest first.

    A strided 4x4 convolution and a leaky rectifier lead to each map, a linear layer from the smallest to the numbers.
    No layer has statistics: each image is mapped by itself.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise([channels, *reversed(widths)]):
        layers += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(leak)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[0] * smallest**2, outputs))
