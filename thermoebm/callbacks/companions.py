"""What happens to a training on several processes when one of them is lost."""

import os
from typing import Any

import lightning.pytorch as pl

from thermoebm.runtime import heartbeat, signals
from thermoebm.runtime.terminal import say
from thermoebm.runtime.way_back import way_back


class Companions(pl.Callback):
    """Ends every process of a training within 20 seconds after one of them was lost or has failed alone.

    Each one tells it in a sentence. A signal to one of them is passed to the first one; when that one ends by it, so do
    all others: this callback comes after :class:`thermoebm.callbacks.interruption.Interruption`, which saves.
    Checkpoints of completed epochs are whole at every instant. A training that goes on with another number of processes
    says what that changes.
    """

    _heartbeat: heartbeat.Heartbeat | None = None
    _before: int | None = None  # processes of the training that is resumed

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._before not in (None, trainer.world_size):
            say(
                f"Going on with {trainer.world_size} process{'es' * (trainer.world_size > 1)} instead of "
                f"{self._before}: weights, moments, averages and counters are exactly those of the checkpoint; noise, "
                "shares of the images and the number of images in a step are others"
            )
        if trainer.world_size < 2:
            return

        def lost(other: int) -> None:
            heartbeat.end_process(lost_in(trainer, other))

        self._heartbeat = heartbeat.Heartbeat(
            trainer.global_rank, trainer.strategy.broadcast, lost, signals.heard, signals.receive, ended
        )
        self._heartbeat.start()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        # No state of the callback's: Lightning would warn of it where nothing trains.
        checkpoint["processes"] = trainer.world_size

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._before = checkpoint.get("processes")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._heartbeat is not None:
            trainer.strategy.barrier("companions")  # all have trained
            self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, signals.Ended) and self._heartbeat is not None:
            if trainer.is_global_zero:
                self._heartbeat.end()
            else:  # all end before the same step: after the first one, which saves, with the status of ended()
                if self._heartbeat.hears():  # which also ends it if the first one is lost
                    self._heartbeat.join()
                ended()
        self._stop()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.stop()
        self._heartbeat = None


def ended() -> None:
    """Ends this process, whatever it waits for or computes: the first one saves, and has the signal's status.

    Lightning kills the first one, which may not have ended yet, if another has a status of its own.
    """
    os._exit(0)


def lost_in(trainer: pl.Trainer, other: int | None = None) -> str:
    """The sentence of a process that has lost another one, whose rank may be unknown."""
    whom = "another one" if other is None else f"process {other + 1}"
    return (
        f"Process {trainer.global_rank + 1} of {trainer.world_size} ends, since {whom} was lost in epoch "
        f"{trainer.current_epoch}. {way_back(trainer)} on as many processes or on others."
    )
