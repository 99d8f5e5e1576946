"""Values that are not finite, put into each stage of one training step: what is told, and what training does then."""

import copy
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn

from tests.callbacks.faults import FAULTS, FIRST_RUNG, STEP, Inject, Losing, kernels
from tests.callbacks.test_rollback import equal, tensors
from thermoebm.callbacks import EnergyAlarm
from thermoebm.modules import finiteness
from thermoebm.objectives import ThermodynamicIntegration
from thermoebm.samplers import MALA
from thermoebm.schedules import PowerLaw


@pytest.mark.parametrize("stage", FAULTS)
def test_training_stops_before_the_step_and_names_what_was_not_finite_first(small_model, fit, stage):
    """Nothing has changed since before the step, Adam's moments and averages included."""
    arguments, switch, first, remedy = FAULTS[stage]
    inject = Inject(switch)
    said = rf"^Training met values that are not finite in step 3 of epoch 1: first {first} The step was not made\. "
    with pytest.raises(FloatingPointError, match=said) as ended:
        fit(small_model(**arguments), inject, max_epochs=3)
    assert f"start again with {remedy}, or with --model.on_not_finite reject or rollback." in str(ended.value)
    if stage != "weights":
        assert equal(inject.before, inject.after)


@pytest.mark.parametrize("step", [STEP, STEP + 1])
def test_a_device_is_not_waited_for(small_model, fit, monkeypatch, step):
    """What the device answers is read after the next step was launched, at an epoch's last step at once."""
    read: list[int] = []

    class Event:
        def synchronize(self) -> None:
            read.append(model.global_step)

    monkeypatch.setattr(finiteness, "_copied", lambda refused: (refused, Event()))
    arguments, switch, first, _ = FAULTS["loss"]
    model, inject = small_model(**arguments), Inject(switch, step=step)
    with pytest.raises(FloatingPointError, match=rf"in step {step} of epoch 1: first {first}"):
        fit(model, inject, max_epochs=3, limit_train_batches=3)
    assert read == ([2, 3, 3, 5] if step == STEP else [2, 3, 3, 5, 6])  # after so many steps
    assert equal(inject.before, inject.after)


@pytest.mark.parametrize("stage", ["images", "loss", "gradient"])
def test_a_rejected_step_changes_nothing_and_training_goes_on(small_model, fit, stage):
    arguments, switch, _, _ = FAULTS[stage]
    inject = Inject(switch)
    model = small_model(on_not_finite="reject", average_decay=0.9, **arguments)
    told = r"In epoch 1 1 of 2 steps were not made: no gradient was finite\.$"
    if stage == "images":
        told = r"In epoch 1 1 of 40 posterior chains at t = 1 ended .* replaced by their starts; 1 of 2 steps were not"
    with pytest.warns(UserWarning, match=told):
        trainer = fit(model, inject, max_epochs=3)
    assert equal(inject.before, inject.after)
    assert trainer.global_step == 6
    end = tensors(trainer, model)
    assert all(value.isfinite().all() for value in end)
    assert not equal(inject.after, end)


@pytest.mark.parametrize(
    ("stage", "told"),
    [("prior", "8 of 40 prior chains"), ("posterior", "10 of 40 posterior chains"), ("rung", "12 of 40 .*0.25")],
)
def test_rejected_chains_are_replaced_by_their_starts_and_the_step_is_made(small_model, fit, stage, told):
    arguments, switch, _, _ = FAULTS[stage]
    inject, model = Inject(switch, stays=True, step=2), small_model(on_not_finite="reject", **arguments)
    said = rf"In epoch 1 {told}.* ended in values that are not finite and were replaced by their starts\.$"
    with pytest.warns(UserWarning, match=said):
        trainer = fit(model, inject, max_epochs=2)
    assert not equal(inject.before, tensors(trainer, model))
    which = "prior" if stage == "prior" else "posterior"
    of = {"prior": 4, "posterior": 5, "rung": 6}[stage] / 20
    lost = trainer.callback_metrics[f"train/chains/{which}/lost"]
    assert lost.item() == pytest.approx(of)


