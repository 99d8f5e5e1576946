"""Training that a signal ends or saves: the checkpoint of its last completed step, and how it goes on from there."""

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning.pytorch as pl
import torch

from thermoebm.callbacks import epoch_sums
from thermoebm.callbacks.last_step import at_last_step, training_weights
from thermoebm.callbacks.run_directory import LastCheckpoint
from thermoebm.modules import ImageModel
from thermoebm.runs.checkpoints import MEASURES_AGAIN
from thermoebm.runtime import processes, signals


def _alone() -> AbstractContextManager[None]:
    return processes.alone() if signals.ends_alone() else nullcontext()


class Interruption(pl.Callback):
    """SIGTERM and SIGINT end a training with a checkpoint of its last completed step; SIGUSR1 saves it and goes on.

    That is last.ckpt. A step that was interrupted is made again on resuming, with the same noise, and so are
    validation and measurements after an epoch's last step: they are functions of the state that is saved. The epoch's
    sums so far, of logged means and of the callbacks, are in it too.

    It comes before all other callbacks, and does nothing if no program listens (:mod:`thermoebm.runtime.signals`).
    With several processes all save before the same step, as soon as one of them was asked to. There they end too, while
    steps are summed up that only all together know. In validation, in measuring and in the first step of each kind,
    which may compile for long, the first process has been told the sums: it ends as a single one would, and then the
    others do (:class:`thermoebm.callbacks.companions.Companions`).
    """

    def __init__(self) -> None:
        self._sums: epoch_sums.Sums = {}  # of an epoch that a resumed run goes on with, until they are added
        self._after_steps: dict[str, Any] | None = None  # states when the epoch's steps were done; None: they are not
        self._validating = False  # after them
        self._only_measures = False  # in the resumed epoch, whose steps and validation are complete
        self._max_steps: int | None = None  # reached in the resumed epoch, which Lightning then would not enter
        self._kinds: set[bool] = set()  # of steps that this process has made
        self._before_step: dict[str, Any] | None = None  # states before a step that may be ended; None: it may not
        self._saving = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        signals.listen()  # Lightning's handler of SIGTERM has just taken its place
        self._after_steps = None
        self._kinds.clear()
        signals.may_end_alone(trainer.is_global_zero)
        if self._only_measures:  # Lightning would wait for a validation that is not due, and train a step meanwhile
            trainer.fit_loop.epoch_loop.val_loop._has_run = True
        # Of loaders that were made before the checkpoint was read, as RunDirectory has them made.
        trainer.fit_loop._load_combined_loader_states()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._max_steps is not None:
            self._limit_again(trainer)
            for counts in (progress := trainer.fit_loop.epoch_loop.batch_progress).total, progress.current:
                counts.ready -= 1  # this batch is none of the epoch's, nor of what is logged at its end
            trainer._logger_connector.on_batch_end()
            raise StopIteration  # which ends the epoch's steps
        self._after_steps = self._before_step = None
        number = signals.asked()
        if trainer.world_size > 1:  # nothing is on its way to the device: Lightning has just waited for it, likewise
            signals.may_end_alone(False)
            mine = torch.tensor(float(number), device=pl_module.device)
            number = int(trainer.strategy.reduce(mine, reduce_op="max"))
        if number == 1:
            self._save(trainer, pl_module)
            signals.saved()
        signals.end(number)
        kind = isinstance(pl_module, ImageModel) and pl_module.measures_in(trainer.global_step)
        if trainer.world_size > 1 and kind not in self._kinds:
            self._kinds.add(kind)
            self._before_step = self._summed(trainer)
            signals.may_end_alone(trainer.is_global_zero)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._sums = epoch_sums.added(trainer, self._sums)
        if trainer.world_size > 1:
            signals.may_end_alone(False)
        self._before_step = None

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._keep(trainer, validating=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._limit_again(trainer)
        self._keep(trainer, validating=False)
        if self._only_measures:  # the next epoch is no restarted one
            self._only_measures = trainer.fit_loop.epoch_loop.restarting = False
        rest, self._sums = self._sums, {}
        epoch_sums.log_rest(pl_module, rest)

    def _keep(self, trainer: pl.Trainer, validating: bool) -> None:
        """Remembers the state after the last step, before anything that measures changes it."""
        if self._after_steps is None:
            self._after_steps = self._summed(trainer)
            self._validating = validating
            signals.may_end_alone(trainer.is_global_zero)

    def _summed(self, trainer: pl.Trainer) -> dict[str, Any]:
        """What a checkpoint has of the epoch's steps so far; all processes must call this together."""
        return {"callbacks": self._states(trainer), "epoch_sums": self._epoch_sums(trainer)}

    def _states(self, trainer: pl.Trainer) -> dict[str, Any]:
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        return copy.deepcopy({c.state_key: state for c in callbacks if (state := c.state_dict())})

    def _epoch_sums(self, trainer: pl.Trainer) -> epoch_sums.Sums:
        return epoch_sums.taken(trainer) | self._sums

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, signals.Ended) and not exception.at_once:
            self._save(trainer, pl_module)

    def _save(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Writes last.ckpt, unless no step was completed since the present one."""
        if trainer.fit_loop.epoch_loop.batch_progress.current.completed == 0:
            return
        validating = self._validating if self._after_steps else None
        self._saving = True
        for keeper in trainer.checkpoint_callbacks:
            if isinstance(keeper, LastCheckpoint):
                with training_weights(module), at_last_step(trainer, validating), _alone():
                    keeper.save_now(trainer)
        self._saving = False

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._saving:
            checkpoint |= self._after_steps or self._before_step or {"epoch_sums": self._epoch_sums(trainer)}
            checkpoint[MEASURES_AGAIN] = self._after_steps is not None
            checkpoint["validates_again"] = self._validating

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._sums = checkpoint.get("epoch_sums", {})
        again = checkpoint.get(MEASURES_AGAIN, False)
        self._only_measures = again and not checkpoint.get("validates_again", True)
        if again and trainer.max_steps == checkpoint["global_step"]:
            self._max_steps = trainer.max_steps
            trainer.fit_loop.epoch_loop.max_steps += 1

    def _limit_again(self, trainer: pl.Trainer) -> None:
        if self._max_steps is not None:
            trainer.fit_loop.epoch_loop.max_steps, self._max_steps = self._max_steps, None
