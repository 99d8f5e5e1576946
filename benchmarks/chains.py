"""Prior and posterior chains: milliseconds a step, FLOP/s, share of the machine's matrix rate, ratio to the peer."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from benchmarks.measure import Group, Settings, Timing, interleave, limit_facts, limits, precision
from benchmarks.models import BATCH, NETWORKS, SCHEDULE, GivenNoise, build, images
from benchmarks.peer import Peer
from thermoebm.modules import LatentEBM
from thermoebm.runtime.threads import threads

PEER = "peer"
# Way to run a chain -> the model's field `compile`, and whether its batch is that of training (others run uncompiled).
WAYS: dict[str, tuple[Literal["off", "on", "graph"], bool]] = {
    "eager": ("off", True),
    "compiled": ("on", True),
    "recorded": ("graph", False),
    "graph": ("graph", True),
}
# Largest accepted distance of our chain from the peer's, as a share of the displacement by the scores. In float32 a
# step moves z by about s = 0.01 and rounds it to 1e-7, a share of 1e-5 at each step; bfloat16 rounds the score itself
# to 1e-2. TF32 was 1e-2 off at toy size on an H100. A wrong temperature, sign or factor makes a difference of order 1.
TOLERANCE = {"float32": 1e-3, "tf32": 3e-2, "bfloat16": 5e-2}


class Contestant(NamedTuple):
    """One way to run a chain.

    Args:
        way: ``eager``, ``compiled``, ``recorded`` (eager steps, replayed as a CUDA graph), ``graph`` (compiled steps,
            replayed) or ``peer``.
        precision: See :func:`benchmarks.measure.precision`.
        threads: Number of CPU threads.
        chunk: Temperatures sampled side by side; 1 for the prior chain and for the peer.
    """

    way: str
    precision: str
    threads: int
    chunk: int = 1


@dataclass(frozen=True)
class Chain:
    """A chain that is run in several ways.

    Args:
        section, title: Section and title of the table of its figures.
        temperatures, steps: T and K.
        flops: Nominal FLOPs of one step at all temperatures.
        undriven: End of the chain if the scores were zero, (T, B, d) or (B, d).
    """

    section: str
    title: str
    temperatures: int
    steps: int
    flops: float
    undriven: Tensor


def prior(settings: Settings) -> Iterator[Group]:
    """The chain of the energy alone, on one thread and on all; never in bfloat16, since energies are float32."""
    steps, batch = (3, 4) if settings.quick else (60, BATCH)
    # Networks with the same d have the same chain.
    distinct = {NETWORKS[name].latent_dim: name for name in reversed(settings.networks)}
    for d, name in reversed(distinct.items()):
        model, peer, x = _prepared(name, settings, batch)
        model.prior_sampler.num_steps = steps
        rng = model.stream("benchmark")
        start = model.sample_reference((batch,), rng)
        noise = model._normal((steps, *start.shape), rng)

        def ours(way: str, model: GivenNoise = model, rng: torch.Generator = rng) -> Tensor:
            run_by(model, way, batch)
            return model.sample_prior(batch, rng)

        works: dict[Contestant, Callable[[], Tensor]] = {}
        for p in settings.precisions:
            for count in sorted({1, torch.get_num_threads()}) if p != "bfloat16" else ():
                works[Contestant(PEER, p, count)] = partial(peer.prior, start, noise)
                for way in settings.ways:
                    works[Contestant(way, p, count)] = watched(model, way, partial(ours, way))
        undriven = _undriven(start, noise, model.prior_sampler.step_size)
        yield _measured(Chain("prior", f"d {d}", 1, steps, peer.flops(x)[0], undriven), works, settings)


def posterior(settings: Settings) -> Iterator[Group]:
    """Chains of 20 and 40 steps at one temperature, and on the whole ladder above t = 0, which needs no generator.

    If so many steps take too long, chains are shorter; figures are per step.
    """
    batch = 4 if settings.quick else BATCH
    for name in settings.networks:
        model, peer, x = _prepared(name, settings, batch)
        for temperatures in (x.new_ones(1), SCHEDULE.temperatures().to(x)[1:]):
            flops = peer.flops(x)[1] * len(temperatures)
            most = 2 if settings.quick else affordable(flops, settings)
            for steps in [asked for asked in (20, 40) if asked <= most] or [most]:
                model.posterior_sampler.num_steps = steps
                yield _posterior(name, model, peer, x, temperatures, flops, settings)


def affordable(flops: float, settings: Settings) -> int:
    """Number of steps that take about a twentieth of a group's time, so that all contestants get their rounds."""
    return max(1, int(settings.effort.seconds / 20 / seconds(flops, settings)))


def seconds(flops: float, settings: Settings) -> float:
    """A rough time for this many FLOPs, at a rate at the low end of what a core or a GPU achieves."""
    return flops / (1e14 if settings.device.type == "cuda" else 5e10 * torch.get_num_threads())


