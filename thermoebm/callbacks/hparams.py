"""What TensorBoard shows of runs side by side: their settings and final metrics."""

from collections.abc import Iterable
from typing import Any

import lightning.pytorch as pl

from thermoebm.callbacks.pictures import tensorboards
from thermoebm.runs.logged import VARIANCES, distance
from thermoebm.runs.settings import settings

_WORDS = ("dataset", "objective", "estimator")


class HParams(pl.Callback):
    """Writes the run's settings, and the names of the metrics to show, into its event file when training ends.

    The HParams tab shows the last logged values of these metrics. SummaryWriter's ``add_hparams`` would create a
    separate run in a subfolder.

    Args:
        config: The run's whole config; see :func:`thermoebm.runs.settings.settings`.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        from torch.utils.tensorboard.summary import hparams  # half a second that a refused command need not wait

        every = settings(self.config) | {"seed": self.config.get("seed_everything")}
        shown = {name: value for name, value in every.items() if value is not None}
        # The tab takes its columns from one run, so each run lists all settings; vanilla models, say, have no power.
        columns = {name: "" if name in _WORDS else 0.0 for name in every} | shown
        metrics = dict.fromkeys(final_metrics(trainer.callback_metrics), 0.0)
        experiment, _, _ = hparams(columns, metrics)
        _, start, end = hparams(shown, metrics)
        for logger in tensorboards(trainer):
            for summary in (experiment, start, end):
                logger.experiment.file_writer.add_summary(summary, trainer.global_step)
            logger.experiment.flush()


def final_metrics(logged: Iterable[str]) -> list[str]:
    """The tab's metrics: loss, short-run evidence, gradient variance by each definition, kernel distances at N = ∞."""
    names = list(logged)
    held_out = [name.replace("/", "/test/", 1) for name in VARIANCES.values()]
    distances = [distance(names, "kernel", split) for split in ("train", "test")]
    measured = [*VARIANCES.values(), *held_out, *filter(None, distances)]
    return ["train/loss", "val/loss", "val/short_run_evidence", *(name for name in measured if name in names)]
