"""The alarm for a model of any kind, of which nothing is known but its parameters."""

import lightning.pytorch as pl
import torch

from thermoebm.callbacks.energy_alarm import EnergyAlarm
from thermoebm.callbacks.vitals import Vitals
from thermoebm.modules import ImageModel, not_finite


class ParameterAlarm(EnergyAlarm):
    """Judges after each epoch whether all parameters are finite; if they are not, acts as EnergyAlarm does.

    It logs ``training/rollbacks``, how often it went back so far, and lets the limits of its settings be.
    """

    kind: type[pl.LightningModule] | tuple[type[pl.LightningModule], ...] = ImageModel
    measures = "parameters of an ImageModel"
    ran_away = "Training ran away"

    def measure(self, trainer: pl.Trainer, model: ImageModel) -> Vitals:
        broken = torch.tensor(float(bool(not_finite(model))), device=model.device)
        return Vitals(0.0, 0.0, 1.0, trainer.strategy.reduce(broken, reduce_op="mean").item())

    def fault(self, vitals: Vitals) -> str | None:
        return "parameters are not finite" if vitals.broken else None

    def scalars(self, vitals: Vitals) -> dict[str, float]:
        return {"training/rollbacks": float(self.rollbacks)}

    def remedy(self, model: ImageModel) -> str:
        return "with lower learning rates."
