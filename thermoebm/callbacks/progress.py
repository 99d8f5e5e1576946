"""One progress bar over the whole run."""

import math
import sys
import time

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from thermoebm.samplers import compilations


class Progress(ProgressBar):
    """Shows the completed and total steps, the time left, and the last loss.

    The time left is that of the steps since the last one that compiled something, which includes what was measured
    between them. If the output is not a terminal, the bar is redrawn only every ten seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm | None = None
        self._enabled = True
        self._since = 0, 0.0  # completed steps and time, when steps began to take what they take
        self._compiled = -1
        self._scalars: list[str] = []

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._enabled or not trainer.is_global_zero:
            return
        moving = sys.stderr.isatty()
        steps = trainer.estimated_stepping_batches
        endless = math.isinf(steps)
        of_all = "{desc} {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
        self._compiled, self._scalars = -1, []
        self._bar = tqdm(
            total=None if endless else int(steps),
            initial=trainer.global_step,
            desc="training",
            unit="step",
            mininterval=0.2 if moving else 10,
            dynamic_ncols=moving,
            ascii=None if moving else True,
            bar_format="{desc} {n_fmt} [{elapsed}{postfix}]" if endless else of_all,
        )

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object) -> None:
        if self._bar is None:
            return
        if compilations() != self._compiled:
            self._compiled, self._since = compilations(), (self._bar.n + 1, time.monotonic())
        last = self._bar.n + 1 == self._bar.total
        self._bar.set_postfix_str(", ".join([*self._left(self._bar.n + 1), *self._scalars]), refresh=False)
        if self._bar.update() or last:  # reads scalars, which waits for the device, only when the bar is redrawn
            metrics = trainer.progress_bar_metrics
            self._scalars = [
                f"{k.removeprefix('train/')}={v:.4g}" for k, v in metrics.items() if k in ("train/loss", "train/nll")
            ]
            # The closing redraw shows the last ones.
            self._bar.set_postfix_str(", ".join([*self._left(self._bar.n), *self._scalars]), refresh=False)

    def _left(self, step: int) -> list[str]:
        """The time left after so many steps, where it can be told."""
        assert self._bar is not None
        done, began = self._since
        if self._bar.total is None or step <= done:
            return []
        seconds = (time.monotonic() - began) / (step - done) * (self._bar.total - step)
        return [f"{tqdm.format_interval(seconds)} left"]

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._close()

    def print(self, *args: object, **kwargs: object) -> None:
        """Prints a line without breaking the bar."""
        tqdm.write(" ".join(map(str, args)), file=sys.stderr)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
