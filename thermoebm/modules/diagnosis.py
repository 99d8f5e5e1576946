"""Are the chains any good? Short chains, as training runs them, against long corrected ones of the same model."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from thermoebm.densities import Density, PowerPosterior, Tempered, TemperedPrior, without_autocast
from thermoebm.modules.latent_ebm import LatentEBM
from thermoebm.modules.rounded import rounded
from thermoebm.runtime.cost import suitable_threads
from thermoebm.runtime.progress import Bar, bar
from thermoebm.samplers import MALA, Kernel, run_pilot
from thermoebm.samplers.diagnostics import effective_sample_size, pooled_autocorrelation, split_rhat

# States at even distances by which the second half of a long chain is judged.
_DRAWS = 200
# Steps that find the step size of the long chains and are no part of them.
_PILOT = 100
#: Steps of a long chain at least: its second half has the four states that R-hat needs.
LEAST_STEPS = 8

_Values = Mapping[str, Callable[[Tensor], Tensor]]


class Difference(NamedTuple):
    """A mean difference and its standard error, in nats."""

    mean: float
    standard_error: float

    @classmethod
    def of(cls, pairs: Tensor) -> Self:
        """From differences (R, B) of R independent chains for each of B images; of one image, over its chains."""
        each = pairs.mean(0) if pairs.shape[1] > 1 else pairs[:, 0]
        return cls(each.mean().item(), (each.std() / len(each) ** 0.5).item())


@dataclass(frozen=True)
class Trace:
    """States along R chains for each of B images; all is in float64 and on the CPU.

    Args:
        steps: Numbers (n,) of the steps after which a state was kept, counted from the start of the short chains.
        values: ``energy`` f_α(z) and, of a posterior, ``log_likelihood`` ℓ(z), each (R, n, B), in nats.
        z: Latents (R, n, B, d).
    """

    steps: Tensor
    values: dict[str, Tensor]
    z: Tensor

    def at(self, chosen: Tensor) -> "Trace":
        """The states that a mask (n,) chooses."""
        return Trace(self.steps[chosen], {k: v[:, chosen] for k, v in self.values.items()}, self.z[:, chosen])

    @cached_property
    def rhat(self) -> dict[str, Tensor]:
        """R-hat (B,) over each image's chains: of the values, and of ``latents`` the largest over coordinates."""
        return {k: split_rhat(v) for k, v in self.values.items()} | {"latents": split_rhat(self.z).amax(-1)}

    @cached_property
    def ess_per_step(self) -> dict[str, Tensor]:
        """Effective sample size (B,) of each image's chains, per chain and step; of ``latents`` the smallest."""
        sizes = {k: effective_sample_size(v) for k, v in self.values.items()}
        sizes["latents"] = effective_sample_size(self.z).amin(-1)
        distance = self.steps[1] - self.steps[0] if len(self.steps) > 1 else self.steps[0]
        return {k: v / (self.z.shape[0] * len(self.steps) * distance) for k, v in sizes.items()}


@dataclass(frozen=True)
class Diagnosis:
    """The chains of one density, on R chains for each of B images.

    Short chains make K steps of the model's own sampler from its own starts (persistent ones from π0, as at a first
    visit). The long chains go on from their ends by the Metropolis-adjusted Langevin algorithm, whose stationary law is
    the density itself; its step size comes from a pilot. The ends of the short chains are compared with the second half
    of the long ones, at states in even distances.

    Args:
        num_steps: K.
        step_size: That of the long chains.
        acceptance: Theirs, over all steps.
        short: The short chains at each step.
        long: The long chains, at steps that are even on a logarithmic axis, and those of ``judged``.
        judged: The second half of the long chains, at even distances.
    """

    num_steps: int
    step_size: float
    acceptance: float
    short: Trace
    long: Trace
    judged: Trace

    def gap(self, name: str) -> Difference:
        """E[short chains' ends] - E[long chains] of a value, paired by image."""
        return Difference.of(self.short.values[name][:, -1] - self.judged.values[name].mean(1))

    def drift(self, name: str) -> Difference:
        """Change of a value from the third quarter of the long chains to the last: of settled chains none."""
        third, last = self.judged.values[name].tensor_split(2, 1)
        return Difference.of(last.mean(1) - third.mean(1))

    def autocorrelation(self, name: str) -> tuple[Tensor, Tensor]:
        """Lags (n,) in steps, and the autocorrelation (n,) of a value over an image's chains, averaged over images."""
        rho = pooled_autocorrelation(self.judged.values[name]).mean(1)
        return (self.judged.steps[1] - self.judged.steps[0]) * torch.arange(len(rho)), rho

    def scalars(self) -> dict[str, float]:
        """What is logged.

            acceptance                      of the long chains
            ess_per_step                    of the long chains: of the worst quantity, the median over images
            rhat, short_rhat                likewise, of the long chains and of all K steps of the short ones
            energy_gap, energy_gap_se       E[f_α] at the short chains' ends minus that of the long chains, in nats
            log_likelihood_gap, ..._se      the same of ℓ; of a posterior only

        The quantities are f_α, ℓ and each coordinate of the latents.
        """
        ess = torch.stack([*self.judged.ess_per_step.values()]).amin(0)
        scalars = {"acceptance": self.acceptance, "ess_per_step": ess.median().item()}
        for name, trace in (("rhat", self.judged), ("short_rhat", self.short)):
            scalars[name] = torch.stack([*trace.rhat.values()]).amax(0).median().item()
        for name in self.short.values:
            gap = self.gap(name)
            scalars |= {f"{name}_gap": gap.mean, f"{name}_gap_se": gap.standard_error}
        return scalars


