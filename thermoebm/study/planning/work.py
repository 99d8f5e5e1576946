"""The nominal operations of a study's runs and the time they take, predicted before they run."""

import collections
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from thermoebm.applications.held_out_images import DRAWS
from thermoebm.applications.settings import Settings
from thermoebm.densities import InferredPosterior
from thermoebm.gradients.draws import trainable
from thermoebm.modules import VAE, ImageModel, LatentEBM
from thermoebm.modules.generation import BATCH
from thermoebm.runs.settings import settings
from thermoebm.runtime import cost
from thermoebm.runtime.step_time import Operation, Rates, Trace
from thermoebm.study.planning.definitions import Cell, Run

# Images that are traced; all but the tensors of weights are proportional to their number.
_TRACED = 75
# Numbers of a parameter that a step of Adam reads or writes: itself, its gradient and both moments, read; all but the
# gradient written.
_ADAM = 7


class Amount(NamedTuple):
    """Nominal operations, and the seconds they are predicted to take."""

    flops: float
    seconds: float


class Machine(NamedTuple):
    """How a run is executed.

    Args:
        rates: What the machine does in a second.
        fused: Whether the Langevin steps are compiled.
        half: Whether the generator runs in half precision.
    """

    rates: Rates
    fused: bool = False
    half: bool = False


@dataclass(frozen=True)
class Work:
    """What a run computes.

    Args:
        steps: The number of training steps.
        training: All training steps; the operations as a run on a CPU logs them in ``cost/flops``.
        draws: The gradient draws that the variance is estimated from.
        chains: All other measurements: validation, distances, the evidence at the end.
    """

    steps: int
    training: Amount
    draws: Amount
    chains: Amount

    @property
    def seconds(self) -> float:
        return self.training.seconds + self.draws.seconds + self.chains.seconds


class Part(NamedTuple):
    """Operations for a batch of :data:`_TRACED` images: with chains of one step, and with two steps of either kind."""

    one: list[Operation]
    two_prior: list[Operation]
    two_posterior: list[Operation]

    def amount(self, model: ImageModel, images: int, machine: Machine) -> Any:
        """Operations and seconds, as an array, at the model's chain lengths, in which both are linear."""
        one, prior, posterior = (_amount(operations, images / _TRACED, machine) for operations in self)
        if not isinstance(model, LatentEBM):
            return one
        lengths = model.prior_sampler.num_steps, model.posterior_sampler.num_steps
        return one + (lengths[0] - 1) * (prior - one) + (lengths[1] - 1) * (posterior - one)

    def posterior_step(self, images: int, machine: Machine) -> Any:
        """Operations and seconds of one more step of all posterior chains."""
        one, _, posterior = (_amount(operations, images / _TRACED, machine) for operations in self)
        return posterior - one


def posterior_steps(run: Run) -> float:
    """Langevin steps of one image's posterior chains over all epochs: a run's relative cost, without counting FLOPs."""
    varied = settings(run.config)
    temperatures = 1 + int(varied["num_temperatures"] or 0)
    return float(run.config["trainer"]["max_epochs"] * temperatures * int(varied["posterior_steps"] or 1))


