"""Execution of a model's chains, as fast as the device allows; the results agree up to rounding."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from thermoebm.densities import (
    GaussianLikelihood,
    PowerPosterior,
    TiltedPrior,
    inference_mode_has_gradients,
    without_autocast,
)
from thermoebm.modules.rounded import rounded
from thermoebm.networks import Energy, Generator
from thermoebm.runtime import cost
from thermoebm.samplers import Kernel, Recorder, run

# Most steps in one compiled function on a CPU. Functions of five steps compile for half as long again, and a whole run
# takes as long with them (docs/performance.md, "The first step").
BLOCK = 3
# Latents side by side on a CPU, for networks of every size: five temperatures of the report's batch of 75. Five side by
# side take 0.5 to 0.97 of the time of one temperature after another; ten side by side are no faster than five.
LATENTS = 400


class Ends(NamedTuple):
    """Final latents (..., B, d) of chains, and their kernel's rates, averaged over B."""

    z: Tensor
    rates: dict[str, Tensor]


class Chains:
    """Runs prior and power-posterior chains from given starting points with given noise.

    The choices made for speed change results by rounding only:

    - On CUDA a whole chain is recorded as one graph where its shape comes back, whatever runs it: training, draws of
      gradients, validation, generation. Differentiable chains are not recorded.
    - Steps are compiled for the shapes of training; other shapes run uncompiled to avoid recompilation. On CUDA a
      function is one step, since a graph has no calls left to save. On a CPU it is a block of steps where calls are the
      cost; large steps are not compiled, since convolutions dominate them and gain nothing.
    - Temperatures run side by side: on CUDA all of them, or as many as fit in memory; on a CPU about 400 latents
      (``LATENTS``). For every network size, fewer latents are slower and more are hardly faster.
    - On a CPU a small energy runs on one thread: a second thread saves little and can stall where processes share
      cores.
    - Under autocast the weights are rounded once per chain, not once per step.

    Args:
        energy, generator: The networks of prior and likelihood; the choices depend on their operation counts.
        prior, likelihood: p_α and p_β(x|z).
        prior_sampler, posterior_sampler: Kernels of the prior and the posterior chains.
        temperature_chunk: Number of temperatures that run side by side.
        compile: ``auto``: compile where it pays, and record; ``on``: compile, do not record; ``graph``: compile and
            record; ``off``: neither. Nothing is recorded on a CPU.
        reject: Whether an end that is not finite is replaced by the chain's start.

    Attributes:
        energy_flops, generator_flops: Operations of one latent's pass through each network.
        training_batch: Batch size of training, for whose shapes steps are compiled; None until training has begun.
        recorder: Records and replays the chains.
        rates: What the kernels say of the chains run since it was last emptied, by ``prior`` or ``posterior`` and name,
            averaged over latents: () of the prior, (T,) of the posteriors; for instance the acceptance of MALA. Of all
            kernels ``lost``, the share of chains whose end was not finite.
        temperatures: (T,) of the posterior chains run last; None: none was run.
    """

    def __init__(
        self,
        energy: Energy,
        generator: Generator,
        prior: TiltedPrior,
        likelihood: GaussianLikelihood,
        prior_sampler: Kernel,
        posterior_sampler: Kernel,
        temperature_chunk: int | Literal["auto"] = "auto",
        compile: Literal["auto", "on", "graph", "off"] = "auto",
        reject: bool = False,
    ) -> None:
        self.energy_flops, self.generator_flops = (cost.forward_flops(network) for network in (energy, generator))
        self.prior = prior
        self.likelihood = likelihood
        self.prior_sampler = prior_sampler
        self.posterior_sampler = posterior_sampler
        self.temperature_chunk = temperature_chunk
        self.compile = compile
        self.reject = reject
        self.training_batch: int | None = None
        self.recorder = Recorder()
        self.rates: dict[str, Tensor] = {}
        self.temperatures: Tensor | None = None
        self._fitting: int | None = None  # temperatures that fit, once memory has run out

    def run_prior(self, z: Tensor, noise: Tensor, *, differentiable: bool = False) -> Tensor:
        """Final states (B, d) of chains on p_α that start at z (B, d), with noise (K, B, d)."""
        flops = len(z) * self.energy_flops
        block = self._block(flops, len(z), noise)

        def chain(z: Tensor, noise: Tensor) -> Ends:
            end, _ = run(self.prior_sampler, self.prior, z, noise, block=block, differentiable=differentiable)
            return self._ends(self.prior_sampler, z, end, len(noise))

        # Energies never run under autocast, but compiled steps would be compiled again for it.
        with without_autocast(z), cost.suitable_threads(flops, z.device):
            end, rates = self._run(chain, (z, noise), (self.prior, self.prior_sampler, block), differentiable)
        self._note("prior", [rates])
        return end

    def run_posterior(
        self, x: Tensor, temperatures: Tensor, z: Tensor, noise: Tensor, *, differentiable: bool = False
    ) -> Tensor:
        """Final states (T, B, d) of chains on p_t, for x (B, C, H, W), t (T,), starts (T, B, d), noise (K, T, B, d)."""
        flops = len(x) * self.generator_flops
        block = self._block(flops, len(x), noise)

        def chain(x: Tensor, t: Tensor, z: Tensor, noise: Tensor) -> Ends:
            likelihood = self.likelihood if differentiable or z.is_meta else rounded(self.likelihood, z.device.type)
            density = PowerPosterior(self.prior, likelihood, x, t.unsqueeze(-1))
            end, _ = run(self.posterior_sampler, density, z, noise, block=block, differentiable=differentiable)
            return self._ends(self.posterior_sampler, z, end, len(noise))

        self.temperatures = temperatures
        reads = (self.prior, self.likelihood, self.posterior_sampler, block)

        while True:
            chunk = self._chunk(len(temperatures), x)
            parts = zip(temperatures.split(chunk), z.split(chunk), noise.split(chunk, 1), strict=True)
            chunks = ((x, t, start.contiguous(), steps.contiguous()) for t, start, steps in parts)
            try:
                with cost.suitable_threads(flops, z.device):
                    ends = [self._run(chain, arguments, reads, differentiable) for arguments in chunks]
                self._note("posterior", [end.rates for end in ends])
                return torch.cat([end.z for end in ends])
            except torch.OutOfMemoryError:
                if self.temperature_chunk != "auto" or chunk == 1 or self.posterior_sampler.whole_ladder:
                    raise
            # Outside the handler, since the error keeps the tensors of the chains that failed.
            self._fitting = chunk // 2
            rank_zero_warn(
                f"Chains at {chunk} temperatures side by side do not fit in memory: going on with {self._fitting}."
            )

    def _run(
        self, chain: Callable[..., Ends], arguments: tuple[Tensor, ...], reads: tuple[Any, ...], differentiable: bool
    ) -> Ends:
        if torch.is_inference_mode_enabled() and not inference_mode_has_gradients():
            with torch.inference_mode(False), torch.no_grad():
                return self._run(chain, tuple(a.clone() for a in arguments), reads, differentiable)
        if differentiable:
            return chain(*arguments)
        ends: Ends = self.call(chain, arguments, reads)
        return ends

    def call(self, function: Callable[..., Any], arguments: Sequence[Tensor], reads: Sequence[Any]) -> Any:
        """``function(*arguments)``, recorded where chains are: see :class:`thermoebm.samplers.Recorder`."""
        records = self._records(arguments[0].device)
        return self.recorder(function, arguments, reads) if records else function(*arguments)

    def by_rung(self) -> dict[str, Tensor]:
        """The rates as scalars by name; rungs are counted down from t = 1, since a ladder may lack its lower ones."""
        named: dict[str, Tensor] = {}
        for name, rates in self.rates.items():
            if not rates.dim() or name.endswith(("not_finite", "round_trips", "lost")):
                named[name] = rates.max()
                continue
            for below, rate in enumerate(reversed(rates.unbind())):
                named[f"{name}/top" + f"-{below:02d}" * (below > 0)] = rate
        return named

    def _ends(self, kernel: Kernel, start: Tensor, state: Any, steps: int) -> Ends:
        lost = ~state.z.isfinite().all(-1)
        z = torch.where(lost.unsqueeze(-1), start, state.z) if self.reject else state.z
        rates = {"lost": lost.to(z.dtype), **kernel.rates(state, steps)}
        return Ends(z, {name: rate.mean(-1) for name, rate in rates.items()})

    def _note(self, which: str, chunks: list[dict[str, Tensor]]) -> None:
        for name in chunks[0]:
            parts = [chunk[name] for chunk in chunks]
            self.rates[f"{which}/{name}"] = parts[0] if which == "prior" else torch.cat(parts)

    def _records(self, device: torch.device) -> bool:
        if self.compile == "graph" and device.type == "cpu":
            rank_zero_warn("compile is graph, and a CPU has no graphs: chains run compiled, as with compile: on.")
            self.compile = "on"
        return self.compile in ("auto", "graph") and device.type == "cuda"

    def _block(self, flops: int, batch: int, noise: Tensor) -> int | None:
        """Number of steps to compile as one function; None: do not compile.

        Args:
            flops: Operations of one pass of a batch through the network.
            batch: Images or latents in a batch.
            noise: Noise of the chain, (K, ...).
        """
        kind = noise.device.type
        if batch != self.training_batch or not cost.compiles(self.compile, flops, kind):
            return None
        return _largest_divisor(len(noise), BLOCK) if kind == "cpu" and flops < cost.SMALL_BATCH_FLOPS else 1

    def _chunk(self, count: int, x: Tensor) -> int:
        """Number of temperatures that run side by side.

        Under ``auto`` it divides ``count``, so that all chunks have the same shape and only one is compiled.
        """
        if self.posterior_sampler.whole_ladder:
            return count
        if self.temperature_chunk != "auto":
            return self.temperature_chunk
        most = LATENTS // len(x) if x.device.type == "cpu" else count
        return _largest_divisor(count, min(most, self._fitting or count))


def _largest_divisor(number: int, most: int) -> int:
    return next((divisor for divisor in range(min(number, most), 1, -1) if number % divisor == 0), 1)
