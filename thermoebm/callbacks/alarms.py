"""Alarms: each reports in one sentence a fault that training itself does not notice."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer

from thermoebm.callbacks.rollback import rolled_back
from thermoebm.modules import ImageModel, not_finite
from thermoebm.runtime.way_back import way_back


class ZeroGradientAlarm(pl.Callback):
    """Warns once when a trainable network received an exactly zero gradient over a whole epoch.

    That is how the published runs of the report went wrong: their energy never left its initialisation. The cause is
    the objective, unless the images are saturated: where a tanh is rounded to ±1 its derivative 1 - tanh² is zero.
    A network that the objective itself names as one without gradient is not reported: it was asked for.
    """

    def __init__(self) -> None:
        self._largest: dict[str, Tensor] = {}
        self._told: set[str] = set()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._largest = {}

    def state_dict(self) -> dict[str, Any]:
        return {"largest": self._largest} if self._largest else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._largest = state_dict["largest"]

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        for name, network in _trainable_networks(pl_module):
            gradients = [p.grad for p in network.parameters() if p.grad is not None]
            # Kept on the device: no synchronisation before the epoch ends.
            norms = torch._foreach_norm(gradients, float("inf")) if gradients else [torch.zeros(())]
            largest = torch.stack(norms).max()
            before = self._largest.get(name, largest)
            self._largest[name] = torch.maximum(before.to(largest.device), largest)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seen, self._largest = self._largest, {}
        if not seen or rolled_back(trainer):  # resumed at the end of an epoch, or its gradients are undone
            return
        objective = getattr(pl_module, "objective", None)
        intended = pl_module.without_gradient() if isinstance(pl_module, ImageModel) else ()
        for name, _ in _trainable_networks(pl_module):
            learns = name in seen and seen[name].item() != 0
            if not learns and name not in self._told and name not in intended:
                self._told.add(name)
                remedy = f"choose another objective than {objective!r}, or freeze the {name} on purpose"
                if name == "generator" or getattr(objective, "estimator", None) == "pathwise":  # it comes by the images
                    remedy = _saturation(trainer, pl_module) or remedy
                rank_zero_warn(
                    f"The {name} received an exactly zero gradient over the whole of epoch {trainer.current_epoch} "
                    f"and does not learn: {remedy}."
                )


class NotFiniteAlarm(pl.Callback):
    """Stops training at the end of an epoch that left non-finite parameters: nothing is learned from then on.

    Checkpoints are saved later in the same hook, so the last checkpoint, if there is one, is of an epoch before.
    :class:`thermoebm.callbacks.EnergyAlarm` goes back to that epoch instead, unless it is told otherwise.

    Raises:
        FloatingPointError: If parameters are not finite; the message names the networks, the checkpoint and the remedy.
    """

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        broken = not_finite(pl_module)
        if broken:
            raise FloatingPointError(
                f"Training broke down in epoch {trainer.current_epoch}: parameters of the {' and the '.join(broken)} "
                f"are not finite. {way_back(trainer)} with lower learning rates."
            )


def _saturation(trainer: pl.Trainer, model: pl.LightningModule) -> str | None:
    """What to do if hardly a pixel of the model's images has a gradient; None: it is not that."""
    if not isinstance(model, ImageModel):
        return None
    with trainer.precision_plugin.forward_context():  # a lower precision rounds to ±1 earlier
        images = model.generate(16, model.stream("zero gradient alarm"))
    if (images.abs() == 1).float().mean() < 0.99:
        return None
    return (
        "the generated images are saturated at ±1, where tanh has no gradient; start again with a lower "
        "--model.generator_optimizer.learning_rate"
    )


def _trainable_networks(module: pl.LightningModule) -> list[tuple[str, nn.Module]]:
    return [(n, net) for n, net in module.named_children() if any(p.requires_grad for p in net.parameters())]
