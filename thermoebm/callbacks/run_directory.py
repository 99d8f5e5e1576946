"""The directory of a training run, the loggers that write there, and the checkpoint of its last epoch."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from thermoebm.runs import directories
from thermoebm.runtime.terminal import say, tensorboard_command


class RunDirectory(pl.Callback):
    """Claims the first free one of PARENT/0, 1, ... at set-up, or continues in the directory of the resumed run.

    It must come before callbacks that write. With several processes, the first one claims and informs the others.

    Args:
        parent: Folder of the runs with this name.
        continued: Directory of the resumed run; None: a new one is claimed.
        resume_step: Global step from which the resumed run continues.
    """

    def __init__(self, parent: Path, continued: Path | None = None, resume_step: int | None = None) -> None:
        self.parent = parent
        self.continued = continued
        self.resume_step = resume_step if continued else None
        self.path: Path | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit" or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        # Lightning refuses limits and intervals that leave nothing to do when it sets up the loops: before a claim.
        trainer.fit_loop.setup_data()
        trainer.fit_loop.epoch_loop.val_loop.setup_data()
        from thermoebm.runs.loggers import MetricsCSV, TensorBoard  # with pandas, which a refused command does without

        mine = None if not trainer.is_global_zero else self.continued or directories.claim(self.parent)
        path = self.path = Path(str(trainer.strategy.broadcast(mine)))
        step = self.resume_step
        tensorboard = TensorBoard(path, name="", version="", default_hp_metric=False, purge_step=step)
        trainer.loggers = [tensorboard, MetricsCSV(path, resume_step=step), *trainer.loggers]
        say(f"Writing to {path}; watch it with: {tensorboard_command(path.parent.parent)}")


class LastCheckpoint(ModelCheckpoint):
    """Keeps checkpoints/last.ckpt of the last completed epoch, from which a run resumes exactly.

    It holds the state at the very end of the epoch. (By default, Lightning saves at validation, which may be every
    tenth epoch and comes before the hooks at the epoch's end.) The file gets its final name only after the epoch's
    metrics have been logged: a program killed in between resumes from the previous epoch, and no row is missing.
    """

    def __init__(self) -> None:
        super().__init__(filename="last", enable_version_counter=False, every_n_epochs=1, save_on_train_epoch_end=True)
        self._saved: tuple[Path, Path] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Empty: there is only one file, and its path does not depend on the past."""
        return {}

    def _save_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        self._saved = Path(f"{filepath}.new"), Path(filepath)
        super()._save_checkpoint(trainer, str(self._saved[0]))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._name(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._name(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, SIGTERMException):  # in a step, or after an epoch's metrics have been logged
            self._name(trainer)

    def _name(self, trainer: pl.Trainer) -> None:
        if self._saved and trainer.is_global_zero:
            self._saved[0].replace(self._saved[1])
        self._saved = None
