"""Loggers of a run: TensorBoard's, and the CSV file of metrics, which a resumed run continues."""

import csv
import io
import os
import threading
from pathlib import Path
from typing import Any

import pandas as pd
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

from thermoebm.runs.logged import OVERVIEW, matters, renamed
from thermoebm.runtime.files import replacing
from thermoebm.runtime.patience import Appended, patiently
from thermoebm.runtime.terminal import say


class TensorBoard(TensorBoardLogger):
    """Writes the metrics that matter most a second time, in the group of charts that TensorBoard opens on.

    Its file is written by a thread. While the disk is full or away that waits, and training with it once the thread's
    queue is full; a record is written as a whole. If it has waited in vain, training ends with the thread's error.
    """

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        opened, writer = self._experiment is not None, super().experiment
        if not opened:
            events = writer._get_file_writer().event_writer  # of tensorboard, which takes any file-like object
            events._async_writer._writer._writer = Appended(events._file_name)
            threading.excepthook = _told_elsewhere
        return writer

    def save(self) -> None:
        patiently(self.log_dir, super().save)

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        first = {f"{OVERVIEW}/{name}": value for name, value in metrics.items() if matters(name)}
        try:
            super().log_metrics({**metrics, **first}, step)
        except ValueError as error:  # which Lightning makes of whatever goes wrong
            raise error.__cause__ if isinstance(error.__cause__, OSError) else error from None


def _told_elsewhere(failed: threading.ExceptHookArgs) -> None:
    """Leaves out the traceback of a thread whose error tensorboard raises again where events are added."""
    if not (isinstance(failed.exc_value, OSError) and type(failed.thread).__name__ == "_AsyncWriterThread"):
        threading.__excepthook__(failed)


class MetricsCSV(Logger):
    """Writes ``metrics.csv`` in a directory; a cell is empty where a metric was not logged at that step.

    Rows are appended. When a new metric appears, the file is rewritten with one more column and replaced atomically, so
    a killed process never leaves half a table. (Lightning's own CSVLogger deletes an existing file.)

    Args:
        directory: Folder of the file.
        resume_step: Global step at which a resumed run continues; rows from this step on are dropped, since they are
            computed again, and it is said of which epochs they are. None: the directory has no file yet. Columns of
            version 0.1.0 take their present names.
        measures_again: The step before is complete, and its validation, if the table has it, is made again.
    """

    def __init__(
        self, directory: str | os.PathLike[str], resume_step: int | None = None, measures_again: bool = False
    ) -> None:
        super().__init__()
        self.path = Path(directory) / "metrics.csv"
        self._columns: list[str] = []
        self._rows: list[dict[str, float]] = []
        self._epoch: float | None = None  # of the last row
        if resume_step is not None:
            self._drop_after(resume_step, measures_again)

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Does nothing: the hyperparameters are in the run's config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._rows.append({"step": -1 if step is None else step, **metrics})

    @rank_zero_only
    def save(self) -> None:
        """Writes the rows logged since the last call."""
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        self._complete(rows)
        new = sorted({key for row in rows for key in row} - set(self._columns) - {"step", "epoch"})
        if new or not self._columns:
            self._columns = ["step", "epoch", *sorted({*self._columns, *new} - {"step", "epoch"})]
            old = self._read() if self.path.is_file() else pd.DataFrame()
            self._replace(old.reindex(columns=self._columns))
        csv.DictWriter(text := io.StringIO(), self._columns).writerows(rows)
        Appended(self.path).write(text.getvalue().encode())

    def _complete(self, rows: list[dict[str, float]]) -> None:
        """Gives rows without an epoch, as of LearningRateMonitor, that of the next row with one, else of the last."""
        epochs = [row.get("epoch") for row in rows]
        for i, row in enumerate(rows):
            epoch = next((e for e in epochs[i:] if e is not None), self._epoch)
            if epoch is not None:
                row["epoch"] = self._epoch = epoch

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()

    @rank_zero_only
    def _drop_after(self, step: int, measures_again: bool) -> None:
        if self.path.is_file():
            table = self._read()
            table = table.rename(columns=renamed(table.columns))
            self._columns = list(table.columns)
            steps = table["step"].astype(int)
            if measures_again:
                measured = [name for name in table.columns if name.startswith("val/")]
                table = table[(steps != step - 1) | (table[measured] == "").all(axis=1)]
            kept = steps[table.index] < step
            if trained := sorted({int(float(epoch)) + 1 for epoch in table["epoch"][~kept] if epoch}):
                span = f"{trained[0]}" + f" to {trained[-1]}" * (len(trained) > 1)
                say(f"{self.path}: the rows of epoch {span} are dropped, which is trained again")
            self._replace(table[kept])

    def kept_at(self, step: int | None) -> list[dict[str, float]]:
        """What the table's rows of this step hold."""
        table = self._read() if self.path.is_file() else pd.DataFrame()
        rows = table[table["step"] == str(step)].to_dict("records") if len(table) else []
        return [{n: float(v) for n, v in row.items() if v and n not in ("step", "epoch")} for row in rows]

    def _read(self) -> pd.DataFrame:
        """The table as text: ``nan`` is a logged value, an empty cell means that nothing was logged."""
        return pd.read_csv(self.path, dtype=str, keep_default_na=False)

    def _replace(self, table: pd.DataFrame) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)

        def write() -> None:
            with replacing(self.path) as temporary:
                table.to_csv(temporary, index=False)

        patiently(self.path, write)
