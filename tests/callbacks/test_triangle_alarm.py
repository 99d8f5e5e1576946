"""The alarm for a divergence triangle that diverges or collapses; test_rollback.py has what going back restores."""

import inspect
import math
import re
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from tests.modules.triangle import model_of
from thermoebm.callbacks import EnergyAlarm, TriangleAlarm, triangle_alarm
from thermoebm.callbacks.vitals import Vitals
from thermoebm.modules import VAE, DivergenceTriangle
from thermoebm.networks import ImageEnergy

NAMES = {f"triangle/{name}" for name in ("energy_gap", "mean_square", "active_latents", "rollbacks")}


class Brightness(ImageEnergy):
    """f(x) = s Σ x + 5 over the pixels."""

    def __init__(self, slope):
        super().__init__()
        self.image_shape, self.slope = (1, 8, 8), torch.nn.Parameter(torch.tensor(slope))

    def forward(self, x):
        return self.slope * x.flatten(1).sum(-1) + 5


def alone(model, x, **fields):
    """The vitals of images, and the alarm, of one process."""
    alarm = TriangleAlarm(**fields)
    alarm._images = x
    strategy = SimpleNamespace(reduce=lambda t, reduce_op: t)
    trainer: Any = SimpleNamespace(strategy=strategy, current_epoch=0, global_step=triangle_alarm.LEAST_STEPS)
    return alarm.measure(trainer, model), alarm


def images(count=400):
    return torch.tanh(torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(1)))


def with_encoder(model, mean, log_variance):
    """The same model, whose encoder returns latents (N, d) that are made of images."""
    model.encoder.forward = lambda x: (mean(x), log_variance(x))
    return model


def test_the_gap_is_that_of_real_and_generated_images():
    """In nats; a constant of f cancels. Generated images are drawn from a stream of the alarm's own."""
    x, model = images(), model_of(DivergenceTriangle, energy=Brightness(0.3))
    vitals, alarm = alone(model, x)
    rng = model.stream("triangle alarm")
    torch.randn(len(x), 6, generator=rng)
    made = model.generate(len(x), rng)
    sums = [0.3 * part.flatten(1).sum(-1) for part in (x, made)]
    assert vitals.tilt == pytest.approx((sums[0].mean() - sums[1].mean()).item(), rel=1e-4)
    error = math.sqrt(sum(part.var(correction=0).item() for part in sums) / len(x))
    assert vitals.tilt_error == pytest.approx(error, rel=1e-4)
    assert alarm.scalars(vitals)["triangle/energy_gap"] == vitals.tilt


@pytest.mark.parametrize("kind", [VAE, DivergenceTriangle])
def test_the_mean_square_is_that_of_the_encoders_latents(kind):
    """|z|²/(d σ0²) of z ~ N(2, 0.5²) with σ0 = 2: (4 + 0.25)/4, within four errors of 2,400 latents."""
    model = with_encoder(
        model_of(kind, prior_sigma=2.0),
        lambda x: torch.full((len(x), 6), 2.0),
        lambda x: torch.full((len(x), 6), math.log(0.25)),
    )
    with pytest.warns(UserWarning, match="collapsed"):  # its means are constant
        vitals, _ = alone(model, images())
    assert vitals.mean_square == pytest.approx(4.25 / 4, abs=4 * 2 * 2 * 0.5 / 4 / math.sqrt(2400))


def test_a_vae_has_no_gap():
    vitals, _ = alone(model_of(VAE), images())
    assert (vitals.tilt, vitals.tilt_error) == (0, 0)
    assert TriangleAlarm().fault(vitals) is None


def test_latents_are_active_whose_mean_varies_with_the_image():
    """By a variance above .01: here 2 of 6, one of the others varies by .0081."""
    factors = torch.tensor([1.0, 0.0, 0.2, 0.09, 0.0, 0.0])
    z = torch.randn(400, 1, generator=torch.Generator().manual_seed(0))
    z = (z - z.mean()) / z.std()
    model = with_encoder(model_of(VAE), lambda x: factors * z + 3, lambda x: torch.zeros(len(x), 6))
    vitals, alarm = alone(model, images())
    assert alarm.scalars(vitals)["triangle/active_latents"] == 2


@pytest.mark.parametrize("kind", [VAE, DivergenceTriangle])
def test_of_one_image_it_is_not_known_whether_the_encoder_has_collapsed(kind):
    vitals, alarm = alone(model_of(kind), images(1))  # a warning would be an error
    assert alarm.fault(vitals) is None


def test_parameters_that_are_not_finite_are_seen():
    model = model_of(DivergenceTriangle)
    next(model.encoder.parameters()).data.flatten()[0] = math.nan
    vitals, alarm = alone(model, images())
    assert vitals.broken == 1
    assert alarm.fault(vitals).startswith("parameters are not finite")


@pytest.mark.parametrize(
    ("vitals", "said"),
    [
        (Vitals(100, 1, 4, 0), None),
        (Vitals(-100, 1, 0.25, 0), None),  # the energy of generated images may be the larger one
        (Vitals(101, 1, 1, 0), r"E_data\[f\] - E_generated\[f\] is 101 nats \(limit ±100\)"),
        (Vitals(-101, 1, 1, 0), r"E_data\[f\] - E_generated\[f\] is -101 nats \(limit ±100\)"),
        (Vitals(math.nan, 1, 1, 0), r"E_data\[f\] - E_generated\[f\] is nan nats .*"),
        (Vitals(0, 1, 40, 0), None),  # the encoder's latents have no limit: its KL term pulls them back
        (Vitals(0, 1, 1, 0.5), "parameters are not finite"),
        (Vitals(math.inf, 1, math.inf, 1), r"parameters are not finite and .* is inf nats \(.*"),
    ],
)
def test_limits_are_kept_from_both_sides(vitals, said):
    fault = TriangleAlarm().fault(vitals)
    assert fault is None if said is None else re.fullmatch(said, fault)


