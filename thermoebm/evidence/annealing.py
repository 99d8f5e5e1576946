"""Annealed importance sampling along a path of densities, forwards and backwards.

Throughout, q_t(z) ∝ exp(t a(z)) q_0(z) is a :class:`thermoebm.densities.Tempered` path, 0 = t_0 < … < t_N = 1, and
Z_1/Z_0 the ratio of its normalisation constants: p_θ(x) on the way from p_α to a posterior, Z_α from π0 to p_α.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from thermoebm import ladders
from thermoebm.densities import Tempered
from thermoebm.samplers import Kernel

# Transitions in one call of the runner, which a GPU replays as one graph.
BLOCK = 10

#: Calls a function of tensors with these arguments; a recorder also needs all else that the function reads.
Runner = Callable[[Callable[..., Any], Sequence[Tensor], Sequence[Any]], Any]


class Annealed(NamedTuple):
    """The ends of annealed chains.

    Args:
        log_weights: log w of each chain (...), float64, in nats.
        z: Its last latents (..., d).
        acceptance: Mean acceptance at each temperature (N,), in the order of the temperatures; NaN of a kernel
            without acceptance.
        not_finite: Number of proposals that were rejected for not being finite.
    """

    log_weights: Tensor
    z: Tensor
    acceptance: Tensor
    not_finite: int


def directly(function: Callable[..., Any], arguments: Sequence[Tensor], reads: Sequence[Any]) -> Any:
    """The runner that just calls."""
    return function(*arguments)


def anneal(
    path: Tempered,
    temperatures: Tensor,
    kernel: Kernel,
    z: Tensor,
    rng: torch.Generator,
    *,
    backwards: bool = False,
    runner: Runner = directly,
    progress: Callable[[int], object] = lambda steps: None,
) -> Annealed:
    """One transition at each temperature, and the weights of annealed importance sampling.

    Forwards, from z_0 ~ q_0: for i = 1..N the weight takes the step, log w += (t_i - t_{i-1}) a(z_{i-1}), and then
    z_i ~ T_i(·|z_{i-1}), which leaves q_{t_i} invariant. Then E[w] = Z_1/Z_0 for exact z_0, so E[log w] is at most its
    logarithm, and so is the expectation of a log-mean-exp (Neal 2001, Statistics and Computing 11).

    Backwards, from z_N ~ q_1: for i = N..1 z_{i-1} ~ T_i(·|z_i) and then log w += (t_i - t_{i-1}) a(z_{i-1}). For
    reversible transitions and exact z_N, E[1/w] = Z_0/Z_1, which bounds its logarithm from above (Grosse, Ghahramani &
    Adams 2015, arXiv 1511.02543).

    Args:
        path: The densities, whose temperature is replaced.
        temperatures: (N + 1,) from 0 to 1, float64.
        kernel: The transitions. A step of ULA leaves no q_t invariant, and then neither bound holds.
        z: Exact samples (..., d) of q_0, or backwards of q_1.
        rng: Stream of all noise.
        backwards: From t = 1 to t = 0.
        runner: How blocks of transitions are run; a recorder of chains is one.
        progress: Called with the number of transitions just made.

    Raises:
        ValueError: If the temperatures are no schedule.
    """
    ladders.check("Annealing", temperatures, "a schedule is given")
    ends = temperatures.to(z.device)  # float64: a difference of float32 would lose what a large power makes small
    rungs = list(range(1, len(ends)))
    state, log_weights = (
        kernel.init(path.at(ends[-1 if backwards else 0].to(z)), z),
        z.new_zeros((), dtype=torch.float64),
    )
    log_weights = log_weights.expand(z.shape[:-1])
    shape = (*z.shape[:-1], kernel.noise_dim(z.shape[-1]))
    rates = []
    with torch.no_grad():
        for at in _blocks(rungs[::-1] if backwards else rungs):
            noise = torch.randn(len(at), *shape, generator=rng, device=z.device, dtype=z.dtype)
            leaves, layout = tree_flatten(state)

            def block(
                t: Tensor, delta: Tensor, noise: Tensor, log_weights: Tensor, *leaves: Tensor, layout: Any = layout
            ) -> Any:
                state, seen = tree_unflatten(leaves, layout), []
                for t_i, delta_i, epsilon in zip(t, delta, noise, strict=True):
                    density = path.at(t_i)
                    if not backwards:
                        log_weights = log_weights + delta_i * kernel.tempered(density, state)
                    state, info = kernel.step(density, kernel.moved(density, state), epsilon)
                    if backwards:
                        log_weights = log_weights + delta_i * kernel.tempered(density, state)
                    seen.append(_rates(info, log_weights))
                return log_weights, torch.stack(seen), *tree_flatten(state)[0]

            i = torch.tensor(at, device=z.device)
            arguments = (ends[i].to(z), ends[i] - ends[i - 1], noise, log_weights, *leaves)
            log_weights, seen, *leaves = runner(block, arguments, (path, kernel, backwards))
            state = tree_unflatten(leaves, layout)
            rates.append(seen)
            progress(len(at))
    acceptance, failed = torch.cat(rates).unbind(1)
    acceptance = acceptance.flip(0) if backwards else acceptance
    return Annealed(log_weights, state.z, acceptance, int(failed.nansum().item()))


def _blocks(rungs: list[int]) -> list[list[int]]:
    return [rungs[i : i + BLOCK] for i in range(0, len(rungs), BLOCK)]


def _rates(info: Any, like: Tensor) -> Tensor:
    """Mean acceptance, and number of proposals that were not finite."""
    if not hasattr(info, "accepted"):
        return like.new_full((2,), math.nan)
    return torch.stack([info.accepted.double().mean(), info.failed.double().sum()])
