"""Values that are not finite, for each stage of a training step."""

import copy
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from tests.callbacks.test_rollback import tensors
from thermoebm.objectives import MaximumLikelihood, ThermodynamicIntegration
from thermoebm.samplers import ULA
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
