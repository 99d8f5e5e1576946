"""A pilot along a path of temperatures: the step sizes and the expectations that a measured run is planned with."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from thermoebm.densities import Tempered
from thermoebm.samplers.mala import LARGEST, MALA, SMALLEST, StepSizes

#: The acceptance at which MALA moves furthest in high dimension (Roberts & Rosenthal 1998, JRSS B 60).
TARGET = 0.574


class Pilot(NamedTuple):
    """What a pilot has found.

    Args:
        sizes: Step sizes by temperature.
        expected: a(z) (n, ...) at each of these temperatures, the mean over its later steps, in nats.
        acceptance: Mean acceptance (n,) over the same steps.
        z: Latents at the last temperature.
    """

    sizes: StepSizes
    expected: Tensor
    acceptance: Tensor
    z: Tensor


def run_pilot(
    path: Tempered,
    temperatures: Tensor,
    kernel: MALA,
    z: Tensor,
    rng: torch.Generator,
    *,
    steps: int = 12,
    target: float = TARGET,
    progress: Callable[[], object] = lambda: None,
) -> Pilot:
    """Moves chains along the temperatures and adapts one step size at each, shared by all chains.

    After step k at a temperature, log s ← log s + g_k (acceptance - target), with a gain g_k that falls from 2 to 1/2
    (Robbins & Monro 1951); the step size found there is the mean of log s over the second half, and the next
    temperature starts from it. Nothing that adapts here is a result: a measured run takes ``kernel.tuned(sizes)``, with
    noise of its own.

    Args:
        path: The densities, whose temperature is replaced.
        temperatures: (n,), ascending.
        kernel: Its step size is where the pilot starts.
        z: Samples (..., d) at the first temperature.
        rng: Stream of the noise.
        steps: Steps at each temperature.
        target: Acceptance to reach.
        progress: Called after each temperature.

    Raises:
        ValueError: If no step size from 1e-8 to 1e3 is accepted at some temperature.
    """
    log_size = math.log(kernel.current_step_size())
    sizes, expected, acceptances = [], [], []
    with torch.no_grad():
        for t in temperatures.to(z):
            density = path.at(t)
            state = kernel.tuned(StepSizes(t[None], z.new_tensor([math.exp(log_size)]))).init(density, z)
            later, values, rates = [], [], []
            for k in range(steps):
                noise = torch.randn(
                    *z.shape[:-1], kernel.noise_dim(z.shape[-1]), generator=rng, device=z.device, dtype=z.dtype
                )
                state, info = kernel.step(density, state, noise)
                rate = info.accepted.to(z).mean().item()
                log_size += 2 / (1 + 3 * k / steps) * (rate - target)
                if not math.log(SMALLEST) < log_size < math.log(LARGEST):
                    raise ValueError(
                        f"Pilot: at temperature {t.item():.3g} a step size of {math.exp(log_size):.1e} has acceptance "
                        f"{rate:.2g}; check that energies and images of the networks are finite."
                    )
                state = state._replace(step_size=torch.full_like(state.step_size, math.exp(log_size)))
                if k >= steps // 2:
                    later.append(log_size)
                    values.append(kernel.tempered(density, state))
                    rates.append(rate)
            log_size = sum(later) / len(later)
            sizes.append(math.exp(log_size))
            expected.append(torch.stack(values).mean(0))
            acceptances.append(sum(rates) / len(rates))
            z = state.z
            progress()
    found = StepSizes(temperatures.to(z), z.new_tensor(sizes))
    return Pilot(found, torch.stack(expected), z.new_tensor(acceptances), z)
