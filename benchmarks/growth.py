"""How time and memory grow with N_t, K, B, features and image size: exponents of fitted power laws."""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.measure import Group, Settings, interleave
from benchmarks.memory import peak
from benchmarks.models import OBJECTIVES, GivenNoise, Networks, build, images, objective
from thermoebm.modules import LatentEBM
from thermoebm.objectives import Objective


@dataclass(frozen=True)
class Size:
    """The sizes that are varied."""

    temperatures: int
    steps: int
    batch: int
    features: int
    image_size: int

    @property
    def networks(self) -> Networks:
        return Networks(100, (3, self.image_size, self.image_size), self.features)


SYMBOLS = {"temperatures": "N_t", "steps": "K", "batch": "B", "features": "features", "image_size": "image size"}
# Each axis is doubled from its size here while the others stay; on a CPU this is at most four seconds of work.
BASES = {"quick": Size(2, 2, 2, 1, 8), "cpu": Size(4, 4, 75, 8, 16), "cuda": Size(5, 10, 75, 32, 32)}
# Exponents that follow from the arithmetic. All others depend on the hardware and the architecture.
DEMANDED = {("time", "temperatures"): 1.0, ("time", "steps"): 1.0}
WITHIN = 0.1


def exponent(sizes: list[float], values: list[float]) -> tuple[float, float]:
    """b of value = a · size^b by least squares on logarithms, and its standard error from the residuals."""
    x, y = np.log(sizes), np.log(values)
    x = x - x.mean()
    slope = float(x @ y / (x @ x))
    residual = y - y.mean() - slope * x
    return slope, math.sqrt(float(residual @ residual) / (len(x) - 2) / float(x @ x))


def growth(settings: Settings) -> Iterator[Group]:
    """Time of posterior chains, and memory of one loss with its gradient for each objective and estimator."""
    base = BASES["quick" if settings.quick else settings.device.type]
    yield Group("growth", "time of posterior chains", vars(base), [_time(base, axis, settings) for axis in SYMBOLS])
    for name in ("endpoints", "pathwise") if settings.quick else OBJECTIVES:
        rows = [
            _memory(base, axis, name, settings, given)
            for axis in (("steps",) if settings.quick else SYMBOLS)
            if name != "MaximumLikelihood" or axis != "temperatures"
            for given in ((False, True) if axis == "steps" else (False,))
        ]
        yield Group("growth", f"peak memory of one loss and its gradient, {name}", vars(base), rows)


def _along(base: Size, axis: str, points: int) -> dict[int, Size]:
    first = getattr(base, axis)
    return {first * 2**i: replace(base, **{axis: first * 2**i}) for i in range(points)}


def _row(quantity: str, axis: str, found: dict[Any, float], demanded: float | None) -> dict[str, Any]:
    slope, error = exponent([float(size) for size in found], list(found.values()))
    row: dict[str, Any] = {
        "quantity": quantity,
        "axis": SYMBOLS[axis],
        "sizes": list(found),
        "values": list(found.values()),
    }
    row |= {"exponent": slope, "standard_error": error}
    return row if demanded is None else row | {"demanded": demanded, "as_demanded": abs(slope - demanded) <= WITHIN}


def _time(base: Size, axis: str, settings: Settings) -> dict[str, Any]:
    """Times chains of all sizes in turn, uncompiled, since each size would need its own compilation."""
    # Image sizes end at 128, and each doubling adds a layer.
    sizes = _along(base, axis, 3 if axis == "image_size" else 4)
    contestants: dict[Any, Callable[[], Tensor]] = {}
    for number, size in sizes.items():
        model, x = _model(size, settings, GivenNoise, None)
        temperatures = x.new_tensor([(i + 1) / size.temperatures for i in range(size.temperatures)])
        contestants[number] = partial(_chains, model, x, temperatures)
    timings = interleave(contestants, settings.device, settings.effort)
    found = {number: timing.per(1).median for number, timing in timings.items()}
    return _row("seconds", axis, found, DEMANDED.get(("time", axis)))


def _chains(model: LatentEBM, x: Tensor, temperatures: Tensor) -> Tensor:
    return model.sample_posterior(x, temperatures, model.stream("benchmark"))


def _memory(base: Size, axis: str, name: str, settings: Settings, given: bool) -> dict[str, Any]:
    """Peak memory with the noise of the chains, K x N_t x B x d numbers drawn at once; if ``given``, without it."""
    found = {}
    for number, size in _along(base, axis, 3).items():
        model, x = _model(size, settings, GivenNoise if given else LatentEBM, objective(name, size.temperatures))
        loss = partial(_gradient, model, x)
        loss()  # draws the given noise, and lets libraries allocate what they keep
        model.zero_grad()
        found[number] = float(peak(loss, settings.device))
    demanded = 0.0 if axis == "steps" and given and name != "pathwise" else None
    return _row("bytes beyond the noise" if given else "bytes", axis, found, demanded)


def _gradient(model: LatentEBM, x: Tensor) -> None:
    model.objective(model, x, model.stream("benchmark")).loss.backward()


def _model(
    size: Size, settings: Settings, kind: type[LatentEBM], learned: Objective | None
) -> tuple[LatentEBM, Tensor]:
    model = build(size.networks, settings.device, kind=kind, objective=learned, batch=size.batch, compile="off")
    model.posterior_sampler = copy.copy(model.posterior_sampler)
    model.posterior_sampler.num_steps = size.steps
    model.prior_sampler.num_steps = 2 if settings.quick else model.prior_sampler.num_steps
    return model, images(size.networks, settings.device, size.batch)
