"""One progress bar over the whole run."""

import math
import sys
import time
from statistics import fmean

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from thermoebm.runtime import progress
from thermoebm.samplers import compilations

_OF_ALL = "{desc} {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
_ENDLESS = "{desc} {n_fmt} [{elapsed}{postfix}]"
# While something is measured the steps stand still, and a bar of them would look as if all had stopped.
_MEASURING = "{desc} {n_fmt}/{total_fmt} [{elapsed}{postfix}]"


class Progress(ProgressBar):
    """Shows the completed and total steps, the time left, and the last loss.

    While something is measured, it shows instead what that is, how far it is, and how long this measurement will take:
    validation, and what a callback does within :func:`thermoebm.runtime.progress.measuring`.

    The time left is that of the steps, at the rate of those since the last one that compiled something, and of the
    measurements, which take the mean of the earlier ones and come as often, and once more after the last step. Before
    the first measurement it is unknown what they take: "+ measurements" then says that the time left is without them.

    If the output is not a terminal, the bar is redrawn only every ten seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm | None = None
        self._enabled = True
        self._restart()

    def _restart(self) -> None:
        self._since = 0, 0.0  # completed steps and time, when steps began to take what they take
        self._idle = 0.0  # seconds since then in which no step was made
        self._compiled = -1
        self._scalars: list[str] = []
        self._expects = False  # measurements
        self._ended = 0.0  # when the last step ended
        self._measured = False  # since then
        self._pauses: list[float] = []  # seconds of each pause for measurements in which nothing was compiled
        self._count, self._last, self._first = 0, 0, 0  # of all pauses; the step of the last one; the fit's first step
        self._now: tuple[str | None, float] = None, 0.0  # what is measured, since when

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
        self._restart()
        self._first = trainer.global_step
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        self._expects = trainer.enable_validation or any(getattr(c, "every_n_epochs", 0) for c in callbacks)
        self._bar = tqdm(
            total=None if endless else int(steps),
            initial=trainer.global_step,
            desc="training",
            unit="step",
            mininterval=0.2 if moving else 10,
            dynamic_ncols=moving,
            ascii=None if moving else True,
            bar_format=_ENDLESS if endless else _OF_ALL,
        )
        progress.listen(self._show)

    # Steps

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object) -> None:
        if self._bar is None or not self._measured:
            return
        pause = time.monotonic() - self._ended
        self._idle += pause
        self._count, self._last = self._count + 1, self._bar.n
        if compilations() == self._compiled:
            self._pauses.append(pause)
        self._measured, self._compiled = False, compilations()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object) -> None:
        if self._bar is None:
            return
        self._ended, self._measured = time.monotonic(), False
        if compilations() != self._compiled:
            self._compiled, self._since, self._idle = compilations(), (self._bar.n + 1, self._ended), 0.0
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
        seconds = (time.monotonic() - began - self._idle) / (step - done) * (self._bar.total - step)
        if self._pauses:
            between = (self._last - self._first) / self._count
            seconds += fmean(self._pauses) * max(1.0, (self._bar.total - self._last) / between)
        unknown = " + measurements" if self._expects and not self._pauses else ""
        return [f"{tqdm.format_interval(seconds)} left{unknown}"]

    # Measurements

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._show("validation", 0, sum(trainer.num_val_batches))

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        batches = trainer.num_val_batches
        self._show("validation", int(sum(batches[:dataloader_idx])) + batch_idx + 1, sum(batches))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._show(None, 0, 0)

    def _show(self, title: str | None, done: int, total: float) -> None:
        """Shows how far a measurement is; without a title, that it has ended."""
        if self._bar is None:
            return
        now, self._measured = time.monotonic(), True
        begins = title != self._now[0]
        if begins:
            self._now = title, now
        told = self._scalars
        if title is not None:
            left = (now - self._now[1]) / done * (total - done) if done else math.inf
            told = [f"{title} {done}" if math.isinf(total) else f"{title} {done}/{total:.0f}"]
            told += [] if math.isinf(left) else [f"{tqdm.format_interval(left)} left of it"]
        if self._bar.total is not None:
            self._bar.bar_format = _OF_ALL if title is None else _MEASURING
        self._bar.set_postfix_str(", ".join(told), refresh=False)
        if (begins and sys.stderr.isatty()) or time.time() - self._bar.last_print_t >= self._bar.mininterval:
            self._bar.refresh()
            self._bar.last_print_t = time.time()

    # End

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._close()

    def print(self, *args: object, **kwargs: object) -> None:
        """Prints a line without breaking the bar."""
        tqdm.write(" ".join(map(str, args)), file=sys.stderr)

    def _close(self) -> None:
        if self._bar is not None:
            progress.listen(None)
            if self._bar.n == self._bar.total:  # there is no time left to tell
                self._bar.set_postfix_str(", ".join(self._scalars), refresh=False)
            self._bar.close()
            self._bar = None
