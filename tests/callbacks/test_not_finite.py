"""Values that are not finite, put into each stage of one training step: what is told, and what training does then."""

import copy
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn

from tests.callbacks.test_rollback import equal, tensors
from thermoebm.callbacks import EnergyAlarm
from thermoebm.modules import finiteness
from thermoebm.objectives import MaximumLikelihood, ThermodynamicIntegration
from thermoebm.samplers import MALA, ULA
from thermoebm.schedules import PowerLaw

STEP = 3  # the second of epoch 1, of two batches an epoch; each fault comes in this step, or in all from it on


class Losing(ULA):
    """A kernel whose first chains, of the rungs given, leave the finite numbers while ``on``."""

    on = False

    def __init__(self, lost: int, rungs: slice = slice(None), **arguments: Any) -> None:
        super().__init__(**arguments)
        self.lost, self.rungs = lost, rungs

    def step(self, density: Any, state: Any, noise: Tensor) -> Any:
        state, info = super().step(density, state, noise)
        if not self.on:
            return state, info
        z = state.z.clone()
        (z[self.rungs, : self.lost] if z.dim() == 3 else z[: self.lost]).fill_(float("nan"))
        return state._replace(z=z), info


class Faulty(MaximumLikelihood):
    """Maximum likelihood with one value of its output that is not finite while ``on``."""

    on = False

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def __call__(self, model: Any, x: Tensor, rng: Any, *, step: int | None = 0) -> Any:
        output = super().__call__(model, x, rng, step=step)
        if not self.on:
            return output
        if self.kind == "energy":
            output.diagnostics["energy_prior"] = torch.tensor(float("inf"))
        return output._replace(loss=output.loss * float("nan"))


class Inject(pl.Callback):
    """Switches a fault on in one step, and off after it unless it stays; keeps the model before and after that step."""

    def __init__(self, switch: Any, stays: bool = False, step: int = STEP) -> None:
        self.switch, self.stays, self.step = switch, stays, step
        self.before: list[Tensor] = []
        self.after: list[Tensor] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        on = trainer.global_step == self.step or (self.stays and trainer.global_step > self.step)
        self.switch(pl_module, on)
        if trainer.global_step == self.step:
            self.before = copy.deepcopy(tensors(trainer, pl_module))
            if self.switch is images:
                batch[0, 0, 0, 0] = float("nan")

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if trainer.global_step == self.step + 1:
            self.after = copy.deepcopy(tensors(trainer, pl_module))

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        self.after = self.after or copy.deepcopy(tensors(trainer, pl_module))


def kernels(model: Any, on: bool) -> None:
    model.prior_sampler.on = model.posterior_sampler.on = on


def objective(model: Any, on: bool) -> None:
    model.objective.on = on


def images(model: Any, on: bool) -> None:
    """The callback puts it into the batch."""


def gradient(model: Any, on: bool) -> None:
    if on:
        weight = next(model.generator.parameters())
        hook = weight.register_hook(lambda g: (hook.remove(), torch.full_like(g, 1e30))[1])  # its square is infinite


def weights(model: Any, on: bool) -> None:
    if on:
        model.energy.layers[0].bias.data[3] = float("inf")


PRIOR = {"prior_sampler": Losing(4, step_size=0.1, num_steps=3), "posterior_sampler": ULA(0.01, 2)}
POSTERIOR = {"prior_sampler": ULA(0.1, 3), "posterior_sampler": Losing(5, step_size=0.01, num_steps=2)}
FIRST_RUNG = Losing(6, slice(0, 1), step_size=0.01, num_steps=2)
FAULTS = {
    "images": ({}, images, r"1 of 20 images\.", "other images"),
    "prior": (PRIOR, kernels, r"4 of 20 prior chains\.", "a smaller --model.prior_sampler.step_size"),
    "posterior": (
        POSTERIOR,
        kernels,
        r"5 of 20 posterior chains at t = 1\.",
        "a smaller --model.posterior_sampler.step_size",
    ),
    "rung": (
        {"posterior_sampler": FIRST_RUNG, "objective": ThermodynamicIntegration("contrastive", PowerLaw(4, 1))},
        kernels,
        r"6 of 20 posterior chains at t = 0\.25\.",
        "a smaller --model.posterior_sampler.step_size",
    ),
    "energy": ({"objective": Faulty("energy")}, objective, r"energy_prior\.", "lower learning rates"),
    "loss": ({"objective": Faulty("loss")}, objective, r"the loss\.", "lower learning rates"),
    "gradient": ({}, gradient, r"the gradient of the generator\.", "lower learning rates"),
    "weights": ({}, weights, r"the weights of the energy\.", "lower learning rates"),
}


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
