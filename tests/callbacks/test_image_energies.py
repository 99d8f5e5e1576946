"""Energies of images as a picture, interpolations, and callbacks that measure one kind of model only."""

import json
import re
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from tests.cli.test_train import SHORT, assert_fault
from tests.modules.triangle import model_of
from thermoebm.callbacks import EnergyAlarm, EnergyHistogram, IntegrandPlot, InterpolationGrid, TriangleAlarm
from thermoebm.callbacks.image_energies import area_under_roc, energies_of, energy_figure
from thermoebm.callbacks.pictures import image_grid
from thermoebm.modules import VAE, DivergenceTriangle

KINDS = ["held-out images", "samples", "means of two", "shuffled pixels", "turned by 90 degrees", "uniform noise"]


def images(count=520):
    """As many as need more than two blocks of the energy."""
    return torch.tanh(torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(1)))


# Measures


@pytest.mark.parametrize(("levels", "shift"), [(4, 0), (4, 1), (1, 0), (1000, 40)])
def test_the_area_is_scikit_learns(levels, shift):
    """With many ties, with nothing but ties, and with hardly any; and 1 less if the two change places."""
    rng = torch.Generator().manual_seed(levels)
    larger, smaller = (torch.randint(levels, (n,), generator=rng).float() for n in (70, 50))
    larger = larger + shift
    expected = roc_auc_score([1] * 70 + [0] * 50, torch.cat([larger, smaller]).numpy())
    assert area_under_roc(larger, smaller) == pytest.approx(expected, abs=1e-12)
    assert area_under_roc(smaller, larger) == pytest.approx(1 - expected, abs=1e-12)


def test_an_area_of_large_energies_does_not_round_them():
    """A difference of 1 at 2 to the 24, where float32 has a step of 2."""
    large = torch.tensor([2.0**24])
    assert area_under_roc(large.double() + 1, large) == 1.0


@pytest.fixture
def kinds(monkeypatch):
    """The images of each kind, as the energy is given them, and the model's answers to them."""
    model, x, seen = model_of(DivergenceTriangle), images(), []
    energies = DivergenceTriangle.energies
    monkeypatch.setattr(DivergenceTriangle, "energies", lambda self, part: seen.append(part) or energies(self, part))
    found = energies_of(model, x, torch.Generator().manual_seed(0))
    per_kind = len(seen) // len(found)
    given = [torch.cat(seen[i : i + per_kind]) for i in range(0, len(seen), per_kind)]
    return model, x, found, dict(zip(found, given, strict=True))


def test_each_kind_has_as_many_energies_as_there_are_images(kinds):
    model, _, found, given = kinds
    assert [*found] == KINDS
    for name, values in found.items():
        assert values.shape == (520,)
        torch.testing.assert_close(values, model.energy(given[name]).detach())
    assert max(map(len, given["samples"].split(250))) == 250


def test_shuffled_images_have_the_pixels_of_their_own_image(kinds):
    """Each all of them, in an order of its own; sums of pixels stay."""
    _, x, _, given = kinds
    shuffled, original = given["shuffled pixels"].flatten(1), x.flatten(1)
    assert torch.equal(shuffled.sort(1).values, original.sort(1).values)
    torch.testing.assert_close(shuffled.sum(1), original.sum(1))
    assert (shuffled != original).double().mean() > 0.9
    orders = [original[i].argsort()[shuffled[i].argsort().argsort()] for i in (0, 1)]
    assert not torch.equal(*orders)


def test_other_kinds_are_what_they_are_called(kinds):
    """Samples, means of two different images, and even noise from -1 to 1: 33,280 numbers of variance 1/3."""
    model, x, _, given = kinds
    torch.rand(520, 64, generator=(rng := torch.Generator().manual_seed(0)))  # the order of the pixels
    assert torch.equal(given["samples"], torch.cat([model.generate(count, rng) for count in (250, 250, 20)]))
    assert torch.equal(given["turned by 90 degrees"][0, 0, 0], x[0, 0, :, -1])  # the last column is the first row
    assert torch.equal(given["held-out images"], x)
    assert torch.equal(given["means of two"][1:], (x[1:] + x[:-1]) / 2)
    noise = given["uniform noise"]
    assert noise.abs().max() <= 1
    assert abs(noise.mean()) < 4 * (1 / 3 / noise.numel()) ** 0.5
    assert noise.var() == pytest.approx(1 / 3, abs=4 * (4 / 45 / noise.numel()) ** 0.5)


