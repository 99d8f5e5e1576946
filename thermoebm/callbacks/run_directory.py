"""What every training run has: a directory, loggers that write there, and a checkpoint of its last epoch."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger

from thermoebm.runs import directories
from thermoebm.runs.loggers import MetricsCSV
from thermoebm.runtime.terminal import say, tensorboard_command


class RunDirectory(pl.Callback):
    """Claims PARENT/0, 1, ... when training is set up, or goes on in the directory of the run that is resumed.

    It must come before callbacks that write. With several processes the first one claims and tells the others.

    Args:
        parent: Where the runs of this name are kept.
        continued: The directory to go on in.
        resume_step: Global step that the run goes on from there.
    """

    def __init__(self, parent: Path, continued: Path | None = None, resume_step: int | None = None) -> None:
        self.parent = parent
        self.continued = continued
        self.resume_step = resume_step if continued else None
        self.path: Path | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit" or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        mine = None if not trainer.is_global_zero else self.continued or directories.claim(self.parent)
        path = self.path = Path(str(trainer.strategy.broadcast(mine)))
        step = self.resume_step
        tensorboard = TensorBoardLogger(path, name="", version="", default_hp_metric=False, purge_step=step)
        trainer.loggers = [tensorboard, MetricsCSV(path, resume_step=step), *trainer.loggers]
        say(f"Writing to {path}; watch it with: {tensorboard_command(path.parent.parent)}")


class LastCheckpoint(ModelCheckpoint):
    """Keeps checkpoints/last.ckpt of the last epoch that is over, from which a run resumes exactly.

    It holds the state at the very end of the epoch (left to itself Lightning saves when it validates, maybe every
    tenth epoch and before the epoch's end hooks), and takes its name only when the epoch's metrics have been logged: a
    program that is killed in between resumes from the epoch before, and no row is missing.
    """

    def __init__(self) -> None:
        super().__init__(filename="last", enable_version_counter=False, every_n_epochs=1, save_on_train_epoch_end=True)
        self._saved: tuple[Path, Path] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Nothing: there is one file, and which one it is does not depend on the past."""
        return {}

    def _save_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        self._saved = Path(f"{filepath}.new"), Path(filepath)
        super()._save_checkpoint(trainer, str(self._saved[0]))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._name(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._name(trainer)

    def _name(self, trainer: pl.Trainer) -> None:
        if self._saved and trainer.is_global_zero:
            self._saved[0].replace(self._saved[1])
        self._saved = None
