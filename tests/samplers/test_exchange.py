"""Replica exchange: what swaps, with which probability, and what goes with it."""

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from tests.oracle import DTYPE, LinearGaussian
from tests.samplers.densities import PATHS, TARGETS, Bimodal, T
from thermoebm.densities import PowerPosterior, Tempered
from thermoebm.samplers import MALA, ULA, Kernel, ReplicaExchange, StepSizes, run

SWAP, STAY = -40.0, 40.0  # coins u = Φ(ε) of 0 and of 1


class StillState(NamedTuple):
    z: Tensor


class Still(Kernel):
    """Moves nothing, so that only swaps do."""

    def __init__(self):
        super().__init__(1.0, 1)

    def init(self, density, z):
        return StillState(z)

    def step(self, density, state, noise):
        return state, state


class Table(Tempered):
    """q_t(z) ∝ exp(t a(z)) q_0(z) on z of 0..S-1."""

    def __init__(self, t, a, base):
        self.t, self.a, self.base = t, a, base

    def tempered(self, z):
        return self.a[z[..., 0].long()]

    def log_prob(self, z):
        return self.t * self.tempered(z) + self.base[z[..., 0].long()]


def coins(values):
    """Noise of one step (T, ..., d + 1) of Still: the coin of the pair (i, i + 1) is that of the lower temperature."""
    coins = torch.as_tensor(values, dtype=DTYPE)
    return torch.stack([torch.full_like(coins, math.nan), coins], -1)


@pytest.mark.parametrize(("step", "pair"), [(0, 0), (1, 1), (2, 0), (3, 1)])
def test_a_swap_keeps_detailed_balance(step, pair):
    """π(x) P(x→y) = π(y) P(y→x) for the product π of the densities, at every state of three temperatures.

    The coin takes each of 4,001 even values, whose share that swaps is the probability to 1/4,001.
    """
    t = torch.tensor([[0.0], [0.3], [1.0]], dtype=DTYPE)
    density = Table(t, torch.tensor([-1.0, 0.4, 2.5], dtype=DTYPE), torch.tensor([0.3, -0.2, 0.1], dtype=DTYPE))
    states = torch.cartesian_prod(*[torch.arange(3)] * 3).double()  # (27, 3)
    even = (torch.arange(4001, dtype=DTYPE) + 0.5) / 4001
    z = states.T[:, :, None].expand(-1, -1, 4001).flatten(1)[..., None]
    noise = coins(torch.special.ndtri(even).expand(3, 27, -1).flatten(1))
    kernel = ReplicaExchange(Still())
    state, info = kernel.step(density, kernel.init(density, z)._replace(steps=torch.tensor(step)), noise)
    assert not info.swapped[1 - pair].any()
    probability = info.swapped[pair].view(27, 4001).double().mean(1)
    swapped = states.clone()
    swapped[:, [pair, pair + 1]] = states[:, [pair + 1, pair]]
    assert torch.equal(state.z[..., 0].view(3, 27, 4001)[..., 0].T, swapped)  # at the smallest coin all swap
    log_pi = (density.log_prob(z).sum(0)).view(27, 4001)[:, 0]
    pi = log_pi.softmax(0)
    at = {tuple(row): i for i, row in enumerate(states.tolist())}
    back = torch.tensor([at[tuple(row)] for row in swapped.tolist()])
    assert ((pi * probability - pi[back] * probability[back]).abs() <= 1 / 4001).all()
    ratio = (log_pi[back] - log_pi).exp()
    assert (probability - ratio.clamp(max=1)).abs().max() <= 1 / 4001
    assert (probability.min(), probability.max()) < (0.5, 1)


def reference(decisions, rungs):
    """Where each replica is, and what is counted, of one image in plain integers."""
    replicas, toured, top, swaps, trips = list(range(rungs)), {0}, set(), [0] * (rungs - 1), 0
    for step, swap in enumerate(decisions):
        for i in range(step % 2, rungs - 1, 2):
            if swap[i]:
                replicas[i], replicas[i + 1] = replicas[i + 1], replicas[i]
                swaps[i] += 1
        lowest, highest = replicas[0], replicas[-1]
        trips += lowest in top
        toured.add(lowest)
        top.discard(lowest)
        if highest in toured and rungs > 1:
            top.add(highest)
    return replicas, swaps, trips


@pytest.mark.parametrize("rungs", [1, 2, 3, 5])
def test_what_is_swapped_and_counted(rungs):
    """Forced decisions, half of them or all; in the latter case one more trip is completed every 2 T steps."""
    rng = torch.Generator().manual_seed(0)
    steps, images = 60, 4
    decide = torch.rand(steps, rungs, images, generator=rng) < 0.7
    decide[:, :, 0] = True
    density = Table(torch.linspace(0, 1, rungs, dtype=DTYPE)[:, None], *torch.zeros(2, rungs, dtype=DTYPE))
    z = torch.arange(rungs, dtype=DTYPE)[:, None, None].expand(-1, images, 1)
    noise = coins(torch.where(decide, SWAP, STAY))
    state, _ = run(kernel := ReplicaExchange(Still()), density, z, noise)
    for image in range(images):
        replicas, swaps, trips = reference(decide[:, :, image].tolist(), rungs)
        assert state.z[:, image, 0].tolist() == replicas
        assert state.swaps[:, image].tolist() == swaps
        assert state.round_trips[image] == trips
    rates = kernel.rates(state, steps)
    assert rates["swap"].shape == (rungs - 1, images)
    assert (rates["swap"][:, 0] == 1).all()
    assert torch.equal(rates["round_trips"], state.round_trips[None] / steps)
    if rungs > 1:
        # Every replica makes one trip in 2 T steps; those that did not begin at the lowest temperature begin later.
        assert abs(state.round_trips[0] - steps / 2) < 2 * rungs
    else:
        assert not state.round_trips.any()


