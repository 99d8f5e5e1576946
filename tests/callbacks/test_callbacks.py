"""Alarms sound when they should and not otherwise; pictures show what they say."""

import contextlib
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from thermoebm.callbacks import (
    EnergyAlarm,
    IntegrandPlot,
    ReconstructionGrid,
    SampleGrid,
    ZeroGradientAlarm,
)
from thermoebm.callbacks.pictures import image_grid
from thermoebm.objectives import MaximumLikelihood, Objective, Output, ThermodynamicIntegration
from thermoebm.schedules import PowerLaw

# Alarms


class Unaware(ThermodynamicIntegration):
    """Estimator 'detached' of a user who did not know that it never trains the energy, as in the published runs."""

    def __init__(self) -> None:
        super().__init__("detached", PowerLaw(2))

    def without_gradient(self) -> tuple[str, ...]:
        return ()


def test_an_energy_without_gradient_is_reported_with_the_objective(small_model, fit):
    model = small_model(objective=Unaware())
    with pytest.warns(UserWarning, match=r"The energy received an exactly zero gradient.*estimator='detached'") as seen:
        fit(model, ZeroGradientAlarm())
    assert len([w for w in seen if "zero gradient" in str(w.message)]) == 1  # the generator learns


@pytest.mark.parametrize("estimator", ["contrastive", "detached", "endpoints", "pathwise"])
def test_networks_that_learn_are_not_reported_nor_one_that_is_known_not_to(small_model, fit, estimator):
    """The warning would be an error here. The objective names the networks whose gradient is zero, and no other."""
    model = small_model(objective=ThermodynamicIntegration(estimator, PowerLaw(2)))
    seen = {}

    class Witness(ZeroGradientAlarm):
        def on_train_epoch_end(self, *args) -> None:
            seen.update(self.state_dict()["largest"])
            super().on_train_epoch_end(*args)

    fit(model, Witness())
    assert seen.keys() == {"energy", "generator"}
    assert {name for name, largest in seen.items() if largest == 0} == set(model.objective.without_gradient())


def test_a_network_frozen_on_purpose_is_not_reported(small_model, fit):
    model = small_model(objective=Unaware())
    model.energy.requires_grad_(False)
    assert fit(model, ZeroGradientAlarm()).global_step == 2


class EnergyOnly(Objective):
    """A loss that leaves the generator out, and is zero except at every n-th step."""

    def __init__(self, every: int = 1) -> None:
        self.every = every

    def __call__(self, model: Any, x: Tensor, rng: torch.Generator, *, step: int | None = 0) -> Output:
        loss = model.energy(model.sample_prior(4, rng)).mean() * float((step or 0) % self.every == 0)
        return Output(loss, {}, {})


def test_a_network_outside_the_graph_is_reported(small_model, fit):
    """Its gradients are None rather than zero."""
    with pytest.warns(UserWarning, match="The generator received an exactly zero gradient") as seen:
        fit(small_model(objective=EnergyOnly()), ZeroGradientAlarm())
    assert not [w for w in seen if "The energy" in str(w.message)]


def test_one_batch_with_a_gradient_is_enough(small_model, fit):
    """Only a whole epoch of zeros is a fault."""
    model = small_model(objective=EnergyOnly(every=2))
    model.generator.requires_grad_(False)
    assert fit(model, ZeroGradientAlarm()).global_step == 2


# Pictures