def test_the_legend_has_the_area_of_each_kind_against_the_real_images():
    energies = {"real": torch.arange(100.0), "lower": torch.arange(100.0) - 200, "same": torch.arange(100.0)}
    (axes,) = energy_figure(energies, "epoch 3").axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "real",
        "lower: AUROC 1.00",
        "same: AUROC 0.50",
    ]
    assert axes.get_title() == "Energies of images, epoch 3"


# Pictures


def test_pictures_are_of_the_averaged_weights_and_the_held_out_images(fit, tmp_path, monkeypatch):
    """A row has a held-out image at either end; networks are left with their own weights."""
    model = model_of(DivergenceTriangle, average_decay=0.9)
    grids, at = [], []
    monkeypatch.setattr("thermoebm.callbacks.grids.image_grid", lambda x, c: grids.append((x, c)) or image_grid(x, c))
    interpolate = DivergenceTriangle.interpolate

    def noted(self, x, y, steps):
        at.append([p.detach().clone() for p in self.weights()])
        return interpolate(self, x, y, steps)

    monkeypatch.setattr(DivergenceTriangle, "interpolate", noted)
    trainer = fit(model, [InterpolationGrid(1, count=3, steps=4), EnergyHistogram(1, count=30)])
    assert {path.parent.name for path in tmp_path.rglob("epoch-0001.png")} == {"interpolations", "energies"}
    ((rows, columns),) = grids
    x = next(iter(trainer.datamodule.val_dataloader()))
    rows = rows.unflatten(0, (3, columns))
    assert columns == 6
    assert torch.equal(rows[:, 0], x[:3])
    assert torch.equal(rows[:, -1], x[3:6])
    own = [p.detach() for p in model.weights()]
    assert not any(map(torch.equal, at[0], own))
    with model.averaged_weights():
        assert all(map(torch.equal, at[0], [p.detach() for p in model.weights()]))
        torch.testing.assert_close(rows[:, 1:-1], model.interpolate(x[:3], x[3:6], 4))


@pytest.mark.parametrize("made", [lambda: EnergyHistogram(count=0), lambda: InterpolationGrid(steps=0)])
def test_impossible_settings(made):
    with pytest.raises(ValueError, match="is 0; it must be at least 1"):
        made()


# Callbacks of one kind

REFUSED = [
    (IntegrandPlot, "the chains of a LatentEBM", VAE),
    (EnergyHistogram, "the energy of images", VAE),
    (InterpolationGrid, "latents of an encoder", None),
    (EnergyAlarm, "the chains of a LatentEBM", VAE),
    (TriangleAlarm, "latents of an encoder", None),
]


@pytest.mark.parametrize(("kind", "measures", "of"), REFUSED)
def test_a_model_of_another_kind_is_refused_in_python(fit, small_model, tmp_path, kind, measures, of):
    model = model_of(of) if of else small_model()
    told = (
        f"{kind.__name__} measures {measures}, and the model is a {type(model).__name__}; leave it out of "
        "trainer.callbacks."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        fit(model, kind())
    assert not [*tmp_path.rglob("*.png")]


@pytest.mark.parametrize(("kind", "measures", "of"), REFUSED[:3])
def test_and_on_the_command_line_before_anything_is_written(capsys, tmp_path, kind, measures, of):
    arguments: list[Any] = ["fit", *SHORT]
    if of:
        made = {"generator": {"class_path": "thermoebm.networks.ConvGenerator", "init_args": GENERATOR}}
        model = {"class_path": f"thermoebm.modules.{of.__name__}", "init_args": made}
        arguments = ["fit", *SHORT[:6], "--model", json.dumps(model)]
    callbacks = json.dumps([{"class_path": f"thermoebm.callbacks.{kind.__name__}"}])
    said = f"{kind.__name__} measures {measures}, and the model is a {of.__name__ if of else 'LatentEBM'}; leave it out"
    assert_fault(capsys, tmp_path / "runs", said, *arguments, "--trainer.callbacks", callbacks)


GENERATOR = {"latent_dim": 6, "image_shape": [1, 8, 8], "features": 2}


def test_a_histogram_is_written_of_energies_that_are_all_the_same():
    """As of a fresh energy that is constant."""
    figure = energy_figure({"real": torch.zeros(20), "samples": torch.zeros(20)}, "epoch 1")
    assert np.isfinite(figure.axes[0].get_xlim()).all()
