"""Gives a training run its directory and the loggers that write there."""

from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger

from thermoebm import runs
from thermoebm.loggers import MetricsCSV


class RunDirectory(pl.Callback):
    """Claims PARENT/0, 1, ... when training is set up, or goes on in the run that the checkpoint is the last one of.

    It must come before callbacks that write. With several processes the first one claims and tells the others.

    Args:
        parent: Where the runs of this name are kept.
        ckpt_path: The checkpoint that training resumes from.
        resume_step: That checkpoint's global step.
    """

    def __init__(self, parent: Path, ckpt_path: str | None = None, resume_step: int | None = None) -> None:
        self.parent = parent
        self.continued = runs.run_of(ckpt_path)
        self.resume_step = resume_step if self.continued else None
        self.path: Path | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit" or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        mine = None if not trainer.is_global_zero else self.continued or runs.claim(self.parent)
        path = self.path = Path(str(trainer.strategy.broadcast(mine)))
        step = self.resume_step
        tensorboard = TensorBoardLogger(path, name="", version="", default_hp_metric=False, purge_step=step)
        trainer.loggers = [tensorboard, MetricsCSV(path, resume_step=step)]
