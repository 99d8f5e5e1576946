"""Measurements that one process makes and all of them log."""

from collections.abc import Callable

import lightning.pytorch as pl

from thermoebm.runtime.progress import measuring


def log_of_first(
    trainer: pl.Trainer, module: pl.LightningModule, prefix: str, measure: Callable[[], dict[str, float]]
) -> None:
    """Logs the scalars that the first process measures, by name below ``prefix``.

    Every process logs them, since any of them may be asked for a metric to monitor.
    """
    with measuring():
        scalars = measure() if trainer.is_global_zero else {}
    scalars = trainer.strategy.broadcast(scalars)
    module.log_dict({f"{prefix}/{name}": value for name, value in scalars.items()}, sync_dist=True)
