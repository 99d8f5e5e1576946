"""More prior steps as the tilt grows: a remedy for runaway energies that configs/study/stability.yaml tries.

It does not help (docs/stability.md), which is why it is no field of the model.
"""

import math
from typing import Any

import lightning.pytorch as pl


class LongerChains(pl.Callback):
    """From the next epoch on, the prior's chains have K ⌈tilt / nats⌉ steps, where that is more than they had.

    Args:
        nats: Tilt E_prior[f] - E_reference[f] (``prior/energy_tilt``) up to which K steps are taken.
        most: Largest multiple of K.
    """

    def __init__(self, nats: float = 8.0, most: int = 8) -> None:
        self.nats = nats
        self.most = most
        self._multiple = 1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._steps = pl_module.prior_sampler.num_steps

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        tilt = float(trainer.callback_metrics.get("prior/energy_tilt", 0.0))
        if math.isfinite(tilt):
            self._multiple = max(self._multiple, min(math.ceil(tilt / self.nats), self.most))
        pl_module.prior_sampler.num_steps = self._multiple * self._steps
        pl_module.log("prior/steps", float(pl_module.prior_sampler.num_steps))

    def state_dict(self) -> dict[str, Any]:
        return {"multiple": self._multiple}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._multiple = state_dict["multiple"]