def test_the_lost_ends_are_the_starts_exactly(small_model):
    model = small_model(on_not_finite="reject", prior_sampler=Losing(4, step_size=0.1, num_steps=3))
    start, noise = torch.randn(10, 8), torch.randn(3, 10, 8)
    good = model.chains.run_prior(start, noise)
    model.prior_sampler.on = True
    end = model.chains.run_prior(start, noise)
    assert torch.equal(end[:4], start[:4])
    assert torch.equal(end[4:], good[4:])


def test_chains_that_are_only_measured_stop_nothing_but_are_told(small_model, fit):
    """``endpoints`` learns from t = 0 and t = 1 alone; the rung between is for the logged nll."""
    rung = {"posterior_sampler": FIRST_RUNG, "objective": ThermodynamicIntegration("endpoints", PowerLaw(4, 1))}
    with pytest.warns(UserWarning, match=r"In epoch 1 6 of 40 posterior chains at t = 0\.25 ended in .* finite\.$"):
        trainer = fit(small_model(**rung), Inject(kernels), max_epochs=2)
    assert trainer.global_step == 4


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("stage", ["posterior", "gradient"])
def test_a_rollback_goes_back_to_the_last_good_epoch_and_slows_both_networks(
    small_model, fit, monkeypatch, stage, late
):
    if late:  # as on a device, whose answer comes later
        monkeypatch.setattr(finiteness, "_copied", lambda refused: (refused, SimpleNamespace(synchronize=bool)))
    arguments, switch, first, _ = FAULTS[stage]
    inject = Inject(switch)
    model = small_model(on_not_finite="rollback", **arguments)
    kept: list[list[Tensor]] = []

    class Keep(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
            kept.append(copy.deepcopy(tensors(trainer, pl_module)))

    said = rf"step 3 of epoch 1: first {first[:-2]}; training goes on from the end of epoch 0 with 0\.5 times the "
    with pytest.warns(UserWarning, match=said + r"learning rate of the energy and the generator, now .* and .* \(roll"):
        trainer = fit(model, [EnergyAlarm(), Keep(), inject], max_epochs=2)
    before, after = kept  # the fault is in the last step of epoch 1
    assert equal(before, after)
    scales = [group["scale"] for group in trainer.optimizers[0].param_groups]
    assert scales == [0.5, 0.5]


@pytest.mark.parametrize(
    ("policy", "told", "said"),
    [
        (
            "reject",
            "1 of 2 steps were",
            r"None of the 2 steps of epoch 2 was made, since no gradient was finite\. No ch",
        ),
        ("rollback", "goes on from", r"first the loss, after 1 rollback\. No checkpoint was saved: start again with"),
    ],
)
def test_what_stays_broken_ends_training_whatever_the_policy(small_model, fit, recwarn, policy, told, said):
    arguments, switch, _, _ = FAULTS["loss"]
    model, alarm = small_model(on_not_finite=policy, **arguments), EnergyAlarm(max_rollbacks=1)
    with pytest.raises(FloatingPointError, match=said):
        fit(model, [alarm, Inject(switch, stays=True)], max_epochs=4)
    assert any(told in str(warning.message) for warning in recwarn)


def test_a_policy_that_cannot_be_is_refused(small_model, fit):
    with pytest.raises(ValueError, match="on_not_finite is 'ignore'; take stop, reject, rollback"):
        small_model(on_not_finite="ignore")
    with pytest.raises(ValueError, match="no EnergyAlarm with on_runaway rollback would go back; add one, or take"):
        fit(small_model(on_not_finite="rollback"), EnergyAlarm(on_runaway="stop"))


def test_proposals_that_mala_rejects_are_not_lost(small_model):
    """What the kernel rejects itself stays in place: an energy that is infinite beyond a wall."""

    class Wall(nn.Module):
        latent_dim = 8

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, z: Tensor) -> Tensor:
            f = self.scale * z.square().sum(-1) / 8
            return torch.where(z[..., 0] < 1.5, f, float("nan"))

    model = small_model(energy=Wall(), prior_sampler=MALA(0.3, 3))
    start = torch.randn(200, 8, generator=torch.Generator().manual_seed(0)).clamp(max=1.4)
    end = model.chains.run_prior(start, torch.randn(3, 200, 9, generator=torch.Generator().manual_seed(1)))
    rates = model.chains.rates
    assert rates["prior/not_finite"] > 0
    assert rates["prior/lost"] == 0
    assert (end[:, 0] < 1.5).all()
