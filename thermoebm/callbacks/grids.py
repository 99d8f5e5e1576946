"""Grids of images: samples of the model, and reconstructions beside their originals."""

import lightning.pytorch as pl
import torch
from torch import Tensor

from thermoebm.callbacks.of_kind import OfKind
from thermoebm.callbacks.pictures import PictureCallback, beside_rows, image_grid
from thermoebm.modules import VAE, ImageModel


class SampleGrid(PictureCallback):
    """Images generated from the prior, with the same noise every time, so that one can watch a sample change.

    Args:
        every_n_epochs: Interval; 0: never.
        count: Number of images.
        columns: Images in a row.
    """

    name = "samples"

    def __init__(self, every_n_epochs: int = 10, count: int = 100, columns: int = 10) -> None:
        super().__init__(every_n_epochs)
        self.count = count
        self.columns = columns
        self._check_positive("count", "columns")

    def picture(self, trainer: pl.Trainer, model: ImageModel) -> Tensor:
        with model.averaged_weights():
            images = model.generate(self.count, model.stream("sample grid"))
        return image_grid(images, self.columns)


class ReconstructionGrid(PictureCallback):
    """Held-out images in odd rows, and below each its reconstruction from one latent; rows are labelled.

    Args:
        every_n_epochs: Interval; 0: never.
        count: Number of images.
        columns: Images in a row.
    """

    name = "reconstructions"

    def __init__(self, every_n_epochs: int = 10, count: int = 40, columns: int = 10) -> None:
        super().__init__(every_n_epochs)
        self.count = count
        self.columns = columns
        self._check_positive("count", "columns")

    def picture(self, trainer: pl.Trainer, model: ImageModel) -> Tensor:
        x = held_out(trainer, model, self.count)
        with model.averaged_weights():
            reconstructions = model.reconstruct(x, model.stream("reconstruction grid"))
        return reconstruction_grid(x, reconstructions, self.columns)


class InterpolationGrid(OfKind, PictureCallback):
    """In each row a held-out image, images on the line between the latents of two, and the other, at its ends.

    Args:
        every_n_epochs: Interval; 0: never.
        count: Number of rows.
        steps: Images between each two.
    """

    name = "interpolations"
    kind = VAE
    measures = "latents of an encoder"

    def __init__(self, every_n_epochs: int = 10, count: int = 8, steps: int = 8) -> None:
        super().__init__(every_n_epochs)
        self.count = count
        self.steps = steps
        self._check_positive("count", "steps")

    def picture(self, trainer: pl.Trainer, model: ImageModel) -> Tensor:
        assert isinstance(model, VAE)
        x = held_out(trainer, model, 2 * self.count)
        start, end = x[: len(x) // 2], x[len(x) // 2 : 2 * (len(x) // 2)]
        with model.averaged_weights():
            between = model.interpolate(start, end, self.steps)
        rows = torch.cat([start.unsqueeze(1), between, end.unsqueeze(1)], 1)
        return image_grid(rows.flatten(0, 1), self.steps + 2)


def reconstruction_grid(originals: Tensor, reconstructions: Tensor, columns: int) -> Tensor:
    """A labelled grid (3, H', W') of images (N, C, H, W) in [-1, 1], and below each row of them its reconstructions."""
    rows = list(zip(originals.split(columns), reconstructions.split(columns), strict=True))
    grid = image_grid(torch.cat([_full_row(part, columns) for row in rows for part in row]), columns)
    return beside_rows(("original", "reconstruction") * len(rows), grid)


def _full_row(images: Tensor, columns: int) -> Tensor:
    """Images (n, C, H, W), padded with white images to a full row."""
    return torch.cat([images, images.new_ones(columns - len(images), *images.shape[1:])])


def held_out(trainer: pl.Trainer, model: ImageModel, count: int) -> Tensor:
    """The first held-out images (at most ``count`` of them), on the model's device.

    Raises:
        RuntimeError: If training has no validation data.
    """
    data = getattr(trainer, "datamodule", None)
    loader = trainer.val_dataloaders if data is None else data.val_dataloader()
    if loader is None:
        raise RuntimeError("Pictures of held-out images need a validation data loader; this trainer has none.")
    images: list[Tensor] = []
    for batch in loader:
        images.append(batch)
        if sum(map(len, images)) >= count:
            break
    return torch.cat(images)[:count].to(model.device)