@pytest.mark.parametrize("steps", [1, 4, 5])
def test_the_rate_of_swaps_is_of_those_tried(steps):
    density = Table(torch.linspace(0, 1, 4, dtype=DTYPE)[:, None], *torch.zeros(2, 1, dtype=DTYPE))
    z = torch.zeros(4, 2, 1, dtype=DTYPE)
    state, _ = run(kernel := ReplicaExchange(Still()), density, z, coins(torch.full((steps, 4, 2), SWAP)))
    tried = [(steps + 1) // 2, steps // 2, (steps + 1) // 2]
    assert state.swaps[:, 0].tolist() == tried
    assert kernel.rates(state, steps)["swap"][:, 0].tolist() == [float(n > 0) for n in tried]


@pytest.mark.parametrize("name", PATHS)
def test_what_is_kept_of_a_latent_goes_with_it_and_what_is_of_a_temperature_stays(name):
    target, rng = TARGETS[name](), torch.Generator().manual_seed(0)
    density, sizes = target.density(40), StepSizes(T[:, 0], torch.tensor([0.3, 0.1, 0.02], dtype=DTYPE))
    kernel = ReplicaExchange(MALA(1.0, 1).tuned(sizes))
    state = kernel.init(density, target.draw(40, rng))
    for k in range(6):
        noise = torch.randn(3, 40, target.latent_dim + 2, generator=rng, dtype=DTYPE)
        state, info = kernel.step(density, state, noise)
        assert info.swapped[k % 2].any()
        assert torch.equal(state.z, state.inner.z)
        torch.testing.assert_close(state.inner.terms, density.terms(state.z), rtol=1e-12, atol=1e-12)
        assert torch.equal(state.inner.step_size[:, 0, 0], sizes.at(T[:, 0]))
    assert torch.equal(kernel.tempered(density, state), state.inner.terms.values[0])
    other = density.at(T.flip(0))
    moved = kernel.moved(other, state)
    assert torch.equal(moved.inner.step_size[:, 0, 0], sizes.at(T[:, 0]).flip(0))
    torch.testing.assert_close(other.combine(moved.inner.terms)[0], other.log_prob(state.z))


@pytest.mark.parametrize("inner", [ULA(0.02, 6), MALA(0.05, 6)])
def test_images_do_not_mix(inner):
    """Ladders of 8 images in another order are the same ladders in another order; so are images one by one."""
    oracle, rng = LinearGaussian(), torch.Generator().manual_seed(0)
    x, kernel = torch.randn(8, 1, 2, 3, generator=rng, dtype=DTYPE), ReplicaExchange(inner)
    z = torch.randn(3, 8, 3, generator=rng, dtype=DTYPE)
    noise = torch.randn(6, 3, 8, kernel.noise_dim(3), generator=rng, dtype=DTYPE)

    def ladders(order):
        density = PowerPosterior(oracle.prior, oracle.likelihood, x[order], T)
        state, _ = run(kernel, density, z[:, order], noise[:, :, order])
        return state.z, state.swaps, state.heading, state.round_trips[None]

    together, order = ladders(torch.arange(8)), torch.randperm(8, generator=rng)
    assert together[1].sum() > 3
    for a, b in zip(ladders(order), together, strict=True):
        torch.testing.assert_close(a, b[:, order], rtol=0, atol=1e-12)
    for i in range(8):
        for a, b in zip(ladders(torch.tensor([i])), together, strict=True):
            torch.testing.assert_close(a, b[:, i : i + 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["bimodal", "power posterior"])
def test_one_temperature_is_the_inner_kernel(name):
    target, rng = TARGETS[name](), torch.Generator().manual_seed(0)
    density, start = target.density(30).at(T[2:]), target.draw(30, rng)[2:]
    noise = torch.randn(5, 1, 30, target.latent_dim + 2, generator=rng, dtype=DTYPE)
    state, info = run(ReplicaExchange(MALA(0.05, 5)), density, start, noise)
    alone, _ = run(MALA(0.05, 5), density, start, noise[..., :-1])
    assert torch.equal(state.z, alone.z)
    assert info.swapped.shape == (0, 30)
    assert not state.round_trips.any()


def test_a_ladder_crosses_between_modes_where_chains_at_one_temperature_do_not():
    """Modes at ±5 with masses .3 and .7, between which log q is lower by 12; all start in the lighter mode.

    The share in it at t = 1 is .3 for ladders, within 4 standard errors, and 1 for MALA.
    """
    t = torch.linspace(0, 1, 10, dtype=DTYPE)[:, None]
    count, steps, rng = 600, 300, torch.Generator().manual_seed(0)
    start = torch.tensor([5.0, 0.0], dtype=DTYPE).expand(10, count, 2)
    noise = torch.randn(steps, 10, count, 4, generator=rng, dtype=DTYPE)
    state, _ = run(kernel := ReplicaExchange(MALA(0.8, steps)), Bimodal(t, 5.0, 0.3), start, noise)
    alone, _ = run(MALA(0.8, steps), Bimodal(t[-1:], 5.0, 0.3), start[-1:], noise[:, -1:, :, :-1])
    share = (state.z[-1, :, 0] > 0).double().mean()
    assert abs(share - 0.3) < 4 * math.sqrt(0.3 * 0.7 / count)
    assert (alone.z[..., 0] > 0).all()
    assert (kernel.rates(state, steps)["swap"].mean(1) > 0.3).all()
    assert state.round_trips.mean() > 2
