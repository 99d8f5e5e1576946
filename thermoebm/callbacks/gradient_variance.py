"""The variance of the learning gradient while a model trains: three named quantities and a running noise scale."""

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from thermoebm.callbacks import splits as split_names
from thermoebm.callbacks.gradient_report import AcrossParameters, bar_chart, report_scalars, write_table
from thermoebm.callbacks.pictures import PictureCallback, figure_image, tensorboards
from thermoebm.callbacks.splits import SplitName
from thermoebm.gradients.draws import measure, trainable
from thermoebm.gradients.statistics import Decomposition, Design, RunningNoiseScale, networks
from thermoebm.modules import ImageModel
from thermoebm.runtime.progress import measuring


class GradientVariance(PictureCallback):
    """Logs the gradient variances of :mod:`thermoebm.gradients`; NETWORK is ``energy``, ``generator`` or ``both``.

    From the gradients of the training steps, averaged over each epoch:

        gradient_variance/across_parameters/NETWORK     the report's Var_θ
        gradient_mean/across_parameters/NETWORK         the corresponding mean
        gradient_variance/running_noise_scale/NETWORK   in images (McCandlish et al. 2018)

    From separate draws at frozen parameters, after every n-th epoch and the last:

        gradient_variance/per_parameter/QUANTITY/NETWORK      ``total``, ``data``, ``sampler``, ``mean_square`` and
        gradient_variance/per_parameter/QUANTITY_se/NETWORK   ``normalised``, with standard errors
        gradient_variance/per_parameter/QUANTITY/TENSOR       ``total``, ``data`` and ``sampler``

    The folder ``gradient_variance`` gets a bar chart by tensor and a table of all numbers; TensorBoard also gets a
    histogram over the parameters of each tensor. Draws are fresh each time, so that errors average out over epochs.
    With several processes, each makes the same number of draws with its own batch size, and all blocks are pooled.

    These names are for training images. For held-out images, names and files have ``test`` after their first part, as
    in ``gradient_variance/test/per_parameter/...``. No training step has a gradient of held-out images, so
    ``gradient_variance/test/across_parameters/NETWORK`` and its mean are averaged over the draws.

    Every number belongs to one epoch, so a checkpoint at an epoch's end needs no state of this callback, and one within
    an epoch has its sums so far: a resumed run logs the same numbers. The part before the resumption is also measured
    at its own last epoch.

    Args:
        every_n_epochs: Interval of the draws; 0: never.
        num_batches, repetitions, blocks: See :class:`thermoebm.gradients.Design`. A measurement costs about as much as
            ``num_batches * repetitions`` training steps for each split.
        splits: Images to draw from: the training images (``train``), the held-out images (``test``) or both.

    Raises:
        ValueError: If the numbers are incompatible, or a split is unknown.
    """

    name = "gradient_variance"

    def __init__(
        self,
        every_n_epochs: int = 10,
        num_batches: int = Design.num_batches,
        repetitions: int = Design.repetitions,
        blocks: int = Design.blocks,
        splits: Sequence[SplitName] = ("train",),
    ) -> None:
        super().__init__(every_n_epochs)
        self.design = Design(num_batches, repetitions, blocks)
        self.splits = split_names.checked("GradientVariance", splits)
        self._batch_size = 0
        self._loaded: dict[str, Any] = {}  # sums of an epoch that a resumed run goes on with
        self._restart()

    def _restart(self) -> None:
        """Forgets the epoch's steps."""
        self._across: AcrossParameters | None = None
        self._noise_scale = RunningNoiseScale()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not isinstance(trainer.train_dataloader, DataLoader):  # raised before an epoch is spent
            raise RuntimeError("GradientVariance draws from the training images: it needs one training data loader.")
        self._loaders: dict[SplitName, DataLoader[Tensor]] = {"train": trainer.train_dataloader}
        if "test" in self.splits and self.every_n_epochs:
            data = split_names.images_module("GradientVariance", trainer.datamodule)  # type: ignore[attr-defined]
            if len(data.held_out_images) < data.batch_size:
                raise ValueError(
                    f"GradientVariance: a batch takes {data.batch_size} images, and {len(data.held_out_images)} are "
                    "held out; take a smaller batch_size or splits: [train]."
                )
            self._loaders["test"] = data.test_dataloader()
        if self._loaded:
            loaded, self._loaded = move_data_to_device(self._loaded, pl_module.device), {}
            self._across, self._batch_size = AcrossParameters(list(trainable(pl_module))), loaded["batch"]
            self._across.restore(loaded["across"])
            self._noise_scale.restore(loaded["noise_scale"])

    def state_dict(self) -> dict[str, Any]:
        if self._across is None:
            return {}
        return {"across": self._across.state(), "noise_scale": self._noise_scale.state(), "batch": self._batch_size}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._loaded = state_dict

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restart()  # an earlier fit may have been interrupted within its epoch

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Tensor, batch_idx: int
    ) -> None:
        self._batch_size = len(batch) * trainer.world_size

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        parameters = trainable(pl_module)
        gradient = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters.values()]
        if self._across is None:
            self._across = AcrossParameters(list(parameters))
        self._across.update(gradient)
        self._noise_scale.update(gradient)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._across is None:  # a resumed run repeats the end of its finished epoch
            return
        assert isinstance(pl_module, ImageModel)
        scalars = self._across.scalars() | self._noise_scales(pl_module)
        self._restart()  # also frees the gradient that the noise scale keeps
        for split in self.splits if self.due(trainer) else ():
            with measuring():
                measured = self._measure(trainer, pl_module, split)
            scalars |= {_of(split, name): value for name, value in measured.items()}
        pl_module.log_dict(scalars, sync_dist=True)

    def _measure(self, trainer: pl.Trainer, model: ImageModel, split: SplitName) -> dict[str, float]:
        """Draws from a split and writes its picture, table and histograms; returns the numbers, named as for train."""
        across = AcrossParameters(list(trainable(model)))
        name = "gradient variance" if split == "train" else f"gradient variance {split}"
        state = measure(
            model.loss,
            model,
            self._loaders[split],
            model.stream(name, trainer.current_epoch),
            model.stream(f"{name} data", trainer.current_epoch),
            self.design,
            context=trainer.precision_plugin.train_step_context,
            observe=None if split == "train" else across.update,
            title=name,
        )
        if trainer.world_size > 1:
            state.all_reduce()
        report = state.report()
        path = self.path(trainer)
        if path is not None:
            path = path.parent.parent / _of(split, f"{self.name}/{path.name}")
            chart = bar_chart(report, state.names, trainer.current_epoch + 1)
            self.publish(trainer, path, figure_image(chart), _of(split, self.name))
            write_table(report, path.with_suffix(".csv"))
            self._add_histograms(trainer, state, split)
        return across.scalars() | report_scalars(report, state.names)

    def _noise_scales(self, model: ImageModel) -> dict[str, float]:
        members = networks(list(trainable(model)))
        return {
            f"gradient_variance/running_noise_scale/{name}": self._noise_scale.value(positions, self._batch_size)
            for name, positions in members.items()
        }

    def _add_histograms(self, trainer: pl.Trainer, state: Decomposition, split: SplitName) -> None:
        loggers = tensorboards(trainer)
        for name, variance in state.per_parameter() if loggers else ():
            finite = variance[variance.isfinite()]
            for logger in loggers if len(finite) else ():
                logger.experiment.add_histogram(_of(split, f"{self.name}/{name}"), finite, trainer.global_step)


def _of(split: SplitName, name: str) -> str:
    """The name for a split: ``test`` is inserted after the first part; ``train`` is not."""
    first, *rest = name.split("/", 1)
    return "/".join([first, *(["test"] if split == "test" else []), *rest])
