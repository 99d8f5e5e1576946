"""The command line: a training that a signal ends goes on where its last completed step left it."""

import itertools
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import pytest
import torch

from tests.cli.test_train import SHORT, checkpoint, cli

TINY = (*SHORT, "--trainer.limit_train_batches", 4, "--trainer.limit_val_batches", 2, "--trainer.max_epochs", 2)
TINY += ("--trainer.check_val_every_n_epoch", 1, "--trainer.log_every_n_steps", 1)
TINY += ("--model.objective.evidence_every", 2)  # some means of an epoch are over a part of its steps


class Copies(pl.Callback):
    """Copies the checkpoint that is there when a step ends."""

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        last = Path(str(trainer.log_dir)) / "checkpoints" / "last.ckpt"
        if last.is_file():
            copy = last.parents[2] / "copies" / str(trainer.global_step) / "last.ckpt"
            copy.parent.mkdir(parents=True)
            shutil.copy(last, copy)


class At(pl.Callback):
    """Sends a signal at the n-th call of a hook."""

    def __init__(self, hook: str, call: int, number: int = signal.SIGTERM) -> None:
        calls = itertools.count(1)

        def send(*args: Any, **kwargs: Any) -> None:
            if next(calls) == call:
                os.kill(os.getpid(), number)

        setattr(self, hook, send)


def at(hook: str, call: int, number: int = signal.SIGTERM) -> list[str]:
    init = {"hook": hook, "call": call, "number": int(number)}
    callbacks = [{"class_path": f"{__name__}.At", "init_args": init}, {"class_path": f"{__name__}.Copies"}]
    return ["--trainer.callbacks", json.dumps(callbacks)]


def train(folder, *arguments) -> pd.DataFrame:
    """The table of a run, and nothing of what differs by time."""
    with_measures = ("--gradient_variance.every_n_epochs", 1, "--gradient_variance.num_batches", 4)
    with_measures += ("--gradient_variance.repetitions", 2, "--gradient_variance.blocks", 2)
    cli("fit", *TINY, *with_measures, "--runs", folder, *arguments)
    table = pd.read_csv(folder / "digits" / "0" / "metrics.csv")
    timed = [n for n in table.columns if n.startswith("cost/") and n not in ("cost/flops", "cost/flops_per_step")]
    return table.drop(columns=timed)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return train(folder), checkpoint(folder / "digits" / "0")


@pytest.mark.parametrize(
    ("hook", "call"),
    [
        ("on_validation_batch_start", 2),
        ("on_before_optimizer_step", 6),
        ("on_train_epoch_end", 2),
        pytest.param("on_train_batch_end", 1, marks=pytest.mark.slow),
        pytest.param("on_train_epoch_end", 1, marks=pytest.mark.slow),
    ],
)
def test_it_goes_on_as_if_nothing_had_happened(tmp_path, whole, hook, call):
    with pytest.raises(SystemExit) as end:
        train(tmp_path, *at(hook, call))
    assert end.value.code == 128 + signal.SIGTERM
    last = tmp_path / "digits" / "0" / "checkpoints" / "last.ckpt"
    table = train(tmp_path, "--ckpt_path", last)
    expected, kept = whole
    pd.testing.assert_frame_equal(table, expected, check_exact=True)
    assert_same(checkpoint(tmp_path / "digits" / "0"), kept)


def assert_goes_on(folder, settings, signalled, steps) -> Path:
    """Ended after so many steps and resumed, a run is the one that was not; returns its folder."""
    expected = train(folder / "whole", *settings)
    with pytest.raises(SystemExit):
        train(folder / "ended", *settings, *signalled)
    ended = folder / "ended" / "digits" / "0"
    assert torch.load(ended / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == steps
    table = train(folder / "ended", *settings, "--ckpt_path", ended / "checkpoints" / "last.ckpt")
    pd.testing.assert_frame_equal(table, expected, check_exact=True)
    assert_same(checkpoint(ended), checkpoint(folder / "whole" / "digits" / "0"))
    return ended


def test_an_epoch_without_validation_makes_no_step_more_after_its_last(tmp_path):
    """It measures when the signal comes, and the loader would have more batches than the four of an epoch."""
    assert_goes_on(tmp_path, ("--trainer.check_val_every_n_epoch", 2), at("on_train_epoch_end", 1), steps=4)


@pytest.mark.parametrize(
    ("limit", "call"),
    [(6, 5), (6, 6), pytest.param(8, 8, marks=pytest.mark.slow), pytest.param(4, 4, marks=pytest.mark.slow)],
)
def test_steps_are_limited_as_if_nothing_had_happened(tmp_path, limit, call):
    """Also if the signal comes in the last step, whose measurements are made again; within an epoch or at its end."""
    limited = ("--trainer.max_epochs", -1, "--trainer.max_steps", limit)
    ended = assert_goes_on(tmp_path, limited, at("on_before_optimizer_step", call), steps=call)
    assert checkpoint(ended)["global_step"] == limit


@pytest.mark.slow
def test_a_signal_to_save_changes_nothing_and_leaves_a_checkpoint_that_goes_on(tmp_path, whole):
    """SIGUSR1 after the second step: the third finds its checkpoint."""
    expected, kept = whole
    table = train(tmp_path, *at("on_train_batch_end", 2, signal.SIGUSR1))
    pd.testing.assert_frame_equal(table, expected, check_exact=True)
    saved = tmp_path / "digits" / "copies" / "3" / "last.ckpt"
    assert torch.load(saved, weights_only=True)["global_step"] == 2
    train(tmp_path / "later", "--ckpt_path", saved)
    assert_same(checkpoint(tmp_path / "later" / "digits" / "0"), kept)


def assert_same(resumed, kept) -> None:
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        torch.testing.assert_close(resumed[part], kept[part], rtol=0, atol=0)
