"""What the rest of the package needs of a model of images, and what all kinds of models share."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from thermoebm import optim
from thermoebm.modules.averaging import AveragedWeights
from thermoebm.modules.finiteness import Refusals
from thermoebm.modules.restoring import Restorable
from thermoebm.objectives import Output
from thermoebm.optim import DecayedAdam, GuardedAdam
from thermoebm.runtime import randomness
from thermoebm.runtime.cost import Flops, precision


class ImageModel(Restorable, ABC):
    """A model of images (C, H, W) whose networks learn by one loss, with one Adam optimiser.

    A subclass sets the attributes and has :meth:`networks`, :meth:`generate`, :meth:`reconstruct` and :meth:`loss`.
    Training, validation, pictures, distances, gradient variance, cost, checkpoints, studies and ``evaluate.py`` need no
    more of it; the other methods are here to be replaced.

    Attributes:
        image_shape: (C, H, W).
        seed: Seed of all noise that the model draws, combined with the process's rank.
        optimizer_settings: The settings of Adam for each network that is trained.
        decay_interval: Learning rates decay once an ``epoch``, or at each ``step``, by the same factor over an epoch.
        averaged: Averages of the weights, which sample and are validated; None: there are none.
        refusals: What becomes of steps whose gradient is not finite.
        keyed: Whether training batches have the keys of their images; an ImageDataModule asks for it.
    """

    seed: int = 0
    optimizer_settings: tuple[tuple[nn.Module, DecayedAdam], ...]
    decay_interval: Literal["epoch", "step"] = "epoch"
    averaged: AveragedWeights | None  # a class's value would hide the module
    refusals: Refusals
    keyed: bool = False

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.averaged = None
        self.refusals = Refusals("stop", type(self).__name__, ("stop",))

    # What a model is

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""

    @abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """The networks by name, each an attribute of that name, in the order of ``optimizer_settings``."""

    @abstractmethod
    def generate(self, count: int, rng: torch.Generator) -> Tensor:
        """Images (count, C, H, W), in [-1, 1] apart from any noise that the model adds; without gradient."""

    @abstractmethod
    def reconstruct(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Reconstructions of images (B, C, H, W), of the same shape; without gradient."""

    @abstractmethod
    def loss(self, batch: Any, rng: torch.Generator, step: int | None = None) -> Tensor:
        """The loss of a batch, a scalar whose gradient is the learning gradient.

        Args:
            batch: Images (B, C, H, W), with keys if the model is ``keyed``.
            rng: Stream of all noise of this call.
            step: Given a training step, everything that it computes, not only what the gradient needs.
        """

    # What may be replaced

    def title(self) -> str:
        """What is trained, in a word or two."""
        return type(self).__name__

    def notes(self) -> list[str]:
        """What the settings mean, as far as a user may not expect it; each note in a few words."""
        return []

    def measures_in(self, step: int | None) -> bool:
        """Whether a training step, or a draw (None), also computes what is only measured; such steps cost more."""
        return False

    def without_gradient(self) -> tuple[str, ...]:
        """Names of the networks whose gradient is zero by definition."""
        return ()

    def check_batch(self, size: int) -> None:
        """Raises a ValueError if the loss cannot be computed for so many images."""
        return None

    def check_images(self, image_shape: tuple[int, ...]) -> None:
        """Raises a ValueError if the model is of images of another shape (C, H, W)."""
        made = tuple(self.image_shape)
        if tuple(image_shape) != made:
            raise ValueError(
                f"{type(self).__name__}: the generator makes images of shape {made}, the data set has "
                f"{tuple(image_shape)}; set the generator's image_shape or the data's image size."
            )

    def image_flops(self) -> int:
        """Floating-point operations for one generated image, by which the number of CPU threads is chosen."""
        with Flops() as flops:
            self.generate(1, self.stream("cost"))
        return flops.total

    def output(self, x: Tensor, rng: torch.Generator, step: int | None = None) -> Output:
        """The loss of images (B, C, H, W) and what is logged beside it."""
        return Output(self.loss(x, rng, step), {}, {})

    def held_out(self, x: Tensor, batch_idx: int) -> dict[str, Tensor]:
        """Scalars that validation and test log of held-out images (B, C, H, W).

        The noise depends on the batch, not on the epoch, so that curves over epochs change through learning alone, and
        not on the stage: validation and test use the same images and give the same numbers.
        """
        output = self.output(x, self.stream("val", batch_idx), None)
        reconstruction = self.reconstruct(x, self.stream("val reconstruction", batch_idx))
        error = (x - reconstruction).square().mean()
        return {"loss": output.loss.detach(), **output.diagnostics, "reconstruction_error": error}

    # What every model does

    def stream(self, name: str, *counters: int) -> torch.Generator:
        """This process's random stream for one named use (see :mod:`thermoebm.runtime.randomness`)."""
        return randomness.stream(self.device, self.seed, name, self.global_rank, *counters)

    def _normal(self, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
        dtype = precision(next(iter(self.networks().values())))
        return torch.randn(shape, generator=rng, device=rng.device, dtype=dtype)

    def configure_optimizers(self) -> Any:
        decays_per_epoch = 1
        if self.decay_interval == "step":
            self.trainer.fit_loop.setup_data()  # counts the batches
            decays_per_epoch = int(self.trainer.num_training_batches)
        optimizer, scheduler = optim.build(self.optimizer_settings, decays_per_epoch)
        return [optimizer], [scheduler]

    def on_train_start(self) -> None:
        self.refusals.begin(self.trainer)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        step = self.global_step
        self.descend(batch, self.output(batch, self.stream("training", step), step))

    def descend(self, images: Tensor, output: Output) -> None:
        """Makes a step with the gradient of a loss, and logs what there is."""
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(output.loss)
        optim.clip(self.optimizer_settings)
        optimizer.step()  # leaves all as it is where the gradient is not finite
        adam: GuardedAdam = optimizer.optimizer
        self.after_step(output, adam.made)
        self._decay_learning_rates("step")
        scalars = {"loss": output.loss.detach(), **output.diagnostics}
        self.log_dict({f"train/{name}": value for name, value in scalars.items()}, prog_bar=True)
        self.refusals.note(self, images, output, adam)

    def after_step(self, output: Output, made: Tensor | None) -> None:
        """Changes what follows the networks: here averaged weights.

        Args:
            output: Of the step.
            made: () whether the step was made; None: a gradient scaler decided.
        """
        if self.averaged is not None:
            self.averaged.update(self.weights(), made)

    def on_train_epoch_end(self) -> None:
        self.refusals.end_epoch(self)
        self._decay_learning_rates("epoch")

    def _decay_learning_rates(self, interval: str) -> None:
        scheduler: Any = self.lr_schedulers()
        if interval == self.decay_interval:
            scheduler.step()

    # Averaged weights

    def weights(self) -> list[nn.Parameter]:
        """The parameters of all networks, in an order that never changes."""
        return [parameter for network in self.networks().values() for parameter in network.parameters()]

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Within it the networks have the averaged weights, if there are any; nothing may train in it."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def take_averaged_weights(self) -> None:
        """Goes on with the averaged weights, if there are any, for good: the average ends."""
        self._swap()
        self.averaged = None

    def _swap(self) -> None:
        if self.averaged is not None:
            self.averaged.swap(self.weights())

    # Validation, test and prediction, with the averaged weights

    def on_validation_epoch_start(self) -> None:
        self._swap()

    on_validation_epoch_end = on_test_epoch_start = on_test_epoch_end = on_validation_epoch_start
    on_predict_epoch_start = on_predict_epoch_end = on_validation_epoch_start

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self._log_held_out("val", batch, batch_idx)

    def test_step(self, batch: Tensor, batch_idx: int) -> None:
        self._log_held_out("test", batch, batch_idx)

    def predict_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Generates as many images as the batch has entries; the entries themselves are not used."""
        return self.generate(len(batch[0]), self.stream("predict", batch_idx))

    def _log_held_out(self, stage: str, x: Tensor, batch_idx: int) -> None:
        scalars = self.held_out(x, batch_idx)
        self.log_dict({f"{stage}/{name}": v for name, v in scalars.items()}, batch_size=len(x), sync_dist=True)
