"""Generation of many images in batches of a fixed size, each with its own noise stream."""

from collections.abc import Callable

import torch
from torch import Tensor

from thermoebm.modules.image_model import ImageModel
from thermoebm.runtime.progress import bar

# Images in a batch. Another value changes the images of a given seed.
BATCH = 250


def draw(model: ImageModel, count: int, stream: Callable[[int], torch.Generator], title: str | None = None) -> Tensor:
    """Generates images (count, C, H, W) in [-1, 1], apart from any pixel noise that the model adds.

    Args:
        model: The model.
        count: Number of images. A larger count begins with the same images.
        stream: Maps the index of a batch to its noise stream.
        title: Title of the progress bar; None for no bar.
    """
    images: list[Tensor] = []
    with bar(count, title, "image") as progress:
        while (done := sum(map(len, images))) < count:
            images.append(model.generate(BATCH, stream(len(images)))[: count - done])
            progress.update(len(images[-1]))
    return torch.cat(images)
