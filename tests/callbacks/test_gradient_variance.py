"""What the callback logs, and that training does not notice it."""

import csv
import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from thermoebm.callbacks import GradientVariance
from thermoebm.callbacks.gradient_report import bar_chart
from thermoebm.data import Digits
from thermoebm.gradients.statistics import Estimate
from thermoebm.modules import LatentEBM
from thermoebm.networks import ConvGenerator
from thermoebm.objectives import MaximumLikelihood, Output, ThermodynamicIntegration
from thermoebm.optim import DecayedAdam
from thermoebm.runs.loggers import MetricsCSV
from thermoebm.schedules import PowerLaw


class Restless(ConvGenerator):
    """A generator with a running statistic that its output depends on, and noise from torch's own generator."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, z: Tensor) -> Tensor:
        if self.training:
            self.calls = self.calls + 1
        return super().forward(z) * (1 + 1e-3 * self.calls) + 1e-2 * torch.rand(1)


def fit(
    model: LatentEBM, folder: Path, *callbacks: pl.Callback, epochs: int = 2, data: Any = None, **fields: Any
) -> pl.Trainer:
    """Three batches of twenty digits an epoch."""
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        logger=[pl.loggers.TensorBoardLogger(folder, name="", version=""), MetricsCSV(folder)],
        callbacks=list(callbacks),
        enable_model_summary=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
        limit_train_batches=3,
        limit_val_batches=0,
        log_every_n_steps=1,
        **fields,
    )
    trainer.fit(model, datamodule=data or Digits(batch_size=20))
    return trainer


@pytest.mark.parametrize("objective", [MaximumLikelihood(), ThermodynamicIntegration("pathwise", PowerLaw(2))])
def test_training_is_the_same_with_and_without_bit_by_bit(small_model, tmp_path, objective):
    """Weights, gradients, buffers, the optimiser and torch's random state, although the generator depends on all."""
    ends = []
    for callbacks in ([], [GradientVariance(1, 4, 2, 2, splits=["train", "test"])]):
        torch.manual_seed(0)
        model = small_model(generator=Restless(8, (1, 8, 8), 2), objective=objective)
        trainer = fit(model, tmp_path / str(len(callbacks)), *callbacks)
        moments = [v for state in trainer.optimizers[0].state.values() for v in state.values()]
        gradients = [p.grad for p in model.parameters()]
        ends.append([*model.state_dict().values(), *gradients, *moments, torch.get_rng_state()])
    assert ends[0][-1].numel() > 0
    assert len(ends[0]) > 40
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


class Spy(pl.Callback):
    """Keeps every gradient of training as (T, P), energy first."""

    def __init__(self) -> None:
        self.rows: list[np.ndarray] = []

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        self.rows.append(torch.cat([p.grad.flatten() for p in module.parameters()]).double().numpy())


QUANTITIES = ("total", "data", "sampler", "mean_square", "normalised")


@pytest.fixture
def run(small_model, tmp_path) -> tuple[Path, LatentEBM, np.ndarray]:
    """A run of three epochs, measured after the second and the last; its model and all gradients."""
    model, spy = small_model(), Spy()
    fit(model, tmp_path, GradientVariance(2, 4, 2, 2), spy, epochs=3)
    return tmp_path, model, np.stack(spy.rows)


def logged(folder: Path, name: str) -> list[float]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


def test_across_parameters_is_averaged_over_each_epoch(run):
    """The variance and the mean of each training gradient, of each network and of both, recomputed by numpy."""
    folder, model, rows = run
    energy = sum(p.numel() for p in model.energy.parameters())
    for name, columns in (("energy", rows[:, :energy]), ("generator", rows[:, energy:]), ("both", rows)):
        variance = columns.var(1).reshape(3, 3).mean(1)
        np.testing.assert_allclose(logged(folder, f"gradient_variance/across_parameters/{name}"), variance, rtol=1e-5)
        mean = columns.mean(1).reshape(3, 3).mean(1)
        np.testing.assert_allclose(logged(folder, f"gradient_mean/across_parameters/{name}"), mean, rtol=1e-3)


def test_running_noise_scale_is_that_of_the_epochs_consecutive_steps(run):
    """In images: 20 a step; no pair of steps lies across two epochs."""
    folder, _, rows = run
    expected = []
    for g in rows.reshape(3, 3, -1):
        signal, noise = (g[:-1] * g[1:]).sum(1).mean(), ((g[:-1] - g[1:]) ** 2).sum(1).mean() / 2
        expected.append(20 * noise / signal if signal > 0 else math.nan)
    np.testing.assert_allclose(logged(folder, "gradient_variance/running_noise_scale/both"), expected, rtol=1e-4)


