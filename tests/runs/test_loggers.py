"""metrics.csv: nothing lost, nothing doubled, whatever happens to the process."""

import csv
import errno
import itertools
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests import ROOT
from thermoebm.runs.loggers import MetricsCSV, TensorBoard
from thermoebm.runtime import patience
from thermoebm.runtime.patience import Appended


def write(logger: MetricsCSV, rows: list[dict[str, float]]) -> None:
    for row in rows:
        logger.log_metrics({k: v for k, v in row.items() if k != "step"}, step=int(row["step"]))
        logger.save()


def table(folder: Path) -> list[dict[str, float]]:
    """The rows of the file, without their empty cells."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [{k: float(v) for k, v in row.items() if v != ""} for row in csv.DictReader(file)]


ROWS = [
    {"step": 0, "epoch": 0, "b": 1 / 3},
    {"step": 1, "epoch": 0, "b": 1e-30, "a": -2.0},  # a column more
    {"step": 1, "epoch": 0, "c": float(2**53 - 1)},  # another, alone
    {"step": 2, "epoch": 1, "b": 3.0},
]


def test_rows_come_back_as_logged_when_columns_appear(tmp_path):
    """Every digit of every value; a cell is empty where nothing was logged."""
    write(MetricsCSV(tmp_path), ROWS)
    assert table(tmp_path) == ROWS
    assert list(pd.read_csv(tmp_path / "metrics.csv").columns) == ["step", "epoch", "a", "b", "c"]


def test_what_is_no_number_stays_apart_from_what_was_not_logged(tmp_path):
    """When a column appears, and when a resumed run reads the file."""
    write(MetricsCSV(tmp_path), [{"step": 0, "a": math.nan, "b": -math.inf}, {"step": 1, "c": 1.0}])
    MetricsCSV(tmp_path, resume_step=1)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["step", "epoch", "a", "b", "c"], ["0", "", "nan", "-inf", ""]]


def test_a_row_without_epoch_has_that_of_the_next_else_of_the_last(tmp_path):
    """As LearningRateMonitor logs at the start of an epoch; a study takes rows without epoch for damage."""
    logger = MetricsCSV(tmp_path)
    for metrics, step in (({"lr": 1}, 0), ({"epoch": 0, "a": 1}, 1), ({"lr": 2}, 2), ({"epoch": 1, "a": 2}, 3)):
        logger.log_metrics(metrics, step)
    logger.save()
    write(logger, [{"step": 4, "lr": 3}])
    assert pd.read_csv(tmp_path / "metrics.csv")["epoch"].tolist() == [0, 0, 1, 1, 1]


def test_rows_logged_between_two_saves_are_all_written(tmp_path):
    """finalize() writes what save() has not."""
    logger = MetricsCSV(tmp_path)
    for row in ROWS:
        logger.log_metrics({k: v for k, v in row.items() if k != "step"}, step=int(row["step"]))
    assert not (tmp_path / "metrics.csv").exists()
    logger.finalize("success")
    assert table(tmp_path) == ROWS


def test_resuming_keeps_the_rows_before_and_drops_those_computed_again(tmp_path):
    """Row n tells of the step taken with n steps behind it, so a checkpoint after n steps repeats rows n and later."""
    write(MetricsCSV(tmp_path), ROWS)
    resumed = MetricsCSV(tmp_path, resume_step=2)
    assert table(tmp_path) == ROWS[:3]
    write(resumed, [{"step": 2, "epoch": 1, "b": 4.0}, {"step": 3, "epoch": 1, "d": 5.0}])
    assert table(tmp_path) == [*ROWS[:3], {"step": 2, "epoch": 1, "b": 4.0}, {"step": 3, "epoch": 1, "d": 5.0}]


def test_a_run_of_version_0_1_0_goes_on_in_the_same_columns(tmp_path):
    """Its short-run values take their present names before new ones follow, so that no metric has two columns."""
    old = [
        {"step": 0, "train/nll": 3.0},
        {"step": 0, "val/evidence": -2.0, "val/nll": 2.0},
        {"step": 1, "val/nll": 9.0},
    ]
    write(MetricsCSV(tmp_path), old)
    resumed = MetricsCSV(tmp_path, resume_step=1)
    now = [{"step": 0, "train/nll": 3.0}, {"step": 0, "val/short_run_evidence": -2.0, "val/short_run_nll": 2.0}]
    assert table(tmp_path) == now
    more = [{"step": 1, "a": 5.0}, {"step": 1, "val/short_run_evidence": -1.0, "val/short_run_nll": 1.0}]
    write(resumed, more)
    assert table(tmp_path) == now + more
    columns = ["step", "epoch", "a", "train/nll", "val/short_run_evidence", "val/short_run_nll"]
    assert list(pd.read_csv(tmp_path / "metrics.csv").columns) == columns


def test_a_newer_runs_evidence_keeps_its_name(tmp_path):
    """Also when it was logged first: it is read again when columns appear, and when the run is resumed."""
    rows = [{"step": 0, "val/evidence": -1.0}, {"step": 0, "val/short_run_evidence": -2.0}]
    write(MetricsCSV(tmp_path), rows)
    MetricsCSV(tmp_path, resume_step=1)
    assert table(tmp_path) == rows


def test_resuming_without_a_file_starts_one(tmp_path):
    write(MetricsCSV(tmp_path / "new", resume_step=2), ROWS)
    assert table(tmp_path / "new") == ROWS


def test_a_crash_while_the_table_is_rewritten_leaves_the_old_one(tmp_path, monkeypatch):
    """The rewriting of a column more is finished beside the file before it takes its place."""
    logger = MetricsCSV(tmp_path)
    write(logger, ROWS[:1])

    def crash(self, path, **kwargs):
        Path(path).write_text("step,ep")
        raise KeyboardInterrupt

    monkeypatch.setattr(pd.DataFrame, "to_csv", crash)
    with pytest.raises(KeyboardInterrupt):
        write(logger, ROWS[1:2])
    assert table(tmp_path) == ROWS[:1]


def test_a_killed_process_leaves_a_readable_table_with_every_saved_row(tmp_path):
    """SIGKILL in mid-writing: the steps in the file are 0, 1, 2, ... and none of those acknowledged is missing."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from thermoebm.runs.loggers import MetricsCSV\n"
        "logger = MetricsCSV(sys.argv[1])\n"
        "for step in range(10**6):\n"
        "    logger.log_metrics({'epoch': 0, 'a': step / 3, f'new{step // 5}': 1.0}, step=step)\n"
        "    logger.save()\n"
        "    print(step, flush=True)\n"
    )
    folders = [tmp_path / str(i) for i in range(2)]
    children = [subprocess.Popen([sys.executable, "-c", code, f], stdout=subprocess.PIPE, text=True) for f in folders]
    for child, folder, acknowledged in zip(children, folders, (7, 60), strict=True):
        assert child.stdout is not None
        with child, child.stdout:
            for line in child.stdout:
                if int(line) == acknowledged:
                    break
            os.kill(child.pid, signal.SIGKILL)
        rows = table(folder)
        assert [row["step"] for row in rows] == list(range(len(rows)))
        assert len(rows) > acknowledged
        assert all(row["a"] == row["step"] / 3 for row in rows[:-1])


