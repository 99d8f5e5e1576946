"""The command line: runs that go on with another number of processes."""

import os
import subprocess
import sys

import pytest
import torch

from tests import ROOT
from tests.cli.test_train import CONFIG, checkpoint, rows

TINY = (*CONFIG, "--trainer.accelerator", "cpu", "--model.compile", "off", "--trainer.limit_train_batches", "3")
TINY += ("--trainer.limit_val_batches", "0", "--trainer.callbacks", "null", "--model.average_decay", "0.9")
TWO = ("--trainer.devices", "2", "--trainer.strategy", "ddp")


def train(runs, epochs, *arguments):
    command = [sys.executable, "train.py", "fit", *TINY, "--runs", runs, "--trainer.max_epochs", epochs, *arguments]
    launched = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "NODE_RANK", "LOCAL_RANK", "RANK")
    environment = {name: value for name, value in os.environ.items() if name not in launched}
    done = subprocess.run(
        [*map(str, command)], cwd=ROOT, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
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
            if not name.endswith("updates"):  # of the averaged weights: they are counted
                torch.testing.assert_close(later["state_dict"][name], value, rtol=1e-6, atol=1e-12)
    assert [int(row["step"]) for row in rows(run) if row["train/loss"]][-1] == 8
