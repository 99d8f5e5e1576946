"""What the shipped config measures while it trains, through the command line: what it leaves, what resuming repeats."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.cli.test_train import CONFIG, ROOT, SHORT, checkpoint, cli, repeatable

PICTURES = ("samples", "reconstructions", "integrand", "gradient_variance")
MEASURED = "gradient_variance/(?:test/)?per_parameter/|gradient_.*/test/across|fidelity/"


@pytest.mark.slow  # compiles, trains the classifier and draws all gradients
def test_the_shipped_config_measures_and_says_no_warning(tmp_path):
    """As a user starts it, one epoch for a hundred: the measurements are in TensorBoard and in the table."""
    command = [sys.executable, "train.py", "fit", *CONFIG, "--trainer.max_epochs", "1", "--runs", tmp_path]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    assert "warning" not in done.stdout.lower()
    run = tmp_path / "digits" / "0"
    assert all((run / name / "epoch-0001.png").is_file() for name in PICTURES)
    assert (run / "gradient_variance" / "epoch-0001.csv").is_file()
    table = pd.read_csv(run / "metrics.csv")
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    for name in ("total/both", "data/energy", "sampler_se/generator", "total/generator.layers.0.weight"):
        assert len(table[f"gradient_variance/per_parameter/{name}"].dropna()) == 1
        assert len(events.Scalars(f"gradient_variance/per_parameter/{name}")) == 1
    for name in ("FD[classifier:digits]_inf", "KD[classifier:digits]_inf_se"):
        assert table[f"fidelity/train/{name}"].dropna().item() > 0
        assert len(events.Scalars(f"fidelity/train/{name}")) == 1


class Killed(Exception):
    pass


class Kill(pl.Callback):
    """Ends the program at a step, in the middle of its epoch."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            raise Killed


class DieBeforeLogging(pl.Callback):
    """Ends the program when the third epoch's checkpoint is written and its metrics are not."""

    def on_train_epoch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.current_epoch == 2:
            for logger in trainer.loggers:
                logger.log_metrics = self._die  # type: ignore[method-assign]

    def _die(self, *args: Any, **kwargs: Any) -> None:
        raise Killed


def fit(folder: Path, epochs: int, *fields: Any, kill: int | None = None) -> Path:
    """Epochs of four batches, everything measured at every second; the run's directory."""
    callbacks = yaml.safe_load(Path(CONFIG[1]).read_text())["trainer"]["callbacks"]
    for callback in callbacks:
        callback["init_args"]["every_n_epochs"] = 2
    if kill:
        callbacks.append({"class_path": f"{__name__}.Kill", "init_args": {"step": kill}})
    if kill == 0:
        callbacks.append({"class_path": f"{__name__}.DieBeforeLogging"})
    measured = ["--trainer.callbacks", json.dumps(callbacks), "--trainer.limit_train_batches", 4]
    measured += ["--gradient_variance.every_n_epochs", 2, "--fidelity.every_n_epochs", 2]
    measured += [
        "--gradient_variance.num_batches",
        4,
        "--gradient_variance.blocks",
        2,
    ]  # few of each: bits are compared
    measured += ["--fidelity.num_samples", 200, "--fidelity.sizes", "[50,100,200]", "--fidelity.extractor", "pixels"]
    measured += ["--gradient_variance.splits", "[train,test]", "--fidelity.splits", "[train,test]"]
    cli("fit", *SHORT, *measured, "--trainer.max_epochs", epochs, "--runs", folder, *fields)
    return folder / "digits" / "0"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Five epochs in one go: measured after the second, the fourth and the last."""
    return fit(tmp_path_factory.mktemp("whole"), 5)


@pytest.mark.parametrize("how", ["ended", "killed", "killed before logging"])
def test_a_resumed_run_has_the_metrics_of_the_uninterrupted_one(whole, tmp_path, how):
    """Ended after three epochs, which are measured as its last; killed within the fourth; or at the end of the third,
    between its checkpoint and its metrics. Bit by bit in all."""
    if how == "ended":
        run = fit(tmp_path, 3)
    else:
        with pytest.raises(Killed):
            fit(tmp_path, 5, kill=14 if how == "killed" else 0)
        run = tmp_path / "digits" / "0"
    fit(tmp_path, 5, "--ckpt_path", run / "checkpoints" / "last.ckpt")
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
        torch.testing.assert_close(checkpoint(run)[key], checkpoint(whole)[key], rtol=0, atol=0)
    expected, table = repeatable(whole), repeatable(run)
    columns = expected.columns[expected.columns.str.contains(MEASURED)]
    measured = {int(e) for e in expected[columns].dropna(how="all").index.map(expected["epoch"])}
    assert measured == {1, 3, 4}
    assert {name.split("/")[1] for name in columns} == {"per_parameter", "train", "test"}
    extra = table["epoch"] == "2"
    assert table.loc[extra, columns].notna().any(axis=None) == (how == "ended")
    table.loc[extra, columns] = float("nan")
    pd.testing.assert_frame_equal(table, expected)
    for name in PICTURES:
        for file in (whole / name).rglob("*.*"):
            assert (run / file.relative_to(whole)).read_bytes() == file.read_bytes()


def test_a_callback_needs_no_list(tmp_path):
    """As Lightning takes it; its fields may follow."""
    given = ("--trainer.callbacks", "thermoebm.callbacks.SampleGrid", "--trainer.callbacks.count", 4)
    cli("fit", *SHORT, *given, "--trainer.max_epochs", 1, "--trainer.limit_train_batches", 1, "--runs", tmp_path)
    assert (tmp_path / "digits" / "0" / "samples" / "epoch-0001.png").is_file()
