"""Execution of a model's chains, as fast as the device allows; the results agree up to rounding."""

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

# Steps in one compiled function. On digits, one function of five steps takes 0.6 (prior) and 0.9 (posterior) of the
# time of five functions of one step. Functions of ten steps are hardly faster and take twice as long to compile.
BLOCK = 5
# Steps in one CUDA graph, which costs one launch. An estimate, see cost.GRAPH_FLOPS.
GRAPH_BLOCK = 20
# Latents side by side on a CPU, for networks of every size: five temperatures of the report's batch of 75. Five side by
# side take 0.5 to 0.97 of the time of one temperature after another; ten side by side are no faster than five.
LATENTS = 400


class Chains:
    """Runs prior and power-posterior chains from given starting points with given noise.

    The choices made for speed change results by rounding only:

    - Steps are compiled for the shapes of training, small steps in blocks; other shapes run uncompiled to avoid
      recompilation. On a CPU large steps are not compiled either: convolutions dominate them and gain nothing. On CUDA,
      blocks whose launches would take longer than their computation are replayed as CUDA graphs.
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
        compile: ``auto``: compile where it pays, with CUDA graphs where they pay; ``on``: compile without graphs;
            ``graph``: compile with graphs; ``off``: do not compile.

    Attributes:
        training_batch: Batch size of training, for whose shapes steps are compiled; None until training has begun.
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
        self._fitting: int | None = None  # temperatures that fit, once memory has run out

    def run_prior(self, z: Tensor, noise: Tensor, *, differentiable: bool = False) -> Tensor:
        """Final states (B, d) of chains on p_α that start at z (B, d), with noise (K, B, d)."""
        flops = len(z) * self._energy_flops
        block, graph = self._compiled(flops, len(z), noise)
        one_thread = z.device.type == "cpu" and flops < cost.SMALL_BATCH_FLOPS
        # Energies never run under autocast, but compiled steps would be compiled again for it.
        with torch.autocast(z.device.type, enabled=False), threads(1) if one_thread else contextlib.nullcontext():
            run_prior = partial(run, block=block, graph=graph, differentiable=differentiable)
            return run_prior(self.prior_sampler, self.prior, z, noise)[0].z

    def run_posterior(
        self, x: Tensor, temperatures: Tensor, z: Tensor, noise: Tensor, *, differentiable: bool = False
    ) -> Tensor:
        """Final states (T, B, d) of chains on p_t, for x (B, C, H, W), t (T,), starts (T, B, d), noise (K, T, B, d)."""
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
        """Number of steps to compile as one function (None: do not compile), and whether to use CUDA graphs.

        Args:
            flops: Operations of one pass of a batch through the network.
            batch: Images or latents in a batch.
            noise: Noise of the chain, (K, ...).
            chunk: Number of batches that run side by side.
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
        """Number of temperatures that run side by side.

        Under ``auto`` it divides ``count``, so that all chunks have the same shape and only one is compiled.
        """
        if self.temperature_chunk != "auto":
            return self.temperature_chunk
        most = LATENTS // len(x) if x.device.type == "cpu" else count
        return _largest_divisor(count, min(most, self._fitting or count))

    def _rounded_likelihood(self, device_type: str) -> GaussianLikelihood:
        """The likelihood; under autocast, with weights that are already rounded to the autocast data type."""
        if not torch.is_autocast_enabled(device_type):
            return self.likelihood
        rounded = _Rounded(self.generator, torch.get_autocast_dtype(device_type))
        return GaussianLikelihood(rounded, self.likelihood.sigma)


def _largest_divisor(number: int, most: int) -> int:
    return next((divisor for divisor in range(min(number, most), 1, -1) if number % divisor == 0), 1)


class _Rounded:
    """A network whose matrices and convolution kernels have been rounded to the data type of autocast.

    Autocast itself caches rounded weights only while gradients of the weights are needed.
    """

    def __init__(self, network: torch.nn.Module, dtype: torch.dtype) -> None:
        self.network = network
        self.weights = {name: p.detach().to(dtype) for name, p in network.named_parameters() if p.dim() > 1}

    def __call__(self, z: Tensor) -> Tensor:
        return functional_call(self.network, self.weights, z)
