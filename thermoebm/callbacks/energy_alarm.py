"""The alarm for an energy that runs away."""

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_warn

from thermoebm.modules import LatentEBM


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