def diagnose(
    model: LatentEBM,
    x: Tensor,
    stream: Callable[[int], torch.Generator],
    *,
    chains: int = 4,
    long_steps: int = 2_000,
    title: str | None = None,
) -> dict[str, Diagnosis]:
    """Diagnoses the model's chains: ``posterior`` at t = 1 of each image, and ``prior`` with as many chains.

    Short chains are run in the caller's precision, as in training; all else in that of the networks.

    Args:
        model: The model.
        x: Images (B, C, H, W).
        stream: Maps a number to a noise stream.
        chains: Chains R for each image. Those of the prior are R B chains of one density.
        long_steps: Steps of the long chains: 100 K of a posterior with K = 20.
        title: Title of the progress bar; None for no bar.

    Raises:
        ValueError: If the chains or their steps are too few, or no step size is accepted, as where a network is not
            finite.
    """
    if chains < 2 or long_steps < LEAST_STEPS:
        raise ValueError(
            f"Diagnosis: {chains} chains for each image and {long_steps} steps of the long ones; give 2 chains and "
            f"{LEAST_STEPS} steps at least."
        )
    pairs = x.repeat(chains, 1, 1, 1)  # chain by chain: (R B, C, H, W)
    flops = len(pairs) * model.chains.generator_flops
    kernels = model.prior_sampler, model.posterior_sampler
    total = sum(kernel.num_steps + long_steps for kernel in kernels)
    with torch.no_grad(), suitable_threads(flops, x.device), bar(total, title, "step") as progress:
        posterior = _Work(stream(0), stream(1), long_steps, progress)
        prior = _Work(stream(2), stream(3), long_steps, progress)
        return {"posterior": _posterior(model, pairs, len(x), posterior), "prior": _prior(model, len(pairs), prior)}


class _Work(NamedTuple):
    """What the chains of a density need beside it: noise of the short and the long ones."""

    short: torch.Generator
    long: torch.Generator
    long_steps: int
    progress: Bar


def _prior(model: LatentEBM, count: int, work: _Work) -> Diagnosis:
    z = model.sample_reference((count,), work.short)
    target = TemperedPrior(model.prior, z.new_ones(()))
    return _diagnosis(model.prior_sampler, model.prior, target, z, 1, {"energy": model.prior.tilt}, work)


def _posterior(model: LatentEBM, x: Tensor, images: int, work: _Work) -> Diagnosis:
    if model.chain_start == "prior_chain":
        z = model.sample_prior(len(x), work.short).unsqueeze(0)
    else:
        z = model.sample_reference((1, len(x)), work.short)
    t = z.new_ones(1, 1)  # a ladder of one temperature, as every kernel takes it
    as_trained = PowerPosterior(model.prior, rounded(model.likelihood, x.device.type), x, t)
    target = PowerPosterior(model.prior, model.likelihood, x, t)
    values = {"log_likelihood": target.tempered, "energy": model.prior.tilt}
    return _diagnosis(model.posterior_sampler, as_trained, target, z, images, values, work)


def _diagnosis(
    kernel: Kernel, density: Density, target: Tempered, z: Tensor, images: int, values: _Values, work: _Work
) -> Diagnosis:
    """Runs short chains of the kernel on a density, and the long ones on the target, the same in full precision."""
    first, steps = kernel.num_steps, work.long_steps
    distance = -(-steps // (2 * _DRAWS))
    judged = {k for k in range(steps, 0, -distance) if 2 * k > steps}
    spread = {round((1 + steps / first) ** (i / 100) * first) - first for i in range(1, 101)}
    chosen = sorted((judged | spread) - {0})
    own, _ = _run(kernel, density, z, range(1, first + 1), work.short, work.progress)
    with without_autocast(z):
        mala = MALA(kernel.current_step_size(), steps)
        pilot = run_pilot(target, z.new_ones(1), mala, own[-1], work.long, steps=_PILOT)
        mala = mala.tuned(pilot.sizes)
        kept, end = _run(mala, target, own[-1], chosen, work.long, work.progress)
        short = _trace(own, torch.arange(1, first + 1), values, images)
        long = _trace(kept, first + torch.tensor(chosen), values, images)
    acceptance = mala.rates(end, steps)["acceptance"].mean().item()
    even = torch.tensor([k in judged for k in chosen])
    return Diagnosis(first, pilot.sizes.sizes.item(), acceptance, short, long, long.at(even))


def _run(
    kernel: Kernel, density: Density, z: Tensor, chosen: Iterable[int], rng: torch.Generator, progress: Bar
) -> tuple[list[Tensor], Any]:
    """Latents after each of the chosen steps, of which the last ends the chain, and the final state."""
    kept, wanted = [], {*chosen}
    state = kernel.init(density, z)
    shape = *z.shape[:-1], kernel.noise_dim(z.shape[-1])
    for k in range(1, max(wanted) + 1):
        state, _ = kernel.step(density, state, torch.randn(shape, generator=rng, device=z.device, dtype=z.dtype))
        if k in wanted:
            kept.append(state.z)
        progress.update()
    return kept, state


def _trace(kept: list[Tensor], steps: Tensor, values: _Values, images: int) -> Trace:
    def apart(tensors: list[Tensor], *end: int) -> Tensor:
        return torch.stack(tensors).view(len(tensors), -1, images, *end).transpose(0, 1).double().cpu()

    found = {name: apart([value(z) for z in kept]) for name, value in values.items()}
    return Trace(steps, found, apart(kept, kept[0].shape[-1]))
