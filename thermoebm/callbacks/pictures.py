"""Writes pictures as PNG files under the run's directory and to TensorBoard."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torchvision.utils import make_grid, save_image

from thermoebm.modules import ImageModel
from thermoebm.runs.logged import OVERVIEW
from thermoebm.runtime.patience import patiently
from thermoebm.runtime.progress import bar, measuring

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Tiny images in a grid are enlarged, without smoothing, to at most this many pixels a side.
_LEAST_SIDE = 48
# White pixels around each image of a grid, and of the margin that holds the labels of its rows.
_PADDING, _MARGIN = 4, 108


class PictureCallback(pl.Callback):
    """Draws a picture of the model every n-th epoch and at the last one.

    Args:
        every_n_epochs: Interval; 0: never.

    Raises:
        ValueError: If ``every_n_epochs`` is negative.
    """

    name: str

    def __init__(self, every_n_epochs: int) -> None:
        self.every_n_epochs = every_n_epochs
        if every_n_epochs < 0:
            raise ValueError(f"{type(self).__name__}: every_n_epochs is {every_n_epochs}; it must not be negative.")

    def _check_positive(self, *fields: str) -> None:
        for field in fields:
            if getattr(self, field) < 1:
                raise ValueError(f"{type(self).__name__}: {field} is {getattr(self, field)}; it must be at least 1.")

    @abstractmethod
    def picture(self, trainer: pl.Trainer, model: ImageModel) -> Tensor:
        """The picture as RGB (3, H, W) in [0, 1]."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.due(trainer) or (path := self.path(trainer)) is None:
            return
        assert isinstance(pl_module, ImageModel)
        with measuring(), bar(1, f"picture of {self.name}", "picture"):
            self.publish(trainer, path, self.picture(trainer, pl_module).cpu())

    def due(self, trainer: pl.Trainer) -> bool:
        """Whether this epoch has a picture."""
        return is_due(trainer, self.every_n_epochs)

    def path(self, trainer: pl.Trainer) -> Path | None:
        """Path of this epoch's PNG, or None if there is no run directory or logger, or another process writes it."""
        log_dir = trainer.log_dir  # read by every process: it is broadcast
        if log_dir is None or not trainer.loggers or not trainer.is_global_zero:
            return None
        return Path(log_dir) / self.name / f"epoch-{trainer.current_epoch + 1:04d}.png"

    def publish(self, trainer: pl.Trainer, path: Path, picture: Tensor, tag: str | None = None) -> None:
        """Writes a picture as PNG and to TensorBoard's overview, under ``tag`` or else the callback's name."""

        def write() -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_image(picture, path)

        patiently(path, write)
        for logger in tensorboards(trainer):
            logger.experiment.add_image(f"{OVERVIEW}/{tag or self.name}", picture, trainer.global_step)


def is_due(trainer: pl.Trainer, every_n_epochs: int) -> bool:
    """Whether the epoch that ends is an n-th one or the last; never if ``every_n_epochs`` is 0."""
    if every_n_epochs == 0:
        return False
    epoch = trainer.current_epoch + 1
    last = epoch == trainer.max_epochs or trainer.global_step == trainer.max_steps
    return last or epoch % every_n_epochs == 0


def tensorboards(trainer: pl.Trainer) -> list[TensorBoardLogger]:
    """The TensorBoard loggers of a run."""
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def image_grid(images: Tensor, columns: int) -> Tensor:
    """A grid (3, H', W') in [0, 1] of images (N, C, H, W) in [-1, 1], row by row."""
    scale = max(1, _LEAST_SIDE // images.shape[-1])
    enlarged = images.clamp(-1, 1).repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    return make_grid(enlarged / 2 + 0.5, nrow=columns, padding=_PADDING, pad_value=1.0)


def beside_rows(labels: Sequence[str], grid: Tensor) -> Tensor:
    """A grid (3, H', W') of as many rows as there are labels, with each row's label in a margin on its left."""
    from matplotlib.figure import Figure

    height, dpi = grid.shape[1], 128  # a power of two, so that inches times dpi are whole pixels
    figure = Figure(figsize=(_MARGIN / dpi, height / dpi), dpi=dpi)
    pitch = (height - _PADDING) / len(labels)
    for row, label in enumerate(labels):
        centre = (_PADDING + pitch * (2 * row + 1)) / 2
        figure.text(1 - _PADDING / _MARGIN, 1 - centre / height, label, ha="right", va="center", fontsize=7)
    return torch.cat([figure_image(figure).to(grid), grid], 2)


def figure_image(figure: "Figure") -> Tensor:
    """A drawn matplotlib figure as RGB (3, H, W) in [0, 1]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