def pixels(path: Path) -> np.ndarray:
    """The levels (H, W, 3) of a PNG."""
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def test_image_grid_shows_every_pixel_where_it_belongs():
    """Row by row, each pixel of an 8x8 image six wide, white between, clamped to the range."""
    images = torch.linspace(-1.5, 1.5, 3 * 64).view(3, 1, 8, 8)
    grid = image_grid(images, columns=2)
    assert grid.shape == (3, 2 * 52 + 4, 2 * 52 + 4)
    expected = torch.ones_like(grid)
    for i, image in enumerate(images.clamp(-1, 1)):
        top, left = 4 + 52 * (i // 2), 4 + 52 * (i % 2)
        for row in range(48):
            for column in range(48):
                expected[:, top + row, left + column] = (image[0, row // 6, column // 6] + 1) / 2
    torch.testing.assert_close(grid, expected)
    assert image_grid(torch.zeros(2, 3, 64, 64), 2).shape == (3, 72, 140)  # large images keep their size


@pytest.mark.parametrize(("count", "held_out"), [(10, 30), (12, 30), (40, 7)])
def test_reconstructions_stand_below_their_originals(count, held_out):
    """Originals in odd rows, also where the last row is not full or there are fewer images; a label for each."""
    x = torch.linspace(-1, 1, held_out).view(-1, 1, 1, 1).expand(-1, 1, 48, 48)
    trainer: Any = SimpleNamespace(val_dataloaders=x.split(4))
    drawn = {"reconstruct": lambda x, rng: -x, "averaged_weights": contextlib.nullcontext}
    model: Any = SimpleNamespace(device="cpu", stream=lambda name: None, **drawn)
    grid = ReconstructionGrid(count=count, columns=5).picture(trainer, model)
    shown = min(count, held_out)
    margin, grid = grid[..., :108], grid[..., 108:]
    assert grid.shape == (3, 2 * math.ceil(shown / 5) * 52 + 4, 5 * 52 + 4)
    dark = [(part[0] < 0.5).sum(0) for part in margin[:, 4:].split(52, 1)]
    wide = [int(columns.nonzero().max() - columns.nonzero().min()) for columns in dark]
    assert wide == [wide[0], wide[1]] * (len(dark) // 2)
    assert 30 < wide[0] < 0.7 * wide[1]  # "original" is much shorter than "reconstruction"
    for i in range(shown):
        centre = grid[0, 30 + 104 * (i // 5) :, 30 + 52 * (i % 5)]
        torch.testing.assert_close(centre[[0, 52]], torch.stack([x[i, 0, 0, 0] + 1, 1 - x[i, 0, 0, 0]]) / 2)


def test_pictures_are_written_every_nth_epoch_and_at_the_end(small_model, fit, tmp_path):
    """Epochs 2 and 3 of 3, as PNG and, pixel by pixel the same, in TensorBoard under the step reached."""
    fit(small_model(), SampleGrid(every_n_epochs=2, count=6, columns=3), max_epochs=3)
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == ["epoch-0002.png", "epoch-0003.png"]
    events = EventAccumulator(str(tmp_path)).Reload()
    images = events.Images("Overview/samples")
    assert [image.step for image in images] == [4, 6]
    for image, name in zip(images, ("epoch-0002.png", "epoch-0003.png"), strict=True):
        (tmp_path / "decoded.png").write_bytes(image.encoded_image_string)
        picture, decoded = pixels(tmp_path / "samples" / name), pixels(tmp_path / "decoded.png")
        assert picture.shape == (2 * 52 + 4, 3 * 52 + 4, 3)
        assert abs(picture - decoded).max() <= 1  # one rounds to the nearest level, the other down


@pytest.mark.parametrize("callback", [ReconstructionGrid(1, 4, 2), IntegrandPlot(1, 4)])
def test_pictures_of_held_out_images_need_no_sanity_check(small_model, fit, tmp_path, callback):
    """Nothing has loaded the held-out images before the first picture, validation being due at epoch 10."""
    fit(small_model(), callback, check_val_every_n_epoch=10)
    assert (tmp_path / callback.name / "epoch-0001.png").is_file()


def test_drawing_does_not_change_what_is_learned(small_model, fit):
    """Pictures and alarms draw from streams of their own: weights are the same with and without, bit by bit."""
    weights = []
    for callback in (pl.Callback(), SampleGrid(1, 4, 2), EnergyAlarm(), ReconstructionGrid(1, 4, 2)):
        model = small_model()
        fit(model, callback, num_sanity_val_steps=1)
        weights.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert all(torch.equal(w, weights[0]) for w in weights)


@pytest.mark.parametrize("own", [True, False])
def test_integrand_is_drawn_at_the_temperatures_of_the_objective_if_it_has_any(small_model, fit, tmp_path, own):
    objective = ThermodynamicIntegration("endpoints", PowerLaw(3)) if own else MaximumLikelihood()
    model = small_model(objective=objective, evidence_schedule=PowerLaw(4))
    ladder, seen = model.ladder, []

    def watched(x, schedule, rng):
        seen.append((len(x), schedule, torch.is_autocast_enabled("cpu")))
        return ladder(x, schedule, rng)

    model.ladder = watched
    precision = {"precision": "bf16-mixed" if own else "32-true"}  # the picture's is that of training
    fit(model, IntegrandPlot(1, count=7), num_sanity_val_steps=1, check_val_every_n_epoch=2, **precision)
    assert seen[-1] == (7, PowerLaw(3 if own else 4), own)
    assert pixels(tmp_path / "integrand" / "epoch-0001.png").shape == (420, 960, 3)


@pytest.mark.parametrize("make", [SampleGrid, ReconstructionGrid, IntegrandPlot])
def test_intervals_below_one_are_refused(make):
    with pytest.raises(ValueError, match=f"{make.__name__}: every_n_epochs is -1; it must not be negative"):
        make(every_n_epochs=-1)
