"""Replica exchange between neighbouring temperatures."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from thermoebm.densities import Tempered
from thermoebm.samplers.base import Kernel


class ExchangeState(NamedTuple):
    """A ladder of T temperatures.

    Args:
        z: Latents (T, ..., d).
        inner: State of the kernel that moves them.
        steps: Number of steps so far (), whose parity says which pairs may swap.
        swaps: Swaps (T - 1, ...) so far between each temperature and the one above.
        heading: (T, ...) of the replica now at each temperature: 1 if it was at the lowest temperature last, -1 if at
            the highest since, 0 if it was never at the lowest.
        round_trips: Round trips (...) completed so far, from the lowest temperature to the highest and back.
    """

    z: Tensor
    inner: Any
    steps: Tensor
    swaps: Tensor
    heading: Tensor
    round_trips: Tensor


class ExchangeInfo(NamedTuple):
    """What the inner kernel says of its step, and which pairs (T - 1, ...) have swapped."""

    inner: NamedTuple
    swapped: Tensor


class ReplicaExchange(Kernel):
    """Replica exchange (parallel tempering) over any kernel, for each image by itself.

    After a step of the inner kernel at every temperature, neighbours i and i + 1 swap their latents with probability

        min(1, exp((t_{i+1} - t_i) (a(z_i) - a(z_{i+1})))),    a = log p_β(x|z) on the way to a posterior,

    which leaves the product of the densities at all temperatures invariant. Pairs with even i may swap after even
    steps, pairs with odd i after odd ones: this order carries replicas through the ladder in O(T) steps in place of
    O(T²). Source: Syed, Bouchard-Côté, Deligiannidis & Doucet (2022), JRSS B 84.

    A replica needs many steps for one way through the ladder: fresh chains of 20 steps make hardly a tenth of a round
    trip. It is of use where chains go on (``chain_start: persistent``).

    Args:
        kernel: The kernel that moves the latents, with its step size and number of steps.
    """

    differentiable = False
    whole_ladder = True

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel.step_size, kernel.num_steps)
        self.kernel = kernel

    def current_step_size(self) -> float:
        return self.kernel.current_step_size()

    def state(self) -> nn.Module | None:
        return self.kernel.state()

    def after_step(self, rates: Mapping[str, Tensor]) -> None:
        self.kernel.after_step(rates)

    def noise_dim(self, latent_dim: int) -> int:
        return self.kernel.noise_dim(latent_dim) + 1

    def init(self, density: Tempered, z: Tensor) -> ExchangeState:  # type: ignore[override]
        none = torch.zeros_like(z[..., 0])
        heading = torch.cat([none[:1] + 1, none[1:]])
        steps = torch.zeros((), device=z.device, dtype=torch.int64)
        return ExchangeState(z, self.kernel.init(density, z), steps, none[1:], heading, none[0])

    def step(  # type: ignore[override]
        self, density: Tempered, state: ExchangeState, noise: Tensor
    ) -> tuple[ExchangeState, ExchangeInfo]:
        inner, info = self.kernel.step(density, state.inner, noise[..., :-1])
        swapped = self._swapped(density, inner, state.steps, noise[:-1, ..., -1])
        none = torch.zeros_like(state.heading[:1], dtype=torch.bool)
        rung = torch.arange(len(noise), device=noise.device).view(-1, *[1] * (noise.dim() - 2))
        source = rung + torch.cat([swapped, none]).long() - torch.cat([none, swapped]).long()

        def take(tensor: Tensor) -> Tensor:
            index = source if tensor.dim() == source.dim() else source.unsqueeze(-1).expand_as(tensor)
            return tensor.gather(0, index)

        inner = self.kernel.exchanged(inner, take)
        heading = take(state.heading)
        returned = heading[0] == -1
        down = torch.where((rung == len(noise) - 1) & (heading == 1), -1, heading)
        heading = torch.where(rung == 0, 1, down).to(heading)
        trips, swaps = state.round_trips + returned, state.swaps + swapped
        return ExchangeState(inner.z, inner, state.steps + 1, swaps, heading, trips), ExchangeInfo(info, swapped)

    def moved(self, density: Tempered, state: ExchangeState) -> ExchangeState:
        return state._replace(inner=self.kernel.moved(density, state.inner))

    def tempered(self, density: Tempered, state: ExchangeState) -> Tensor:
        return self.kernel.tempered(density, state.inner)

    def rates(self, state: ExchangeState, num_steps: int) -> dict[str, Tensor]:
        """The inner kernel's; ``swap``: share of the swaps that were tried; ``round_trips`` for each step and image."""
        pairs = torch.arange(len(state.swaps), device=state.z.device).view(-1, *[1] * (state.swaps.dim() - 1))
        tried = (num_steps + 1 - pairs % 2) // 2
        own = {"swap": state.swaps / tried.clamp(min=1), "round_trips": state.round_trips.unsqueeze(0) / num_steps}
        return self.kernel.rates(state.inner, num_steps) | own

    def _swapped(self, density: Tempered, inner: Any, steps: Tensor, coins: Tensor) -> Tensor:
        """Which pairs (T - 1, ...) swap."""
        a = self.kernel.tempered(density, inner)
        ratio = torch.as_tensor(density.t).diff(dim=0) * (a[:-1] - a[1:])
        pairs = torch.arange(len(a) - 1, device=a.device).view(-1, *[1] * (a.dim() - 1))
        return (torch.special.ndtr(coins) < ratio.exp()) & ((pairs + steps) % 2 == 0)