def test_per_parameter_is_logged_drawn_and_tabulated(run):
    """Twice, under names that README gives, in CSV and TensorBoard alike; the table has the same numbers."""
    folder, model, _ = run
    tensors = [name for name, _ in model.named_parameters()]
    names = [f"{q}{end}/{net}" for q in QUANTITIES for end in ("", "_se") for net in ("energy", "generator", "both")]
    names += [f"{q}/{tensor}" for q in QUANTITIES[:3] for tensor in tensors]
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0, "images": 0}).Reload()
    with (folder / "gradient_variance" / "epoch-0003.csv").open(newline="") as file:
        table = {row["part"]: row for row in csv.DictReader(file)}
    assert list(table) == ["energy", "generator", "both", *tensors]
    for name in names:
        values = logged(folder, f"gradient_variance/per_parameter/{name}")
        scalars = [event.value for event in events.Scalars(f"gradient_variance/per_parameter/{name}")]
        assert len(values) == 2
        np.testing.assert_allclose(scalars, values, rtol=1e-6)
        column, _, part = name.partition("/")
        np.testing.assert_allclose(float(table[part][column]), values[1], rtol=1e-6)
    assert logged(folder, "gradient_variance/per_parameter/total/both")[0] > 0
    for tensor in tensors:
        assert [h.step for h in events.Histograms(f"gradient_variance/{tensor}")] == [6, 9]
    assert [image.step for image in events.Images("Overview/gradient_variance")] == [6, 9]
    assert sorted(p.name for p in (folder / "gradient_variance").glob("*.png")) == ["epoch-0002.png", "epoch-0003.png"]


def test_bars_are_the_estimates_also_where_one_is_negative_or_all_are_zero():
    estimates = [
        {"data": Estimate(v, 0.1, 7), "sampler": Estimate(2 * v, 0.2, 7), "total": Estimate(3 * v, 0.3, 7)}
        for v in (-1, 4)
    ]
    report = dict(zip(("energy.a", "generator.b"), estimates, strict=True)) | {"both": estimates[1]}
    (axes,) = bar_chart(report, ("energy.a", "generator.b"), 7).axes
    assert [bar.get_width() for bar in axes.patches] == [-1, 4, -2, 8]
    np.testing.assert_allclose([bar.get_y() + bar.get_height() / 2 for bar in axes.patches], [-0.2, 0.8, 0.2, 1.2])
    assert axes.get_xscale() == "log"
    assert "Epoch 7: total 12 ± 0.7 over both networks (95 %)" in axes.get_title()
    zero = {"data": Estimate(0, 0, 7), "sampler": Estimate(0, 0, 7), "total": Estimate(0, 0, 7)}
    (axes,) = bar_chart({"energy.a": zero, "both": zero}, ("energy.a",), 1).axes
    assert axes.get_xscale() == "linear"


def test_a_frozen_network_is_left_out(small_model, tmp_path):
    model = small_model()
    model.energy.requires_grad_(False)
    fit(model, tmp_path, GradientVariance(1, 4, 2, 2), epochs=1)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        names = next(csv.reader(file))
    assert "gradient_variance/per_parameter/total/generator" in names
    assert not [name for name in names if name.startswith("gradient_") and "energy" in name]


def test_each_measurement_has_draws_of_its_own(small_model, tmp_path):
    """Nothing is learned at this rate, yet the second epoch's figure is another one."""
    still = DecayedAdam(1e-15, 1e-15)
    fit(small_model(energy_optimizer=still, generator_optimizer=still), tmp_path, GradientVariance(1, 4, 2, 2))
    first, second = logged(tmp_path, "gradient_variance/per_parameter/total/both")
    assert first != second


class Listening(MaximumLikelihood):
    """Keeps whether autocast was on."""

    def __init__(self) -> None:
        self.autocast: list[bool] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Output:
        self.autocast.append(torch.is_autocast_enabled("cpu"))
        return super().__call__(*args, **kwargs)


def test_gradients_are_measured_in_the_precision_of_training(small_model, tmp_path):
    """Three steps and eight draws, all of them under autocast."""
    objective = Listening()
    fit(small_model(objective=objective), tmp_path, GradientVariance(1, 4, 2, 2), epochs=1, precision="bf16-mixed")
    assert objective.autocast == [True] * 11


def test_an_epoch_without_steps_logs_nothing():
    """Lightning ends the finished epoch of a checkpoint once more when a run is resumed."""
    nothing: Any = None
    GradientVariance(1).on_train_epoch_end(nothing, nothing)


class Break(pl.Callback):
    """Interrupts a fit in the middle of its second epoch."""

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == 5:
            raise InterruptedError


def test_an_interrupted_epoch_leaves_nothing_for_the_next_fit(small_model, tmp_path):
    """The callback that saw it and a new one log the same."""
    used = GradientVariance(1, 4, 2, 2)
    with pytest.raises(InterruptedError):
        fit(small_model(), tmp_path / "broken", used, Break())
    tables = []
    for name, callback in (("used", used), ("new", GradientVariance(1, 4, 2, 2))):
        fit(small_model(), tmp_path / name, callback)
        tables.append((tmp_path / name / "metrics.csv").read_text())
    assert tables[0] == tables[1]


def test_settings_that_measure_nothing_are_refused():
    with pytest.raises(ValueError, match="every_n_epochs is -1"):
        GradientVariance(every_n_epochs=-1)
    with pytest.raises(ValueError, match="num_batches is 10"):
        GradientVariance(num_batches=10, blocks=4)
    with pytest.raises(ValueError, match="GradientVariance: splits is \\['val'\\]"):
        GradientVariance(splits=["val"])
