"""Callbacks that measure what only one kind of model has."""

import lightning.pytorch as pl

from thermoebm.modules import LatentEBM


class OfKind(pl.Callback):
    """Measures what models of one kind have, by default a latent EBM's chains, and refuses any other before training.

    Attributes:
        kind: The class of these models, or several.
        measures: What it measures, in words.
    """

    kind: type[pl.LightningModule] | tuple[type[pl.LightningModule], ...] = LatentEBM
    measures = "the chains of a LatentEBM"

    def check(self, model: pl.LightningModule) -> None:
        """Raises a ValueError if the model is of another kind."""
        if not isinstance(model, self.kind):
            raise ValueError(
                f"{type(self).__name__} measures {self.measures}, and the model is a {type(model).__name__}; leave it "
                "out of trainer.callbacks."
            )

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.check(pl_module)
