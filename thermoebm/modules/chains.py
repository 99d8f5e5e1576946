"""How the chains of a model are run: as fast as the device allows, with the same result whichever way that is."""

import contextlib
from functools import partial
from typing import Literal

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.func import functional_call

from thermoebm.densities import GaussianLikelihood, PowerPosterior, TiltedPrior
from thermoebm.networks import Energy, Generator
from thermoebm.runtime import cost
from thermoebm.runtime.threads import threads
from thermoebm.samplers import Kernel, run

# Steps in one compiled function. On digits five take 0.6 (prior) and 0.9 (posterior) of the time of five functions of
# one step; ten take hardly less than five, and twice as long to compile.
BLOCK = 5
# As CUDA graphs a launch for each block is what is left; an estimate, see cost.GRAPH_FLOPS.
GRAPH_BLOCK = 20
# Latents side by side on a CPU, for networks of every size: five temperatures of the report's batch of 75. They take
# 0.5 to 0.97 of the time of one temperature after another, ten take as long as five.
LATENTS = 400


class Chains:
    """Runs prior and power-posterior chains from given starts with given noise.

    What is chosen for speed changes results by rounding only:

    - Steps are compiled for the shapes of training, small ones in blocks; other shapes run uncompiled rather than
      recompile. On a CPU large ones are not compiled either: they are convolutions, which gain nothing. On CUDA blocks
      whose launches would take longer than their work are replayed as CUDA graphs.
    - Temperatures run side by side: on CUDA all of them, or as many as fit in memory; on a CPU some hundred latents,
      of which every size of network has more from a pass than of fewer, and hardly less than of more.
    - On a CPU a small energy runs on one thread: a second one saves little, and can stall where processes share cores.
    - Under autocast weights are rounded once a chain and not once a step.

    Args:
        energy, generator: The networks of prior and likelihood, by whose cost is chosen.
        prior, likelihood: p_α and p_β(x|z).
        prior_sampler, posterior_sampler: Their kernels.
        temperature_chunk: Temperatures side by side.
        compile: ``auto``: where it pays, as CUDA graphs where that pays; ``on``: without graphs; ``graph``: with them.

    Attributes:
        training_batch: Images in a batch of training, whose shapes are compiled; None until training has begun.
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
    ) -> None:
        self.generator = generator
        self._energy_flops, self._generator_flops = (cost.forward_flops(network) for network in (energy, generator))
        self.prior = prior
        self.likelihood = likelihood
        self.prior_sampler = prior_sampler
        self.posterior_sampler = posterior_sampler
        self.temperature_chunk = temperature_chunk
        self.compile = compile
        self.training_batch: int | None = None
        self._fitting: int | None = None  # temperatures, once memory has run out

    def run_prior(self, z: Tensor, noise: Tensor, *, differentiable: bool = False) -> Tensor:
        """Ends (B, d) of chains on p_α that start at z (B, d), with noise (K, B, d)."""
        flops = len(z) * self._energy_flops
        block, graph = self._compiled(flops, len(z), noise)
        one_thread = z.device.type == "cpu" and flops < cost.SMALL_BATCH_FLOPS
        # Energies know no autocast, but what is compiled is compiled again for it.
        with torch.autocast(z.device.type, enabled=False), threads(1) if one_thread else contextlib.nullcontext():
            run_prior = partial(run, block=block, graph=graph, differentiable=differentiable)
            return run_prior(self.prior_sampler, self.prior, z, noise)[0].z

    def run_posterior(
        self, x: Tensor, temperatures: Tensor, z: Tensor, noise: Tensor, *, differentiable: bool = False
    ) -> Tensor:
        """Ends (T, B, d) of chains on p_t, for images (B, C, H, W), t (T,), starts (T, B, d) and noise (K, T, B, d)."""
        likelihood = self.likelihood if differentiable else self._rounded_likelihood(z.device.type)
        flops = len(x) * self._generator_flops

        def ends(chunk: int) -> Tensor | None:
            block, graph = self._compiled(flops, len(x), noise, chunk)
            run_chunk = partial(run, block=block, graph=graph, differentiable=differentiable)
            parts = []
            try:
                for t, start, steps in zip(
                    temperatures.split(chunk), z.split(chunk), noise.split(chunk, 1), strict=True
                ):
                    density = PowerPosterior(self.prior, likelihood, x, t.unsqueeze(-1))
                    start, steps = start.contiguous(), steps.contiguous()
                    parts.append(run_chunk(self.posterior_sampler, density, start, steps)[0].z)
            except torch.OutOfMemoryError:
                if self.temperature_chunk != "auto" or chunk == 1:
                    raise
                return None
            return torch.cat(parts)

        while (result := ends(chunk := self._chunk(len(temperatures), x))) is None:
            self._fitting = chunk // 2
            rank_zero_warn(
                f"Chains at {chunk} temperatures side by side do not fit in memory: going on with {self._fitting}."
            )
        return result

    def _compiled(self, flops: int, batch: int, noise: Tensor, chunk: int = 1) -> tuple[int | None, bool]:
        """How many steps are compiled as one function, None for not at all, and whether these become CUDA graphs.

        Args:
            flops: Operations of one pass of a batch through the network.
            batch: Images or latents in a batch.
            noise: Of the chain, (K, ...).
            chunk: Batches side by side.
        """
        if self.compile == "off" or batch != self.training_batch:
            return None, False
        on_cuda = noise.device.type == "cuda"
        calls_cost = on_cuda or flops < cost.SMALL_BATCH_FLOPS
        if self.compile == "auto" and not (on_cuda or (calls_cost and cost.has_compiler())):
            return None, False
        pays = self.compile == "graph" or (self.compile == "auto" and chunk * flops < cost.GRAPH_FLOPS)
        graph = on_cuda and pays
        most = GRAPH_BLOCK if graph else BLOCK if calls_cost else 1
        return _largest_divisor(len(noise), most), graph

    def _chunk(self, count: int, x: Tensor) -> int:
        """How many of so many temperatures run side by side: all chunks are alike, so that one shape is compiled."""
        if self.temperature_chunk != "auto":
            return self.temperature_chunk
        most = LATENTS // len(x) if x.device.type == "cpu" else count
        return _largest_divisor(count, min(most, self._fitting or count))

    def _rounded_likelihood(self, device_type: str) -> GaussianLikelihood:
        """The likelihood, under autocast with weights that it has nothing left to round of."""
        if not torch.is_autocast_enabled(device_type):
            return self.likelihood
        rounded = _Rounded(self.generator, torch.get_autocast_dtype(device_type))
        return GaussianLikelihood(rounded, self.likelihood.sigma)


def _largest_divisor(number: int, most: int) -> int:
    return next((divisor for divisor in range(min(number, most), 1, -1) if number % divisor == 0), 1)


class _Rounded:
    """A network whose matrices and convolutions have been rounded to what autocast computes them in.

    Autocast itself keeps what it has rounded only while gradients of the weights are wanted.
    """

    def __init__(self, network: torch.nn.Module, dtype: torch.dtype) -> None:
        self.network = network
        self.weights = {name: p.detach().to(dtype) for name, p in network.named_parameters() if p.dim() > 1}

    def __call__(self, z: Tensor) -> Tensor:
        return functional_call(self.network, self.weights, z)