@pytest.fixture
def failing(monkeypatch):
    """Every third try to append fails after half of its bytes, for want of room."""
    put, tries = Appended._put, itertools.count(1)

    def sometimes(self, data):
        if next(tries) % 3 == 0:
            put(self, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        put(self, data)

    monkeypatch.setattr(Appended, "_put", sometimes)
    monkeypatch.setattr(patience, "_PAUSE", 0.001)
    with patience.waiting(10):
        yield tries


def test_a_full_disk_loses_no_row_of_the_table(tmp_path, failing):
    logger = MetricsCSV(tmp_path)
    for step in range(20):
        logger.log_metrics({"a": step / 3}, step)
        logger.save()
    assert pd.read_csv(tmp_path / "metrics.csv")["a"].tolist() == pytest.approx([step / 3 for step in range(20)])
    assert next(failing) > 25


def test_a_full_disk_loses_no_event_of_tensorboard(tmp_path, failing):
    """Its file is written by our :class:`Appended`, though tensorboard opens another."""
    logger = TensorBoard(tmp_path, name="", version="")
    for step in range(20):
        logger.log_metrics({"a": float(step)}, step)
    logger.finalize("success")
    events = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0}).Reload()
    assert [(event.step, event.value) for event in events.Scalars("a")] == [(step, step) for step in range(20)]
    assert next(failing) > 25


def test_tensorboard_that_has_waited_in_vain_ends_training_without_a_traceback_of_its_thread(tmp_path):
    """Its error is raised where the next events are added."""
    program = """if True:
        import sys
        from thermoebm.runs.loggers import TensorBoard
        from thermoebm.runtime.patience import Appended

        def never(self, data):
            raise OSError(30, "Read-only file system", str(self.path))

        logger = TensorBoard(sys.argv[1], name="", version="")
        logger.experiment.flush()
        Appended._put = never
        try:
            for step in range(10_000):
                logger.log_metrics({"a": 1.0}, step)
        except OSError as error:
            print(error)
        """
    told = subprocess.run(
        [sys.executable, "-c", program, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert told.stdout.startswith(f"[Errno 30] Read-only file system: '{tmp_path}/events.out.tfevents.")
    assert "Traceback" not in told.stderr
