"""The alarm for models of which nothing is known but their parameters, and which alarm a run has."""

import math
import re

import lightning.pytorch as pl
import pytest
import torch

from tests.modules.test_image_model import Pixels
from thermoebm.callbacks import ParameterAlarm


class Ruin(pl.Callback):
    """Makes a parameter NaN after the last step of epoch 1; keeps them at each epoch's end."""

    def __init__(self):
        self.ends = []

    def on_train_batch_end(self, trainer, pl_module, *_):
        if trainer.current_epoch == 1 and trainer.is_last_batch:
            pl_module.mean.pixels.data[0, 3, 3] = math.nan

    def on_train_epoch_end(self, trainer, pl_module):
        self.ends.append(pl_module.mean.pixels.detach().clone())


def test_training_goes_back_from_parameters_that_are_not_finite(fit):
    """To the end of epoch 0, bit for bit; all networks then learn more slowly."""
    model = Pixels()
    with pytest.warns(UserWarning, match="ran away") as seen:
        trainer = fit(model, [alarm := ParameterAlarm(), ruin := Ruin()], max_epochs=3)
    (told,) = (str(w.message) for w in seen if "ran away" in str(w.message))
    assert re.fullmatch(
        r"Training ran away in epoch 1: parameters are not finite; training goes on from the end of epoch 0 with 0\.5 "
        r"times the learning rate of the mean, now 0\.025 \(rollback 1 of 3\)\.",
        told,
    )
    assert torch.equal(ruin.ends[0], ruin.ends[1])
    assert not torch.equal(ruin.ends[1], ruin.ends[2])
    assert {name for name in trainer.callback_metrics if not name.startswith(("train/", "val/"))} == {
        "training/rollbacks"
    }
    assert trainer.callback_metrics["training/rollbacks"] == alarm.rollbacks == 1


def test_or_ends_with_the_remedy(fit):
    told = r"^Training ran away in epoch 1: parameters are not finite. No checkpoint was saved: start again with lower"
    with pytest.raises(FloatingPointError, match=told):
        fit(Pixels(), [ParameterAlarm("stop"), Ruin()], max_epochs=3)


def test_finite_parameters_are_healthy_however_large(fit):
    model = Pixels()
    model.mean.pixels.data.fill_(1e6)
    assert fit(model, ParameterAlarm()).callback_metrics["training/rollbacks"] == 0
