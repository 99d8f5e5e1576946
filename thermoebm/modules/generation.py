"""Many images drawn from a model, in batches that noise does not depend on."""

from collections.abc import Callable

import torch
from torch import Tensor

from thermoebm.modules.latent_ebm import LatentEBM
from thermoebm.runtime.progress import bar

# Images in a batch; part of what a seed means.
BATCH = 250


def draw(model: LatentEBM, count: int, stream: Callable[[int], torch.Generator], title: str | None = None) -> Tensor:
    """Images (count, C, H, W) in [-1, 1].

    Args:
        model: The model.
        count: Number of images. More of them begin with the same ones.
        stream: Maps a batch's index to the stream of its noise.
        title: Of the progress bar; None for no bar.
    """
    images: list[Tensor] = []
    with bar(count, title, "image") as progress:
        while (done := sum(map(len, images))) < count:
            images.append(model.generate(BATCH, stream(len(images)))[: count - done])
            progress.update(len(images[-1]))
    return torch.cat(images)