def test_an_alarm_like_another_one_has_all_its_settings():
    """Each set to another value than the default's; a setting that is added later has to be added here."""
    settings = {
        "on_runaway": "warn",
        "max_rollbacks": 7,
        "factor": 0.25,
        "count": 12,
        "largest_tilt": 3.0,
        "largest_mean_square": 9.0,
        "least_acceptance": 0.1,
    }
    assert settings.keys() == inspect.signature(EnergyAlarm).parameters.keys()
    made = TriangleAlarm.like(EnergyAlarm(**settings))
    assert type(made) is TriangleAlarm
    assert {name: getattr(made, name) for name in settings} == settings


# In training


def test_a_healthy_epoch_is_logged_under_four_names(fit):
    model = model_of(DivergenceTriangle)
    metrics = fit(model, TriangleAlarm()).callback_metrics
    assert {name for name in metrics if name.startswith("triangle/")} == NAMES
    assert metrics["triangle/rollbacks"] == 0


def test_the_last_batch_of_the_epoch_is_judged(fit):
    """Not the first one, nor images that are read again."""
    alarm, seen = TriangleAlarm(), []
    alarm.measure = lambda trainer, model: seen.append(alarm._images) or Vitals(0, 0, 1, 0)

    class Batches(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.last = batch

    fit(model_of(VAE), [alarm, batches := Batches()])
    assert torch.equal(seen[0], batches.last)
    assert alarm._images is None


def test_a_collapsed_encoder_is_told_once_and_training_goes_on(fit, monkeypatch):
    """It ignores its image: no latent's mean varies. That is judged after some steps, here those of two epochs."""
    monkeypatch.setattr(triangle_alarm, "LEAST_STEPS", 4)
    model = with_encoder(model_of(VAE), lambda x: torch.zeros(len(x), 6), lambda x: torch.zeros(len(x), 6))
    with pytest.warns(UserWarning, match="collapsed") as seen:
        trainer = fit(model, alarm := TriangleAlarm(), max_epochs=4)
    told = [str(w.message) for w in seen if "collapsed" in str(w.message)]
    assert told == [
        "The encoder has collapsed onto the prior in epoch 1: no latent depends on the image. Start again with a "
        "smaller --model.likelihood_sigma or a lower --model.encoder_optimizer.learning_rate."
    ]
    assert (trainer.current_epoch, alarm.rollbacks, trainer.callback_metrics["triangle/active_latents"]) == (4, 0, 0)


class Diverge(pl.Callback):
    """Makes the energy steep after the last step of epoch 1; keeps the parameters at each epoch's end."""

    def __init__(self):
        self.ends = []

    def on_train_batch_end(self, trainer, pl_module, *_):
        if trainer.current_epoch == 1 and trainer.is_last_batch:
            pl_module.energy.slope.data.fill_(1e4)
            pl_module.generator.layers[0].bias.data.add_(1)

    def on_train_epoch_end(self, trainer, pl_module):
        self.ends.append([p.detach().clone() for p in pl_module.parameters()])


def test_a_diverging_energy_goes_back_and_only_it_learns_more_slowly(fit):
    """To the end of epoch 0, bit for bit; the other networks keep their rates."""
    model = model_of(DivergenceTriangle, energy=Brightness(0.01))
    with pytest.warns(UserWarning, match="ran away") as seen:
        trainer = fit(model, [alarm := TriangleAlarm(), diverge := Diverge()], max_epochs=3)
    (told,) = (str(w.message) for w in seen if "ran away" in str(w.message))
    assert re.fullmatch(
        r"Training ran away in epoch 1: E_data\[f\] - E_generated\[f\] is -?\d\S* nats \(limit ±100\); training goes "
        r"on from the end of epoch 0 with 0\.5 times the learning rate of the energy, now 5e-05 \(rollback 1 of 3\)\.",
        told,
    )
    assert alarm.state_dict() == {"rollbacks": 1, "healthy_epoch": 2, "trusted": True}
    assert all(map(torch.equal, diverge.ends[0], diverge.ends[1]))
    assert not any(map(torch.equal, diverge.ends[1], diverge.ends[2]))
    rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
    expected = [settings.factor(3) * settings.learning_rate for _, settings in model.optimizer_settings]
    assert rates == pytest.approx([expected[0] / 2, *expected[1:]], rel=1e-12)
    assert trainer.callback_metrics["triangle/rollbacks"] == 1


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (
            DivergenceTriangle,
            "with a larger --model.terms.energy_penalty or a lower --model.energy_optimizer.learning_",
        ),
        (VAE, "with lower learning rates."),
    ],
)
def test_the_end_of_a_training_names_the_remedy_of_its_model(fit, kind, said):
    """Here of parameters that are not finite at an epoch's end."""

    class Break(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            if trainer.is_last_batch:
                next(pl_module.generator.parameters()).data.fill_(math.nan)

    told = rf"^Training ran away in epoch 0: parameters are .*No checkpoint was saved: start again {re.escape(said)}"
    with pytest.raises(FloatingPointError, match=told):
        fit(model_of(kind), [TriangleAlarm("stop"), Break()])
