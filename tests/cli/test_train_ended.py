"""The command line: a run that ends before its last epoch says why, with the status of its cause and its state kept."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
from typing import Any

import lightning.pytorch as pl
import pytest

from tests import ROOT
from tests.cli.test_train import SHORT, checkpoint, cli, rows
from thermoebm.runs.checkpoints import epochs_trained

TINY = (*SHORT, "--trainer.limit_train_batches", 2, "--trainer.limit_val_batches", 0)


class End(pl.Callback):
    """Ends the training in its second epoch, at a step of two."""

    def __init__(self, how: str, step: int) -> None:
        self.how, self.step = how, step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        if trainer.global_step == self.step:
            if self.how.startswith("SIG"):
                os.kill(os.getpid(), getattr(signal, self.how))
            elif self.how == "disk":
                raise OSError(errno.ENOSPC, "No space left on device", "metrics.csv")
            else:
                raise OSError("a mistake")


def ended(how: str, step: int) -> list[str]:
    return ["--trainer.callbacks", json.dumps([{"class_path": f"{__name__}.End", "init_args": vars(End(how, step))}])]


@pytest.mark.parametrize(
    ("how", "step", "epochs"),
    [pytest.param("SIGTERM", 1, 0, marks=pytest.mark.slow), ("SIGTERM", 4, 1), ("SIGINT", 3, 1)],
)
def test_a_signal_ends_a_run_with_its_status_and_the_completed_steps(tmp_path, how, step, epochs):
    """What comes after an epoch's last step is interrupted too, and the epoch not complete."""
    printed = io.StringIO()
    with pytest.raises(SystemExit) as end:
        cli("fit", *TINY, *ended(how, step), "--trainer.max_epochs", 3, "--runs", tmp_path, printed=printed)
    assert end.value.code == 128 + getattr(signal, how)
    said = printed.getvalue().splitlines()[-1]
    last = tmp_path / "digits" / "0" / "checkpoints" / "last.ckpt"
    assert said == f"Ended by {how} in epoch {epochs + 1}; go on with --ckpt_path {last}"
    run = tmp_path / "digits" / "0"
    kept = {file.name for file in (run / "checkpoints").glob("*")}
    assert kept == {"last.ckpt", *(["previous.ckpt"] if epochs else [])}
    assert checkpoint(run)["global_step"] == step
    assert epochs_trained(checkpoint(run)) == epochs
    assert {int(row["epoch"]) for row in rows(run)} >= {*range(epochs)}


def test_a_full_disk_is_told_in_a_sentence_and_a_mistake_with_its_trace(tmp_path, capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        cli("fit", *TINY, *ended("disk", 3), "--trainer.max_epochs", 3, "--runs", tmp_path)
    said = "error: metrics.csv cannot be read or written: No space left on device. Checkpoints of completed epochs"
    assert capsys.readouterr().err == f"{said} are kept.\n"
    assert checkpoint(tmp_path / "digits" / "0")["epoch"] == 0
    with pytest.raises(OSError, match="a mistake"):
        cli("fit", *TINY, *ended("mistake", 1), "--runs", tmp_path)


@pytest.mark.slow  # four short trainings
@pytest.mark.parametrize(
    ("fields", "epochs", "said"),
    [
        ({"patience": 1, "mode": "max", "min_delta": 1e9}, 2, "did not improve in the last 1 records. Best score: "),
        ({"stopping_threshold": 1e9}, 1, "stopping threshold reached: train/loss = "),
        ({"patience": 9}, 3, None),
    ],
)
def test_early_stopping_says_why_it_stopped(tmp_path, fields, epochs, said):
    """After the epoch in which it did, the first included; nothing if it did not."""
    init = {"monitor": "train/loss", "check_on_train_epoch_end": True, **fields}
    given = json.dumps([{"class_path": "EarlyStopping", "init_args": init}])
    _, printed = cli("fit", *TINY, "--trainer.callbacks", given, "--trainer.max_epochs", 3, "--runs", tmp_path)
    lines = [line for line in printed.splitlines() if line.startswith("Stopped")]
    assert len(lines) == (said is not None)
    for line in lines:
        assert line.startswith(f"Stopped after epoch {epochs}: ")
        assert said in line
        assert "Signaling" not in line
    assert checkpoint(tmp_path / "digits" / "0")["epoch"] + 1 == epochs
    if said and epochs == 2:  # the state of the stop is resumed, and stops at once, though not for that long ago
        last = ["--ckpt_path", tmp_path / "digits" / "0" / "checkpoints" / "last.ckpt", "--trainer.max_epochs", 3]
        _, printed = cli("fit", *TINY, "--trainer.callbacks", given, *last, "--runs", tmp_path)
        assert "Stopped after epoch 3: " in printed


@pytest.mark.slow
def test_a_training_goes_on_when_nobody_reads_what_it_says(tmp_path):
    """As after ``| head -1``: both streams are one pipe, which closes after the first line."""
    command = [sys.executable, "train.py", "fit", *SHORT, "--runs", tmp_path, "--trainer.max_epochs", 2]
    with subprocess.Popen(
        [*map(str, command)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as training:
        assert "images; generator" in training.stdout.readline()
        training.stdout.close()
        assert training.wait(200) == 0
    assert checkpoint(tmp_path / "digits" / "0")["epoch"] == 1
