"""The annealed evidence of held-out images while a model trains."""

import math
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_warn

from thermoebm.callbacks import splits
from thermoebm.callbacks.first_process import log_of_first
from thermoebm.callbacks.of_kind import OfKind
from thermoebm.callbacks.pictures import is_due
from thermoebm.modules import VAE, LatentEBM
from thermoebm.modules.annealed import Annealing, annealed_evidence, dequantised, summary


class AnnealedEvidence(OfKind):
    """Logs log p_θ(x) of the first held-out images by annealed importance sampling, at every n-th epoch and the last.

        val/evidence          mean over images of log mean_r w_r, in nats
        val/evidence_se       its standard error over images
        val/evidence_mc_se    its Monte Carlo standard error

    The weights w_r = Π_i p_β(x|z_{i-1})^(t_i - t_{i-1}) are those of R chains that start at draws of p_α and take a
    Metropolis-adjusted Langevin step at each of N temperatures 0 < t_1 < ... < t_N = 1 (Neal 2001, Statistics and
    Computing 11; :func:`thermoebm.modules.annealed.annealed_evidence`). In expectation it is no higher than the truth,
    the less the more temperatures there are. Their number is fixed, unlike that of ``evaluate.py``, which doubles it,
    and the noise is the same every time, so that curves over epochs change through learning alone.

    Averaged weights, if there are any, are what is measured, as in ``evaluate.py``.

    Training uses none of this noise and is the same with and without this callback. As a measure to keep the best
    checkpoint by: ``--best.monitor val/evidence --best.mode max``.

    Args:
        every_n_epochs: Interval; 0: never.
        count: Number of held-out images, uniformly dequantised.
        chains: R, chains for each image.
        steps: N.

    Raises:
        ValueError: If a number is too small.
    """

    kind = (LatentEBM, VAE)
    measures = "the evidence of images with latents"

    def __init__(self, every_n_epochs: int = 10, count: int = 100, chains: int = 4, steps: int = 250) -> None:
        if every_n_epochs < 0 or count < 2:
            raise ValueError(
                f"AnnealedEvidence: every_n_epochs is {every_n_epochs} and count {count}; they must be at "
                "least 0 and 2."
            )
        self.every_n_epochs = every_n_epochs
        self.count = count
        self.settings = Annealing(chains=chains, steps=steps, max_steps=steps)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.every_n_epochs:
            splits.images_module("AnnealedEvidence", trainer.datamodule)  # type: ignore[attr-defined]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not is_due(trainer, self.every_n_epochs):
            return
        assert isinstance(pl_module, LatentEBM | VAE)
        with pl_module.averaged_weights():
            log_of_first(trainer, pl_module, "val", lambda: self._measure(trainer, pl_module))

    def _measure(self, trainer: pl.Trainer, model: LatentEBM | VAE) -> dict[str, float]:
        """By name; empty, with a warning, if it cannot be measured: a measurement ends no training."""
        data = splits.images_module("AnnealedEvidence", trainer.datamodule)  # type: ignore[attr-defined]

        def stream(name: str, *counters: int) -> torch.Generator:
            return model.stream(f"annealed evidence {name}", *counters)

        try:
            x = torch.cat(list(dequantised(data.held_out_images[: self.count], model.device, stream)))
            found: Any = summary(annealed_evidence(model, x, self.settings, stream, "annealed evidence"))
            scalars = {name: float(found[name]) for name in ("evidence", "evidence_se", "evidence_mc_se")}
        except ValueError as error:
            rank_zero_warn(f"The evidence was not measured at epoch {trainer.current_epoch}. {error}")
            return {}
        return {name: value for name, value in scalars.items() if math.isfinite(value)}
