"""The nominal operations of a study's runs, counted before they run."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities.seed import isolate_rng

from thermoebm.callbacks.cost import count_flops, of_whole_chains
from thermoebm.gradients.draws import draw_gradient
from thermoebm.modules import LatentEBM
from thermoebm.runs.settings import settings
from thermoebm.runtime.cost import Flops
from thermoebm.study.planning.definitions import Cell, Run

# Images in the batch that operations are counted on; the count is proportional to the batch size.
_COUNTED = 2


class PerImage(NamedTuple):
    """Nominal operations per image."""

    plain: float  # a training step that does not sample the whole ladder of temperatures
    whole: float  # a training step that does
    draw: float  # one draw of the gradient
    ladder: float  # a ladder for the evidence, at the validation's temperatures
    sample: float  # one generated sample


@dataclass(frozen=True)
class Work:
    """Nominal operations of a run.

    Args:
        steps: The number of training steps.
        training: Operations of all training steps, as a run logs them in ``cost/flops``.
        draws: Operations of the gradient draws that the variance is estimated from.
        chains: Operations of all other measurements: validation, distances, the evaluation at the end.
    """

    steps: int
    training: float
    draws: float
    chains: float

    @property
    def total(self) -> float:
        return self.training + self.draws + self.chains


def posterior_steps(run: Run) -> float:
    """Langevin steps of one image's posterior chains over all epochs: a run's relative cost, without counting FLOPs."""
    varied = settings(run.config)
    temperatures = 1 + int(varied["num_temperatures"] or 0)
    return float(run.config["trainer"]["max_epochs"] * temperatures * int(varied["posterior_steps"] or 1))


class Counter:
    """Counts the operations of a study's runs by running, for each kind of model, a step on a few images."""

    def __init__(self) -> None:
        self._per_image: dict[str, PerImage] = {}
        self._sizes: dict[str, tuple[int, int]] = {}

    def work(self, cell: Cell) -> Work:
        """Operations of one run of the cell."""
        config = cell.composed.config
        train, held_out = self.sizes(cell)
        each = self.per_image(cell)
        trainer, variance, fidelity = (config[name] for name in ("trainer", "gradient_variance", "fidelity"))
        batch, epochs = int(config["data"]["init_args"]["batch_size"]), trainer["max_epochs"]
        steps = epochs * (train // batch)
        ladders = sum(map(cell.composed.model.objective.whole_ladder, range(steps)))
        limit = trainer["limit_val_batches"]
        validated = min(held_out, limit * batch) if isinstance(limit, int) else held_out
        validations = epochs // (trainer["check_val_every_n_epoch"] or 1)
        draw = variance["num_batches"] * variance["repetitions"] * batch * each.draw
        samples = fidelity["num_samples"] * each.sample
        chains = validations * validated * (each.draw + each.ladder) + held_out * each.ladder  # last term: at the end
        return Work(
            steps,
            batch * (ladders * each.whole + (steps - ladders) * each.plain),
            draw * (_times(epochs, variance) + 1),
            samples * (_times(epochs, fidelity) + 1) + chains,
        )

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

    def per_image(self, cell: Cell) -> PerImage:
        """Operations per image, counted once for cells whose models differ only in p and the value of a non-zero η."""
        key = _kind(cell.composed.config["model"])
        if key not in self._per_image:
            self._per_image[key] = _count(cell.composed.model)
        return self._per_image[key]


def _kind(model: dict[str, Any]) -> str:
    settings: dict[str, Any] = json.loads(json.dumps(model))
    objective = settings["init_args"]["objective"].get("init_args") or {}
    objective.get("schedule", {}).pop("power", None)
    objective["eta"] = bool(objective.get("eta"))
    return json.dumps(settings)


def _count(model: LatentEBM) -> PerImage:
    x = torch.zeros(_COUNTED, *model.generator.image_shape)
    rng = model.stream("plan")
    kinds = {model.objective.whole_ladder(step): step for step in (1, 0)}
    steps = {kind: count_flops(model, x, step) for kind, step in kinds.items()}

    def counted(compute: Callable[[], object]) -> int:
        with isolate_rng(), torch.compiler.set_stance("force_eager"), Flops() as flops:
            compute()
        return flops.total

    others = (
        lambda: draw_gradient(model.loss, model, x, rng),
        lambda: model.ladder(x, model.evidence_schedule, rng),
        lambda: model.generate(_COUNTED, rng),
    )
    plain, whole = steps.get(False, steps.get(True, 0)), steps.get(True, 0)
    counts = [plain, whole, *(of_whole_chains(model, partial(counted, compute)) for compute in others)]
    return PerImage(*(count / _COUNTED for count in counts))


def _times(epochs: int, measurement: dict[str, Any]) -> int:
    every, splits = measurement["every_n_epochs"], measurement.get("splits")
    return (epochs // every if every else 0) * (len(splits) if splits else 1)
