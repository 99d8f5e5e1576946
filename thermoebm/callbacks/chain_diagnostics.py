"""Diagnostics of the chains while a model trains: are short chains any good?"""

import math

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from thermoebm.callbacks.chain_figure import chain_figure
from thermoebm.callbacks.grids import held_out
from thermoebm.callbacks.of_kind import OfKind
from thermoebm.callbacks.pictures import PictureCallback, figure_image
from thermoebm.modules import ImageModel, LatentEBM
from thermoebm.modules.diagnosis import LEAST_STEPS, Diagnosis, diagnose
from thermoebm.runtime.progress import measuring


class ChainDiagnostics(OfKind, PictureCallback):
    """Compares the short chains of training with long corrected ones on held-out images, in a figure and in scalars.

    DENSITY is ``prior`` or ``posterior`` (at t = 1). The quantities are those of
    :class:`thermoebm.modules.diagnosis.Diagnosis`, which defines them:

        chains/DENSITY/acceptance                  of the long chains (Metropolis-adjusted Langevin, tuned to 0.574)
        chains/DENSITY/ess_per_step                of the long chains
        chains/DENSITY/rhat                        of the long chains: about 1 if they are long enough to compare with
        chains/DENSITY/short_rhat                  of the short chains, all K steps: far above 1
        chains/DENSITY/energy_gap[_se]             E[f_α] of short chains minus that of long ones, with standard error
        chains/posterior/log_likelihood_gap[_se]   the same of ℓ, in nats

    Nothing is judged and no warning given for chains that have not converged: short chains are no samples of their
    density by design. A scalar that is not defined or not finite is left out of the log, which is told once.

    The noise is the same every time, so that curves over epochs change through learning alone.

    Args:
        every_n_epochs: Interval; 0: never.
        count: Number of held-out images.
        chains: Chains for each image; as many chains of the prior as of the posterior.
        long_steps: Steps of the long chains; the default is 100 K of a posterior with K = 20.

    Raises:
        ValueError: If a number is too small.
    """

    name = "chains"

    def __init__(self, every_n_epochs: int = 10, count: int = 8, chains: int = 4, long_steps: int = 2_000) -> None:
        super().__init__(every_n_epochs)
        self.count = count
        self.chains = chains
        self.long_steps = long_steps
        self._check_positive("count")
        if chains < 2 or long_steps < LEAST_STEPS:
            raise ValueError(
                f"ChainDiagnostics: chains is {chains} and long_steps {long_steps}; they must be at least 2 and "
                f"{LEAST_STEPS}."
            )
        self._told: set[str] = set()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.due(trainer):
            return
        assert isinstance(pl_module, LatentEBM)
        path = self.path(trainer)
        # The first process measures; every process logs, since any of them may be asked for a metric to monitor.
        scalars: dict[str, float] = {}
        if trainer.is_global_zero:
            with measuring():
                diagnoses = self._diagnose(trainer, pl_module)
            scalars = {f"chains/{d}/{k}": v for d, found in diagnoses.items() for k, v in found.scalars().items()}
            if path is not None and diagnoses:
                self.publish(trainer, path, _picture(diagnoses, trainer.current_epoch + 1))
        scalars = trainer.strategy.broadcast(scalars)
        pl_module.log_dict({k: v for k, v in scalars.items() if math.isfinite(v)}, sync_dist=True)
        self._tell(sorted(k for k, v in scalars.items() if not math.isfinite(v)), trainer.current_epoch)

    def picture(self, trainer: pl.Trainer, model: ImageModel) -> Tensor:
        assert isinstance(model, LatentEBM)
        return _picture(self._diagnose(trainer, model), trainer.current_epoch + 1)

    def _diagnose(self, trainer: pl.Trainer, model: LatentEBM) -> dict[str, Diagnosis]:
        """By density; empty, with a warning, if the chains cannot be corrected: a measurement ends no training."""
        x = held_out(trainer, model, self.count)
        try:
            with trainer.precision_plugin.forward_context():  # the precision of the short chains in training
                return diagnose(
                    model,
                    x,
                    lambda i: model.stream("chain diagnostics", i),
                    chains=self.chains,
                    long_steps=self.long_steps,
                    title="chain diagnostics",
                )
        except ValueError as error:
            rank_zero_warn(f"Chains were not diagnosed at epoch {trainer.current_epoch}. {error}")
            return {}

    def _tell(self, names: list[str], epoch: int) -> None:
        new = [name for name in names if name not in self._told]
        self._told.update(new)
        if new:
            rank_zero_warn(
                f"Chain diagnostics at epoch {epoch}: {', '.join(new)} cannot be computed and will not be logged: "
                "chains stand still, have fewer than four steps, or are not finite."
            )


def _picture(diagnoses: dict[str, Diagnosis], epoch: int) -> Tensor:
    return figure_image(chain_figure(diagnoses, f"Short chains against long corrected ones, epoch {epoch}"))
