"""The checkpoint of a run's best epoch."""

import math
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
from torch import Tensor

from thermoebm.callbacks.rollback import rolled_back
from thermoebm.callbacks.run_directory import NamedWhenWhole
from thermoebm.runs.checkpoints import load_checkpoint
from thermoebm.runtime.terminal import say

#: What a run is judged by if nothing else is asked for: every run with validation logs it.
MONITOR = "val/short_run_nll"


class BestCheckpoint(NamedWhenWhole):
    """Keeps checkpoints/best.ckpt of the epoch with the best value of a logged measure, whole as last.ckpt is.

    With m_e the value that epoch e logged, it is of the first epoch e* with

        m_{e*} = min_e m_e   (max_e m_e under mode max),   over the epochs that logged a finite value.

    An epoch that did not log the measure does not count: no old value is taken for a new model. Nor does one whose
    weights were rolled back, since what was measured before is not of the weights that are there. A value that was
    logged within the epoch is the last one of it, while the weights are those of its end.

    Every checkpoint of the run has under ``callbacks``, ``BestCheckpoint``: ``monitor``, ``mode``, ``value``, ``epoch``
    (from 0, as in metrics.csv) and ``chosen`` (true in best.ckpt alone), so that a resumed run goes on as if it had not
    been interrupted. What is resumed elsewhere than in its own directory, or after its best.ckpt was removed or
    replaced by that of a later epoch, looks for the best anew: best.ckpt is always of the epoch that is told.

    It must come before :class:`thermoebm.callbacks.LastCheckpoint`: last.ckpt then knows of this epoch's best, and
    never has its name before best.ckpt has. With several processes, the value of the first one decides.

    Args:
        monitor: Name of the measure; null: no best checkpoint is kept. The default is logged if validation is on;
            without it, nothing is kept.
        mode: Whether the least (``min``) or the largest value (``max``) is best.

    Raises:
        ValueError: If the mode is another.
    """

    def __init__(self, monitor: str | None = MONITOR, mode: Literal["min", "max"] = "min") -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"BestCheckpoint: mode is {mode}; give min or max.")
        self.monitor = monitor
        self.mode = mode
        self.value: float | None = None
        self.epoch: int | None = None
        self._before: Tensor | None = None  # the value that was there when the epoch began
        self._chosen = False

    def state_dict(self) -> dict[str, Any]:
        if self.epoch is None:
            return {}
        fields = {"monitor": self.monitor, "mode": self.mode, "value": self.value, "epoch": self.epoch}
        return fields | {"chosen": self._chosen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if (state_dict.get("monitor"), state_dict.get("mode")) == (self.monitor, self.mode):
            self.value, self.epoch = state_dict["value"], state_dict["epoch"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.monitor is None or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        path = _path(trainer)
        kept = trainer.strategy.broadcast(_epoch(path) if trainer.is_global_zero else None)
        if kept == self.epoch:
            return
        self.value = self.epoch = None
        if kept is not None:
            say(
                f"{path} is of epoch {kept + 1} and is no best of the epochs that are resumed; it stays until an epoch "
                f"logs {self.monitor}"
            )

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_start(trainer, pl_module)
        self._before = trainer.callback_metrics.get(self.monitor or "")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        value = self._logged(trainer)
        if value is None or not math.isfinite(value) or not self._better(value):
            return
        self.value, self.epoch = value, trainer.current_epoch
        self._chosen = True
        trainer.save_checkpoint(self.later(_path(trainer)))
        self._chosen = False

    def summary(self) -> str | None:
        """Which epoch is the best, as one line; None: nothing was to be kept."""
        if self.epoch is not None:
            return f"best.ckpt is of epoch {self.epoch + 1}: {self.monitor} {self.value:.4g}"
        return None if self.monitor in (None, MONITOR) else f"There is no best.ckpt: {self.monitor} had no finite value"

    def _logged(self, trainer: pl.Trainer) -> float | None:
        """This epoch's value, the same in all processes; Lightning keeps an old one, the same tensor, until the next.

        Every process asks for its metrics, since they are reduced over all when they are first asked for.
        """
        if self.monitor is None or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return None
        now = trainer.callback_metrics.get(self.monitor)
        known = now is not None and now is not self._before and not rolled_back(trainer)
        value = now.item() if known and now is not None else None
        return trainer.strategy.broadcast(value)

    def _better(self, value: float) -> bool:
        if self.value is None:
            return True
        return value < self.value if self.mode == "min" else value > self.value


def _path(trainer: pl.Trainer) -> Path:
    return Path(trainer.log_dir or trainer.default_root_dir) / "checkpoints" / "best.ckpt"


def _epoch(path: Path) -> int | None:
    """The epoch of a checkpoint; None: there is none that can be read."""
    try:
        return int(load_checkpoint(path)["epoch"])
    except (FileNotFoundError, ValueError):
        return None