class Counter:
    """Predicts the work of a study's runs, by tracing a step of each kind of model without computing it.

    Args:
        machine: Maps a cell to how its runs are executed.
        evidence: What evaluate.py measures of log p(x), one of ``EVIDENCE``.
    """

    def __init__(self, machine: Callable[[Cell], Machine], evidence: str = "short") -> None:
        self.machine = machine
        self.evidence = evidence
        self._traced: dict[str, Any] = {}
        self._sizes: dict[str, tuple[int, int]] = {}

    def work(self, cell: Cell) -> Work:
        """The work of one run of the cell."""
        config, model = cell.composed.config, cell.composed.model
        train, held_out = self.sizes(cell)
        trainer, variance, fidelity = (config[name] for name in ("trainer", "gradient_variance", "fidelity"))
        batch, epochs = int(config["data"]["init_args"]["batch_size"]), trainer["max_epochs"]
        machine = self.machine(cell)
        steps = epochs * (train // batch)
        gradient = {kind: part.amount(model, batch, machine) for kind, part in self._gradient(cell).items()}
        kinds = collections.Counter(map(model.measures_in, range(steps)))
        training = sum(count * gradient[kind] for kind, count in kinds.items())
        ladder, sample = self._chains(cell)
        draw, evidence = gradient[model.measures_in(None)], ladder.amount(model, batch, machine)
        optimizer = np.array([0.0, steps * adam_seconds(model, machine.rates)])
        limit = trainer["limit_val_batches"]
        validated = min(held_out, limit * batch) if isinstance(limit, int) else held_out
        validations = epochs // (trainer["check_val_every_n_epoch"] or 1)
        draws = variance["num_batches"] * variance["repetitions"] * draw
        samples = fidelity["num_samples"] / BATCH * sample.amount(model, BATCH, machine)
        chains = validations * validated * (draw + evidence) / batch + self._evaluation(cell, held_out, machine)
        return Work(
            steps,
            Amount(*(training + optimizer)),
            Amount(*(draws * (_times(epochs, variance) + 1))),
            Amount(*(samples * (_times(epochs, fidelity) + 1) + chains)),
        )

    def _evaluation(self, cell: Cell, held_out: int, machine: Machine) -> Any:
        """The evidence of held-out images at a run's end; annealed, by all trials: a few fewer if it settles early."""
        if self.evidence == "none":
            return 0.0
        ladder, _ = self._chains(cell)
        model, images = cell.composed.model, min(held_out, Settings.evidence_images)
        work = images / BATCH * ladder.amount(model, BATCH, machine)
        if self.evidence == "annealed" and isinstance(model, LatentEBM):
            settings, rungs = Settings.annealing, len(model.evidence_schedule.temperatures()) - 1
            chains = settings.chains * sum(settings.trials()) / rungs  # ladders that do as many steps
            work = work + images / BATCH * chains * ladder.posterior_step(BATCH, machine)
        if isinstance(model, VAE):
            _, sample = self._chains(cell)
            work = work + images / BATCH * DRAWS * sample.amount(model, BATCH, machine)
            if self.evidence == "annealed":
                step = self._once(trace_annealed_step, cell, _kind(cell)).amount(model, BATCH, machine)
                work = work + images / BATCH * Settings.annealing.chains * sum(Settings.annealing.trials()) * step
        return work

    def sizes(self, cell: Cell) -> tuple[int, int]:
        """The numbers of training and held-out images; the data are read only if the config does not give them."""
        settings = cell.composed.config["data"]["init_args"]
        if settings.get("num_train") and settings.get("num_val"):
            return settings["num_train"], settings["num_val"]
        key = json.dumps(cell.composed.config["data"] | {"init_args": settings | {"batch_size": None}})
        if key not in self._sizes:
            data = cell.composed.data
            self._sizes[key] = len(data.train_images), len(data.held_out_images)
        return self._sizes[key]

    def _gradient(self, cell: Cell) -> dict[bool, Part]:
        return self._once(trace_gradient, cell, _kind(cell))

    def _chains(self, cell: Cell) -> tuple[Part, Part]:
        return self._once(trace_chains, cell, _kind(cell) | {"objective": None})

    def _once(self, trace: Callable[[ImageModel], Any], cell: Cell, kind: dict[str, Any]) -> Any:
        """What a function traces, once for cells of one kind."""
        key = trace.__name__ + json.dumps(kind)
        if key not in self._traced:
            self._traced[key] = trace(cell.composed.model)
        return self._traced[key]


def _kind(cell: Cell) -> dict[str, Any]:
    """The settings of a cell's model without those that change values only: the lengths of its chains, p, η > 0."""
    model = cell.composed.config["model"]
    settings: dict[str, Any] = json.loads(json.dumps(model)).get("init_args", {})
    if "prior_sampler" not in settings:  # no latent EBM
        return settings | {"class_path": model["class_path"]}
    objective = settings["objective"].get("init_args") or {}
    objective.get("schedule", {}).pop("power", None)
    objective["eta"] = bool(objective.get("eta"))
    for name in ("prior_sampler", "posterior_sampler"):
        settings[name].get("init_args", {}).pop("num_steps", None)
    return settings


def trace_gradient(model: ImageModel) -> dict[bool, Part]:
    """A training step's or a draw's gradient, by whether it samples the whole ladder; nothing is computed."""
    twin = without_values(model)
    x, rng = _images(model), torch.Generator()  # draws nothing
    parameters = list(trainable(twin).values())

    def gradient(step: int | None) -> None:
        torch.autograd.grad(twin.loss(x, rng, step), parameters, allow_unused=True)

    kinds = {twin.measures_in(step): step for step in (None, 1, 0)}
    return {kind: _traced(twin, partial(gradient, step)) for kind, step in kinds.items()}


def trace_chains(model: ImageModel) -> tuple[Part, Part]:
    """What is measured of held-out images, and generated samples; nothing is computed.

    Of a latent EBM it is a ladder for the evidence, at the validation's temperatures; else a reconstruction.
    """
    twin = without_values(model)
    x, rng = _images(model), torch.Generator()  # draws nothing

    def measured() -> object:
        return twin.ladder(x, twin.evidence_schedule, rng) if isinstance(twin, LatentEBM) else twin.reconstruct(x, rng)

    ladder = _traced(twin, measured)
    return ladder, _traced(twin, lambda: twin.generate(_TRACED, rng))


def trace_annealed_step(model: ImageModel) -> Part:
    """A step of annealing from the encoder's Gaussian, of one chain for each image; nothing is computed."""
    twin = without_values(model)
    assert isinstance(twin, VAE)
    x = _images(model)
    path = InferredPosterior(twin.posterior(x), twin.reference, twin.likelihood, x, torch.zeros((), device="meta"))
    z = torch.empty(_TRACED, twin.generator.latent_dim, device="meta")
    return _traced(twin, lambda: path.terms(z))


def _images(model: ImageModel) -> Tensor:
    return torch.empty(_TRACED, *model.image_shape, device="meta")


def _traced(twin: ImageModel, compute: Callable[[], object]) -> Part:
    if not isinstance(twin, LatentEBM):
        with Trace() as trace:
            compute()
        return Part(*[trace.operations] * 3)
    lists = []
    for twin.prior_sampler.num_steps, twin.posterior_sampler.num_steps in ((1, 1), (2, 1), (1, 2)):
        with Trace() as trace:
            compute()
        lists.append(trace.operations)
    return Part(*lists)


def adam_seconds(model: ImageModel, rates: Rates) -> float:
    """Seconds of one step of Adam."""
    return _ADAM * sum(p.nbytes for p in trainable(model).values()) / rates.bandwidth


def _amount(operations: list[Operation], times: float, machine: Machine) -> Any:
    """Operations and seconds as an array of two numbers, for so many times as many images as were traced."""
    scaled = [Operation(times * flops, times * moved, *kind) for flops, moved, *kind in operations]
    seconds = machine.rates.seconds(scaled, fused=machine.fused, half=machine.half)
    return np.array([sum(operation.flops for operation in scaled), seconds])


def without_values(model: ImageModel) -> ImageModel:
    """A copy whose tensors have shapes and no values, and which draws none."""
    twin: ImageModel = cost.without_values(model)

    def empty(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
        return torch.empty(shape, device="meta")

    twin._normal = empty  # type: ignore[method-assign]
    if isinstance(twin, LatentEBM):
        twin.chains.compile = "off"
    return twin


def _times(epochs: int, measurement: dict[str, Any]) -> int:
    every, splits = measurement["every_n_epochs"], measurement.get("splits")
    return (epochs // every if every else 0) * (len(splits) if splits else 1)
