"""The directory of a training run, the loggers that write there, and the checkpoint of its last epoch."""

import contextlib
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from thermoebm.runs import directories
from thermoebm.runtime import archives
from thermoebm.runtime.files import keep_as, take_place
from thermoebm.runtime.patience import patiently
from thermoebm.runtime.terminal import say, tensorboard_command


class RunDirectory(pl.Callback):
    """Claims the first free one of PARENT/0, 1, ... at set-up, or continues in the directory of the resumed run.

    Only a run's last.ckpt continues it, or previous.ckpt if that is lost: its table then goes on after that epoch. From
    any other checkpoint, such as best.ckpt, training goes on in a directory of its own, and the table and files of the
    later epochs stay.

    It must come before callbacks that write. With several processes, the first one claims and informs the others.

    Args:
        parent: Folder of the runs with this name.
        continued: Directory of the resumed run; None: a new one is claimed.
        resume_step: Global step from which the resumed run continues.
        measures_again: Whether it first measures once more what belongs to the step before.
        origin: The checkpoint that a new directory goes on from, and its epoch, in words; None: training is new.
    """

    def __init__(
        self,
        parent: Path,
        continued: Path | None = None,
        resume_step: int | None = None,
        origin: str | None = None,
        measures_again: bool = False,
    ) -> None:
        self.parent = parent
        self.continued = continued
        self.resume_step = resume_step if continued else None
        self.measures_again = measures_again and continued is not None
        self.origin = None if continued else origin
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
        table = MetricsCSV(path, self.resume_step, self.measures_again)
        step = self.resume_step
        if step is not None and self.measures_again:
            step -= 1
        tensorboard = TensorBoard(path, name="", version="", default_hp_metric=False, purge_step=step)
        for metrics in table.kept_at(step) if self.measures_again else ():  # hidden with the measurements of this step
            tensorboard.log_metrics(metrics, step)
        trainer.loggers = [tensorboard, table, *trainer.loggers]
        if self.origin:
            say(f"Going on from {self.origin} in a folder of its own: nothing of that run is changed")
        say(f"Writing to {path}; watch it with: {tensorboard_command(path.parent.parent)}")


class NamedWhenWhole(Checkpoint):
    """A checkpoint of an epoch whose file gets its final name only after the epoch's metrics have been logged.

    It holds the state at the very end of the epoch. A program that is killed in between leaves the file of an epoch
    before, which is whole, and no row of the table is missing when it resumes.
    """

    _saved: tuple[Path, Path] | None = None

    def later(self, path: Path) -> Path:
        """Where to save what gets its name, ``path``, later."""
        self._saved = Path(f"{path}.new"), path
        return self._saved[0]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._name(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._name(trainer)

    def _name(self, trainer: pl.Trainer) -> None:
        if self._saved and trainer.is_global_zero:
            saved, path = self._saved
            self.before_replaced(path)
            patiently(path, lambda: take_place(saved, path))
        self._saved = None

    def before_replaced(self, path: Path) -> None:
        """Does nothing; what is to be done before another checkpoint gets the name that one may have."""


class LastCheckpoint(NamedWhenWhole, ModelCheckpoint):
    """Keeps checkpoints/last.ckpt of the last completed epoch, from which a run resumes exactly, and previous.ckpt.

    That is of the epoch before, for the case that a disk damages the last one. At every instant there is a last.ckpt,
    once there was one; one that was damaged never becomes previous.ckpt.

    (By default, Lightning saves at validation, which may be every tenth epoch and comes before the hooks at the epoch's
    end.) It comes after all callbacks whose state it holds, :class:`thermoebm.callbacks.BestCheckpoint` among them.
    """

    def __init__(self) -> None:
        super().__init__(filename="last", enable_version_counter=False, every_n_epochs=1, save_on_train_epoch_end=True)

    def state_dict(self) -> dict[str, Any]:
        """Empty: no path depends on the past."""
        return {}

    def save_now(self, trainer: pl.Trainer) -> None:
        """Saves last.ckpt within an epoch, or names the one of the epoch that has just been completed.

        The first process does not wait for the others, which may be anywhere, as Lightning would have it.
        """
        if self._saved is None:
            path = self.later(Path(f"{self.dirpath}/last.ckpt"))
            trainer.strategy.save_checkpoint(trainer._checkpoint_connector.dump_checkpoint(), path)
        self._name(trainer)

    def _save_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        super()._save_checkpoint(trainer, str(self.later(Path(filepath))))

    def before_replaced(self, path: Path) -> None:
        if not path.is_file():
            return
        with contextlib.suppress(archives.Unreadable, OSError):  # a full disk: the new one is worth more
            archives.verify(path)
            keep_as(path, path.with_name("previous.ckpt"))
