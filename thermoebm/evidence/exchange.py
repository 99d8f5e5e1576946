"""Stepping-stone sampling on a ladder of temperatures that exchange their replicas."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thermoebm import ladders
from thermoebm.densities import Tempered
from thermoebm.samplers import Kernel, ReplicaExchange


class Ladder(NamedTuple):
    """What a ladder says after it has reached equilibrium.

    Args:
        value: log Z_1/Z_0 (...), in nats, pooled over the R ladders of each image.
        standard_error: Its Monte Carlo error (...), from the differences between the R ladders.
        expected: E_t[a] (T, ...), in nats, over steps and ladders.
        rates: The kernel's, averaged over ladders and images: ``acceptance`` (T,), ``swap`` (T - 1,), ``round_trips``
            (1,) for each step.
    """

    value: Tensor
    standard_error: Tensor
    expected: Tensor
    rates: dict[str, Tensor]


def exchange_ladder(
    path: Tempered,
    temperatures: Tensor,
    kernel: Kernel,
    z: Tensor,
    rng: torch.Generator,
    *,
    steps: int,
    burn_in: int,
    exchanging: bool = True,
    progress: Callable[[int], object] = lambda steps: None,
) -> Ladder:
    """Runs R ladders for each image with replica exchange, and takes the steps after ``burn_in``:

        log Z_1/Z_0 = Σ_i log E_{t_{i-1}}[exp((t_i - t_{i-1}) a(z))]     (Xie et al. 2011, Systematic Biology 60)

    Each expectation is the mean over steps and ladders; it is consistent if the ladders are at equilibrium, and no
    bound.

    Args:
        path: The densities, whose temperature is replaced.
        temperatures: (T,) from 0 to 1.
        kernel: Moves the replicas between exchanges.
        z: Starts (T, R, ..., d), R of at least 2.
        rng: Stream of all noise.
        steps: Steps after those of the burn-in.
        burn_in: Steps that are not counted.
        exchanging: Whether replicas are exchanged; without, each temperature has its own chains.
        progress: Called with the number of steps just made.

    Raises:
        ValueError: If the temperatures are no schedule, or there are too few steps or ladders.
    """
    ladders.check("Exchange", temperatures, "a schedule is given")
    if not (steps >= 1 and burn_in >= 0 and z.shape[1] >= 2):
        raise ValueError(
            f"A ladder of exchange has {steps} steps, a burn-in of {burn_in} and {z.shape[1]} replicas for each image; "
            "it needs at least 1, 0 and 2."
        )
    ends = temperatures.to(z.device)
    density = path.at(ends.to(z).view(-1, *[1] * (z.dim() - 2)))
    delta = ends.diff().view(-1, *[1] * (z.dim() - 2))
    exchange = ReplicaExchange(kernel) if exchanging else kernel
    shape = (*z.shape[:-1], exchange.noise_dim(z.shape[-1]))
    with torch.no_grad():
        state: Any = exchange.init(density, z)
        sums = torch.full(z[:-1, ..., 0].shape, -math.inf, dtype=torch.float64, device=z.device)
        totals = torch.zeros(z[..., 0].shape, dtype=torch.float64, device=z.device)
        for k in range(burn_in + steps):
            noise = torch.randn(shape, generator=rng, device=z.device, dtype=z.dtype)
            state, _ = exchange.step(density, state, noise)
            if k >= burn_in:
                a = exchange.tempered(density, state).double()
                sums, totals = torch.logaddexp(sums, delta * a[:-1]), totals + a
            progress(1)
    count = z.shape[1]
    pooled = (sums.logsumexp(1) - math.log(steps * count)).sum(0)
    error = (sums - math.log(steps)).sum(0).std(0) / math.sqrt(count)
    rates = {name: rate.flatten(1).mean(1) for name, rate in exchange.rates(state, burn_in + steps).items()}
    return Ladder(pooled, error, totals.mean(1) / steps, rates)
