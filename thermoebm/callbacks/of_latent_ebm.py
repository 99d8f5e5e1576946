"""Callbacks that measure what only a latent EBM has."""

import lightning.pytorch as pl

from thermoebm.modules import LatentEBM


class OfLatentEBM(pl.Callback):
    """Measures chains, ladder or prior of a :class:`thermoebm.modules.LatentEBM`, and refuses any other model."""

    def check(self, model: pl.LightningModule) -> None:
        """Raises a ValueError if the model has no chains."""
        if not isinstance(model, LatentEBM):
            raise ValueError(
                f"{type(self).__name__} measures the chains of a LatentEBM, and the model is a "
                f"{type(model).__name__}, which has none; leave it out of trainer.callbacks."
            )

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.check(pl_module)
