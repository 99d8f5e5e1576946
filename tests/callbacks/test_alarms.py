"""The alarm for training that has broken down."""

import re
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch

from tests.callbacks.test_generation_metrics import train
from tests.cli.test_train import SHORT, checkpoint, cli
from thermoebm.callbacks import NotFiniteAlarm
from thermoebm.networks import ConvGenerator


def test_parameters_that_are_not_finite_end_training_with_their_network(small_model):
    """A variance below zero makes the generator's gradient not a number; a healthy run ends well."""
    model = small_model(generator=ConvGenerator(8, (1, 8, 8), 2, normalization="trained_statistics"))
    train(model, NotFiniteAlarm(), epochs=2)
    model.energy.requires_grad_(False)
    with torch.no_grad():
        model.generator.layers[1].variance[0] = -1
    with pytest.raises(FloatingPointError, match="broke down in epoch 0: parameters of the generator are not finite"):
        train(model, NotFiniteAlarm(), epochs=2)


def test_one_number_is_enough(small_model):
    model = small_model()
    model.energy.layers[0].bias.data[3] = float("inf")
    with pytest.raises(FloatingPointError, match="in epoch 7: parameters of the energy are not finite"):
        NotFiniteAlarm().on_train_epoch_end(SimpleNamespace(current_epoch=7), model)


def test_a_broken_training_ends_in_a_sentence_and_keeps_the_checkpoint_before(tmp_path, capsys):
    """An infinite rate in the second epoch: last.ckpt is the first epoch's, finite, and no traceback is shown."""
    breaking = ["--trainer.callbacks+", f"{__name__}.Break", "--trainer.max_epochs", 3]
    with pytest.raises(SystemExit) as ended:
        cli("fit", *SHORT, *breaking, "--trainer.limit_train_batches", 1, "--runs", tmp_path)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert re.fullmatch(r"error: Training broke down in epoch 1: parameters of the [a-z ]*generator are not .*\n", said)
    last = checkpoint(tmp_path / "digits" / "0")
    assert last["epoch"] == 0
    assert all(tensor.isfinite().all() for tensor in last["state_dict"].values())


class Break(pl.Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            trainer.optimizers[0].param_groups[1]["lr"] = float("inf")
