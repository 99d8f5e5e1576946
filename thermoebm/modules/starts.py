"""Draws of the trained prior p_α, on which annealed chains start."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from thermoebm.densities import TemperedPrior
from thermoebm.evidence import anneal, resampled, weigh
from thermoebm.ladders import equal_length
from thermoebm.modules.latent_ebm import LatentEBM
from thermoebm.runtime.progress import Bar
from thermoebm.samplers import MALA, run_pilot
from thermoebm.schedules import power_law

#: Where a pilot begins to adapt the step size.
FIRST_STEP = 0.1
_PILOT = 40  # temperatures of the pilot from π0
_APART = 100  # steps at p_α after resampling, by which copies of a particle part

#: A random stream for one named use.
Stream = Callable[..., torch.Generator]


class Starts(NamedTuple):
    """Draws of p_α, on which chains start.

    Args:
        z: (P, d).
        effective_size: Of the P particles before they were resampled.
        log_z: log Z_α, the normalisation of exp(f_α) π0, in nats; no estimate of log p(x) needs it.
        log_z_error: Its Monte Carlo error.
    """

    z: Tensor
    effective_size: float
    log_z: float
    log_z_error: float

    def draw(self, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
        """Some of them (*shape, d); none twice if there are enough."""
        count = math.prod(shape)
        if count > len(self.z):
            index = torch.randint(len(self.z), (count,), generator=rng, device=rng.device)
        else:
            index = torch.randperm(len(self.z), generator=rng, device=rng.device)[:count]
        return self.z[index].unflatten(0, shape)


def work_of_starts(steps: int) -> int:
    """What :func:`draw_starts` tells its progress."""
    return _PILOT + 1 + steps


def draw_starts(model: LatentEBM, particles: int, steps: int, stream: Stream, progress: Bar) -> Starts:
    """Particles annealed from π0 to p_α, resampled by their weights and moved on at p_α until copies are apart.

    Args:
        model: The model.
        particles: P.
        steps: Temperatures from π0 to p_α.
        stream: Streams of the noise.
        progress: Is told :func:`work_of_starts` steps.

    Raises:
        ValueError: If the energy is not finite.
    """
    rng = stream("annealed starts")
    path = TemperedPrior(model.prior, torch.zeros(()))
    kernel = MALA(FIRST_STEP, 1)
    z = model.sample_reference((particles,), rng)
    ladder = power_law(_PILOT, 1.0)
    found = run_pilot(path, ladder, kernel, z, stream("annealed starts pilot"), progress=progress.update)
    kernel = kernel.tuned(found.sizes)
    z = model.sample_reference((particles,), rng)
    points = equal_length(ladder, found.expected.mean(1).cpu(), steps)
    ends = anneal(path, points, kernel, z, rng, runner=model.chains.call, progress=progress.update)
    weighed = weigh(ends.log_weights)
    z = ends.z[resampled(ends.log_weights, len(ends.z), rng)]
    with torch.no_grad():
        density = path.at(z.new_ones(()))
        state = kernel.init(density, z)
        for _ in range(_APART):
            noise = torch.randn(len(z), z.shape[1] + 1, generator=rng, device=z.device, dtype=z.dtype)
            state, _ = kernel.step(density, state, noise)
    return Starts(state.z, *(x.item() for x in (weighed.effective_size, weighed.value, weighed.standard_error)))
