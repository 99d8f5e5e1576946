"""The nominal operations of a study's runs and the time they take, predicted before they run."""

import collections
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from thermoebm.applications.held_out_images import DRAWS
from thermoebm.applications.settings import Settings
from thermoebm.modules import VAE, ImageModel, LatentEBM
from thermoebm.modules.generation import BATCH
from thermoebm.runs.settings import settings
from thermoebm.study.planning.definitions import Cell, Run
from thermoebm.study.planning.traces import (
    Machine,
    Part,
    adam_seconds,
    trace_annealed_step,
    trace_chains,
    trace_gradient,
)


class Amount(NamedTuple):
    """Nominal operations, and the seconds they are predicted to take."""

    flops: float
    seconds: float


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


def _times(epochs: int, measurement: dict[str, Any]) -> int:
    every, splits = measurement["every_n_epochs"], measurement.get("splits")
    return (epochs // every if every else 0) * (len(splits) if splits else 1)
