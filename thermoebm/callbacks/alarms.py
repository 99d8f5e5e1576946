"""Alarms: each reports in one sentence a fault that training itself does not notice."""

from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer

from thermoebm.modules import LatentEBM
from thermoebm.objectives import Objective


class ZeroGradientAlarm(pl.Callback):
    """Warns once when a trainable network received an exactly zero gradient over a whole epoch.

    That is how the published runs of the report went wrong: their energy never left its initialisation. The cause is
    the objective, unless the images are saturated: where a tanh is rounded to ±1 its derivative 1 - tanh² is zero.
    A network that the objective itself names as one without gradient is not reported: it was asked for.
    """

    def __init__(self) -> None:
        self._largest: dict[str, Tensor] = {}
        self._told: set[str] = set()
        self._steps = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._largest, self._steps = {}, 0

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        self._steps += 1
        for name, network in _trainable_networks(pl_module):
            gradients = [p.grad for p in network.parameters() if p.grad is not None]
            if gradients:  # kept on the device: no synchronisation before the epoch ends
                largest = torch.stack(torch._foreach_norm(gradients, float("inf"))).max()
                self._largest[name] = torch.maximum(self._largest.get(name, largest), largest)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._steps == 0:  # resumed at the end of an epoch
            return
        objective = getattr(pl_module, "objective", None)
        intended = objective.without_gradient() if isinstance(objective, Objective) else ()
        for name, _ in _trainable_networks(pl_module):
            learns = name in self._largest and self._largest[name].item() != 0
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

    Raises:
        FloatingPointError: If parameters are not finite; the message names the networks, the checkpoint and the remedy.
    """

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        broken = [n for n, net in pl_module.named_children() if not all(p.isfinite().all() for p in net.parameters())]
        if broken:
            raise FloatingPointError(
                f"Training broke down in epoch {trainer.current_epoch}: parameters of the {' and the '.join(broken)} "
                f"are not finite. {_way_back(trainer)} with lower learning rates."
            )


def _way_back(trainer: pl.Trainer) -> str:
    saved = [path for keeper in trainer.checkpoint_callbacks for path in _saved(keeper)]
    resumed = [trainer.ckpt_path] if trainer.ckpt_path else []
    for path in map(Path, [*saved, *resumed]):
        if path.is_file():
            return f"Go on from the last checkpoint, --ckpt_path {path},"
    return "No checkpoint was saved: start again"


def _saved(keeper: Checkpoint) -> list[str]:
    """What a callback saved in this run, the last first; Lightning's has an empty path where it saved nothing."""
    return [path for name in ("last_model_path", "best_model_path") if (path := getattr(keeper, name, ""))]


def _saturation(trainer: pl.Trainer, model: pl.LightningModule) -> str | None:
    """What to do if hardly a pixel of the model's images has a gradient; None: it is not that."""
    if not isinstance(model, LatentEBM):
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


class EnergyAlarm(pl.Callback):
    """Warns when the energy begins to run away from the reference prior; logs the two quantities that it checks.

    After each epoch it draws prior chains and logs
    ``prior/energy_tilt`` = E_{p_α}[f_α] - E_{π0}[f_α] (nats; healthy below about 4, running away at 10⁴) and
    ``prior/mean_square`` = |z|²/(d σ0²) (healthy about 1).

    Args:
        count: Number of chains; None: the size of a training batch, for which the step is compiled.
        largest_tilt: Tilt, in absolute value, above which it warns.
        largest_mean_square: Mean square above which it warns; its inverse is the lower limit.

    Raises:
        ValueError: If the count is below 1 or a limit can never be kept.
    """

    def __init__(self, count: int | None = None, largest_tilt: float = 100.0, largest_mean_square: float = 4.0) -> None:
        if not ((count is None or count >= 1) and largest_tilt > 0 and largest_mean_square > 1):
            raise ValueError(
                f"EnergyAlarm: count {count} must be at least 1, largest_tilt {largest_tilt} positive and "
                f"largest_mean_square {largest_mean_square} above 1."
            )
        self.count = count
        self.largest_tilt = largest_tilt
        self.largest_mean_square = largest_mean_square
        self._healthy = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, LatentEBM)
        rng = pl_module.stream("energy alarm")
        count = self.count or pl_module.chains.training_batch or 75
        with torch.no_grad():
            reference = pl_module.sample_reference((count,), rng)
            z = pl_module.sample_prior(count, rng)
            tilt = (pl_module.prior.tilt(z).mean() - pl_module.prior.tilt(reference).mean()).item()
            mean_square = z.square().mean().item() / pl_module.reference.sigma**2
        pl_module.log_dict({"prior/energy_tilt": tilt, "prior/mean_square": mean_square}, sync_dist=True)
        limit = self.largest_mean_square
        was_healthy, self._healthy = self._healthy, abs(tilt) <= self.largest_tilt and 1 / limit <= mean_square <= limit
        if was_healthy and not self._healthy:  # NaN is not healthy
            rank_zero_warn(
                f"The energy is running away at epoch {trainer.current_epoch}: E_prior[f] - E_reference[f] is "
                f"{tilt:.3g} (healthy below about 4), |z|²/(d σ0²) of the prior chains {mean_square:.3g} (about 1). "
                "Lower the energy's learning rate, or check the prior sampler's step size."
            )