def _posterior(
    name: str, model: GivenNoise, peer: Peer, x: Tensor, temperatures: Tensor, flops: float, settings: Settings
) -> Group:
    steps, count = model.posterior_sampler.num_steps, len(temperatures)
    model.drawn.clear()  # noise of other chain lengths
    rng = model.stream("benchmark")
    start = model.sample_reference((count, len(x)), rng)
    noise = model._normal((steps, *start.shape), rng)

    def ours(way: str, chunk: int) -> Tensor:
        run_by(model, way, len(x))
        model.chains.temperature_chunk = chunk
        return model.sample_posterior(x, temperatures, rng)

    cores = torch.get_num_threads()
    chunks, ways = {1, (count + 1) // 2, count}, settings.ways
    if seconds(flops, settings) > settings.effort.seconds / 10:  # one temperature shows the effect of compiling
        chunks, ways = {1, (count + 1) // 2}, ways[:1]
    works: dict[Contestant, Callable[[], Tensor]] = {}
    for p in settings.precisions:
        works[Contestant(PEER, p, cores)] = partial(peer.posterior, x, temperatures, start, noise)
        for chunk in sorted(chunks):
            # On CUDA each compilation takes long, and training samples all temperatures side by side.
            for way in ways if settings.device.type == "cpu" or chunk == count else ways[:1]:
                works[Contestant(way, p, cores, chunk)] = watched(model, way, partial(ours, way, chunk))
    title = f"{name}, {'the ladder' if count > 1 else 'one temperature'}, {steps} steps"
    undriven = _undriven(start, noise, model.posterior_sampler.step_size)
    return _measured(Chain("posterior", title, count, steps, flops, undriven), works, settings)


def run_by(model: LatentEBM, way: str, batch: int) -> None:
    """Sets how the model runs its chains."""
    model.chains.compile, is_training = WAYS[way]
    model.chains.training_batch = batch if is_training else None


def watched(model: LatentEBM, way: str, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """The work; if its way replays graphs, it raises a RuntimeError from the third call on unless it did so."""
    if WAYS[way][0] != "graph":
        return work
    calls = itertools.count(1)

    def call() -> Tensor:
        before = model.chains.recorder.replays
        end = work()
        if next(calls) > 2 and model.chains.recorder.replays == before:
            raise RuntimeError("graphs were asked for and did not run")
        return end

    return call


def _prepared(name: str, settings: Settings, batch: int) -> tuple[GivenNoise, Peer, Tensor]:
    model = build(NETWORKS[name], settings.device, kind=GivenNoise, batch=batch)
    assert isinstance(model, GivenNoise)
    return model, Peer(model), images(NETWORKS[name], settings.device, batch)


def _undriven(start: Tensor, noise: Tensor, step_size: float) -> Tensor:
    return start + math.sqrt(2 * step_size) * noise.sum(0)


def _measured(chain: Chain, works: Mapping[Contestant, Callable[[], Tensor]], settings: Settings) -> Group:
    """Runs all contestants and the machine's limits in turn."""
    torch.compiler.reset()  # code compiled for other chains counts towards the recompile limit of a function
    bounds, work = limits(settings)
    contestants: dict[Any, Callable[[], Any]] = dict(bounds)
    for contestant, call in works.items():
        contestants[contestant] = _in_its_way(contestant, settings.device, call)
    timings = interleave(contestants, settings.device, settings.effort)
    facts = {
        "temperatures": chain.temperatures,
        "steps": chain.steps,
        "batch": chain.undriven.shape[-2],
        "flops_per_step": chain.flops,
        **limit_facts(timings, work),
    }
    rows = [_row(chain, contestant, timings, work[contestant.precision]) for contestant in works]
    return Group(chain.section, chain.title, facts, rows)


def _in_its_way(contestant: Contestant, device: torch.device, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Wraps work to run in a contestant's precision and with its threads."""

    def call() -> Tensor:
        with threads(contestant.threads), precision(contestant.precision, device):
            return work()

    return call


def _row(chain: Chain, contestant: Contestant, timings: Mapping[Any, Timing], limit_work: float) -> dict[str, Any]:
    """A contestant's figures: speed against the peer in its precision, deviation from the peer in float32."""
    timing = timings[contestant]
    if timing.error is not None:
        return {**contestant._asdict(), "error": timing.error}
    peer, exact = (timings[Contestant(PEER, p, contestant.threads)] for p in (contestant.precision, "float32"))
    flops = chain.flops * chain.steps
    apart = deviation(timing.result, exact.result, chain.undriven)
    return {
        **contestant._asdict(),
        "ms_per_step": timing.per(chain.steps / 1e3),
        "slowest_ms_per_step": 1e3 * max(timing.seconds) / chain.steps,
        "flops_per_second": timing.rate(flops),
        "of_matrix_rate": timings[contestant.precision].over(timing, flops / limit_work),
        "times_peer": peer.over(timing),
        "first_call_s": timing.first,
        "deviation": apart,
        "agrees": apart < TOLERANCE[contestant.precision],
    }


def deviation(end: Tensor, reference: Tensor, undriven: Tensor) -> float:
    """‖end - reference‖ / ‖reference - undriven‖ (the displacement by the scores), maximum over temperatures."""
    apart, driven = (end - reference).flatten(-2), (reference - undriven).flatten(-2)
    return (apart.norm(dim=-1) / driven.norm(dim=-1)).max().item()
