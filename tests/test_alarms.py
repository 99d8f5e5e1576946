"""The alarm for training that has broken down."""

from types import SimpleNamespace

import pytest
import torch

from tests.test_generation_metrics import train
from thermoebm.callbacks import NotFiniteAlarm
from thermoebm.networks import ConvGenerator


def test_parameters_that_are_not_finite_are_reported_once_with_their_network(small_model):
    """A variance below zero makes the generator's gradient not a number; a healthy run gives no warning."""
    model = small_model(generator=ConvGenerator(8, (1, 8, 8), 2, normalization="trained_statistics"))
    train(model, NotFiniteAlarm(), epochs=2)
    model.energy.requires_grad_(False)
    with torch.no_grad():
        model.generator.layers[1].variance[0] = -1
    with pytest.warns(UserWarning, match="broke down in epoch 0: parameters of the generator are not finite") as seen:
        train(model, NotFiniteAlarm(), epochs=2)
    assert len([w for w in seen if "not finite" in str(w.message)]) == 1


def test_one_number_is_enough(small_model):
    model = small_model()
    model.energy.layers[0].bias.data[3] = float("inf")
    with pytest.warns(UserWarning, match="in epoch 7: parameters of the energy are not finite"):
        NotFiniteAlarm().on_train_epoch_end(SimpleNamespace(current_epoch=7), model)
