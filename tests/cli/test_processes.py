"""The command line: runs that go on with another number of processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from tests import ROOT
from tests.cli.test_train import CONFIG, checkpoint, rows
from thermoebm.callbacks.first_process import log_of_first
from thermoebm.runtime import signals
from thermoebm.runtime.progress import bar, measuring

TINY = (*CONFIG, "--trainer.accelerator", "cpu", "--model.compile", "off", "--trainer.limit_train_batches", "3")
TINY += ("--trainer.limit_val_batches", "0", "--trainer.callbacks", "null", "--model.average_decay", "0.9")
TWO = ("--trainer.devices", "2", "--trainer.strategy", "ddp")


def train(runs, epochs, *arguments, status=0):
    command = [sys.executable, "train.py", "fit", *TINY, "--runs", runs, "--trainer.max_epochs", epochs, *arguments]
    launched = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "NODE_RANK", "LOCAL_RANK", "RANK")
    environment = {name: value for name, value in os.environ.items() if name not in launched}
    done = subprocess.run(
        [*map(str, command)], cwd=ROOT, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == status, done.stderr
    assert " lost" not in done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_run_goes_on_with_other_numbers_of_processes(tmp_path):
    """One, two, one: at a rate of zero the weights are those of the first epoch, and nothing of the table is lost."""
    run, still = tmp_path / "digits" / "0", ("--model.energy_optimizer.learning_rate", 1e-18)
    still += ("--model.energy_optimizer.final_learning_rate", 0, "--model.generator_optimizer.learning_rate", 1e-18)
    still += ("--model.generator_optimizer.final_learning_rate", 0, "--seed_everything", 3)
    assert "Going on" not in train(tmp_path, 1, *still)
    first = checkpoint(run)
    last = ("--ckpt_path", run / "checkpoints" / "last.ckpt")
    told = train(tmp_path, 2, *still, *TWO, *last)
    assert "Going on with 2 processes instead of 1: weights, moments, averages and counters are exactly" in told
    second = checkpoint(run)
    assert "Going on with 1 process instead of 2: " in train(tmp_path, 3, *still, *last)
    third = checkpoint(run)
    assert [c["global_step"] for c in (first, second, third)] == [3, 6, 9]
    for later in (second, third):
        for name, value in first["state_dict"].items():
            if not name.endswith(("updates", "log_size")):  # averages are counted, and chains adapt their step
                torch.testing.assert_close(later["state_dict"][name], value, rtol=1e-6, atol=1e-12)
    assert [int(row["step"]) for row in rows(run) if row["train/loss"]][-1] == 8


class AtTheSecond(pl.Callback):
    """Sends a signal to the second process alone, in its step of this number; and copies what is saved in a step."""

    def __init__(self, step: int, number: int) -> None:
        self.step, self.number = step, number

    def on_before_optimizer_step(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step and trainer.global_rank == 1:
            os.kill(os.getpid(), self.number)

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        last = Path(str(trainer.log_dir)) / "checkpoints" / "last.ckpt"
        if trainer.global_rank == 0 and last.is_file():
            shutil.copy(last, last.parents[2] / f"{trainer.global_step}.ckpt")


def at_the_second(step, number):
    init = {"step": step, "number": int(number)}
    return ["--trainer.callbacks", json.dumps([{"class_path": f"{__name__}.AtTheSecond", "init_args": init}])]


class Long(pl.Callback):
    """Work of a minute at one place of the first epoch, in which the second process has a signal.

    Args:
        place: "validation", in which both take long; "measuring", by the first, for which the second waits;
            "compilation" of the first step, or of the first "other" one, which measures no ladder, by both.
    """

    def __init__(self, place: str) -> None:
        self.place = place

    def _work(self, folder: Path) -> float:
        (folder / "begun").touch()
        with bar(600, "long work", "part") as parts:
            for _ in range(600):
                time.sleep(0.1)
                parts.update()
        (folder / "done").touch()
        return 1.0

    def _due(self, trainer: pl.Trainer, place: str) -> bool:
        due = place == self.place and not trainer.fit_loop.epoch_loop.val_loop.restarting and trainer.current_epoch == 0
        if due and trainer.global_rank == 1:
            threading.Timer(2, os.kill, (os.getpid(), signal.SIGTERM)).start()
        return due

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        if self._due(trainer, ["compilation", "other"][trainer.global_step == 1]):
            Path(str(trainer.log_dir), "begun").touch()
            with signals.interruptible():
                time.sleep(60)

    def on_validation_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        if self._due(trainer, "validation"):
            folder = Path(str(trainer.log_dir))  # which all processes ask for together
            with measuring():
                self._work(folder)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._due(trainer, "measuring"):
            folder = Path(str(trainer.log_dir))
            log_of_first(trainer, pl_module, "long", lambda: {"work": self._work(folder)})


@pytest.mark.slow
@pytest.mark.parametrize("place", ["validation", "measuring", "compilation", "other"])
def test_a_signal_to_one_of_two_processes_ends_both_at_once(tmp_path, place):
    """Wherever they are; the run then goes on bit by bit."""
    validates = (*TWO, "--trainer.limit_val_batches", "1", "--trainer.check_val_every_n_epoch", "1")
    long = json.dumps([{"class_path": f"{__name__}.Long", "init_args": {"place": place}}])
    told = train(tmp_path / "ended", 2, *validates, "--trainer.callbacks", long, status=128 + signal.SIGTERM)
    ended = tmp_path / "ended" / "digits" / "0"
    assert not (ended / "done").exists()
    if place == "compilation":
        assert told.count("Ended by SIGTERM in epoch 1; no step was completed") == 1
        return
    assert told.count("Ended by SIGTERM in epoch 1; go on with") == 1
    assert (ended / "begun").exists()
    steps = torch.load(ended / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert steps == (1 if place == "other" else 3)
    train(tmp_path / "ended", 2, *validates, "--ckpt_path", ended / "checkpoints" / "last.ckpt")
    train(tmp_path / "whole", 2, *validates)
    assert_same_weights(tmp_path / "whole" / "digits" / "0", ended)
    tables = [[row["val/short_run_nll"] for row in rows(run)] for run in (ended, tmp_path / "whole" / "digits" / "0")]
    assert tables[0] == tables[1]


def assert_same_weights(undisturbed, resumed):
    undisturbed, resumed = checkpoint(undisturbed), checkpoint(resumed)
    assert undisturbed["global_step"] == resumed["global_step"] == 6
    for name, value in undisturbed["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], value), name


@pytest.mark.slow
def test_a_signal_to_one_of_two_processes_is_one_to_both(tmp_path):
    """SIGUSR1 saves the second of six steps; SIGTERM ends with the fifth, and then all is as it was undisturbed."""
    last = Path("digits") / "0" / "checkpoints" / "last.ckpt"
    train(tmp_path / "whole", 2, *TWO, *at_the_second(1, signal.SIGUSR1))
    saved = torch.load(tmp_path / "whole" / "digits" / "3.ckpt", weights_only=True)
    assert saved["global_step"] == 2
    told = train(tmp_path / "ended", 2, *TWO, *at_the_second(4, signal.SIGTERM), status=128 + signal.SIGTERM)
    assert told.count("Ended by SIGTERM in epoch 2; go on with") == 1
    ended = tmp_path / "ended" / last
    assert torch.load(ended, weights_only=True)["global_step"] == 5
    train(tmp_path / "ended", 2, *TWO, "--ckpt_path", ended)
    assert_same_weights(tmp_path / "whole" / "digits" / "0", tmp_path / "ended" / "digits" / "0")
