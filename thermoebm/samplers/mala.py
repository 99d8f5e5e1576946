"""The Metropolis-adjusted Langevin algorithm, and step sizes as a function of the temperature."""

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from thermoebm.densities import Density, Tempered, Terms
from thermoebm.runtime import processes
from thermoebm.samplers.base import Kernel

#: Nothing is learned from step sizes beyond these: the density is flat there, or its networks are not finite.
SMALLEST, LARGEST = 1e-8, 1e3


class StepSizes(NamedTuple):
    """Step sizes s (n,) found at temperatures (n,), ascending; between them log s is linear in t."""

    temperatures: Tensor
    sizes: Tensor

    def at(self, t: Tensor) -> Tensor:
        """s at temperatures of any shape."""
        known, logs = self.temperatures.to(t), self.sizes.to(t).log()
        if len(known) == 1:
            return logs[0].exp().expand(t.shape)
        right = torch.searchsorted(known, t.contiguous()).clamp(1, len(known) - 1)
        share = ((t - known[right - 1]) / (known[right] - known[right - 1])).clamp(0, 1)
        return torch.lerp(logs[right - 1], logs[right], share).exp()


class MALAState(NamedTuple):
    """Latents z (..., d); the density's terms at z; step sizes (..., 1); steps (...) accepted, and not finite."""

    z: Tensor
    terms: Terms
    step_size: Tensor
    accepted: Tensor
    failed: Tensor


class MALAInfo(NamedTuple):
    """Of each chain (...): whether the proposal was accepted, with which probability, and whether it was not finite."""

    accepted: Tensor
    probability: Tensor
    failed: Tensor


def corrected_acceptance(density: Density, z: Tensor, step_size: float, rng: torch.Generator) -> Tensor:
    """Probability (...) with which a step of MALA from each z (..., d) would be accepted; nothing is accepted.

        min(1, p(z') q(z|z') / (p(z) q(z'|z))),  z' = z + s ∇log p(z) + sqrt(2 s) ε,  q the density of such a step

    (Roberts & Tweedie 1996). At the ends of uncorrected chains it says how far a step of theirs is from leaving the
    density as it is.

    Args:
        density: The target.
        z: Latents (..., d).
        step_size: s, in squared units of z.
        rng: Stream of the noise ε.
    """
    mala = MALA(step_size, 1)
    noise = torch.randn((*z.shape[:-1], mala.noise_dim(z.shape[-1])), generator=rng, device=z.device, dtype=z.dtype)
    with torch.no_grad():
        _, info = mala.step(density, mala.init(density, z), noise)
    return info.probability


class AdaptedStep(nn.Module):
    """The logarithm () of a step size that training adapts."""

    log_size: Tensor

    def __init__(self, step_size: float) -> None:
        super().__init__()
        self.register_buffer("log_size", torch.tensor(math.log(step_size)))


class MALA(Kernel):
    """Metropolis-adjusted Langevin algorithm: the step of ULA as a proposal, z' = z + s ∇log q(z) + sqrt(2 s) ε.

    It is accepted with probability min(1, q(z') k(z|z') / (q(z) k(z'|z))), k(z'|z) = N(z'; z + s ∇log q(z), 2 s I), so
    that q itself is the stationary distribution. The last of the d + 1 normal numbers of a step decides: u = Φ(ε).
    A proposal whose log-density is NaN or infinite upwards is rejected, and counted. Log-density and score of the
    current state are kept: a step takes one pass through each network, and back.

    Sources: Besag (1994), JRSS B 56; Roberts & Tweedie (1996), Bernoulli 2. In high dimension the best acceptance is
    0.574 (Roberts & Rosenthal 1998, JRSS B 60); see :func:`thermoebm.samplers.run_pilot`.

    With a ``target_acceptance`` a, the step size follows the model while it learns: after each training step whose
    chains had the mean acceptance A,

        log s ← log s + g (A - a)       (Robbins & Monro 1951, with a constant gain),

    shared by all chains, temperatures and processes; of a ladder, A is that of the last temperature, whose density is
    the narrowest. Within a chain, and in all that does not train, s stays as it is. It is a part of the model and of
    its checkpoints.

    Args:
        step_size: s > 0, in the convention of :class:`thermoebm.samplers.ULA`; where adaptation starts.
        num_steps: Number K of steps in a chain.
        target_acceptance: a in (0, 1), for instance .574; None: the step size stays.
        gain: g > 0. The step size follows within about 1/g training steps.

    Raises:
        ValueError: If the acceptance or the gain is out of its range.
    """

    differentiable = False

    def __init__(
        self, step_size: float, num_steps: int, target_acceptance: float | None = None, gain: float = 0.05
    ) -> None:
        super().__init__(step_size, num_steps)
        if not ((target_acceptance is None or 0 < target_acceptance < 1) and 0 < gain < math.inf):
            raise ValueError(
                f"MALA: target_acceptance is {target_acceptance} and gain {gain}; take an acceptance between 0 and 1, "
                "for instance 0.574, and a positive, finite gain."
            )
        self.target_acceptance = target_acceptance
        self.gain = gain
        self.sizes: StepSizes | None = None
        self.adapted = AdaptedStep(step_size) if target_acceptance is not None else None

    def tuned(self, sizes: StepSizes) -> Self:
        """A copy with step sizes as a function of the density's temperature, in place of the one step size."""
        other = copy.copy(self)
        other.sizes = sizes
        return other

    def current_step_size(self) -> float:
        return self.step_size if self.adapted is None else self.adapted.log_size.exp().item()

    def state(self) -> nn.Module | None:
        return self.adapted

    @torch.no_grad()
    def after_step(self, rates: Mapping[str, Tensor]) -> None:
        if self.adapted is None:
            return
        assert self.target_acceptance is not None
        difference = rates["acceptance"].reshape(-1)[-1] - self.target_acceptance
        difference = processes.mean(difference)
        size = self.adapted.log_size  # in place: recorded chains read it there
        size.add_(self.gain * difference.to(size)).clamp_(math.log(SMALLEST), math.log(LARGEST))

    def noise_dim(self, latent_dim: int) -> int:
        return latent_dim + 1

    def init(self, density: Density, z: Tensor) -> MALAState:
        none = torch.zeros_like(z[..., 0])
        return MALAState(z, density.terms(z), self._sizes(density, z), none, none)

    def step(self, density: Density, state: MALAState, noise: Tensor) -> tuple[MALAState, MALAInfo]:
        epsilon, coin = noise[..., :-1], noise[..., -1]
        z, size = state.z, state.step_size
        log_q, score = density.combine(state.terms)
        proposal = z + size * score + (2 * size).sqrt() * epsilon
        terms = density.terms(proposal)
        proposed, proposed_score = density.combine(terms)
        back = (z - proposal - size * proposed_score).square().sum(-1) / (4 * size.squeeze(-1))
        ratio = proposed - log_q - back + epsilon.square().sum(-1) / 2
        failed = ratio.isnan() | (proposed == math.inf)
        probability = ratio.exp().clamp(max=1).where(~failed, 0)
        accepted = (torch.special.ndtr(coin) < ratio.exp()) & ~failed
        kept = Terms(
            torch.where(accepted, terms.values, state.terms.values),
            torch.where(accepted.unsqueeze(-1), terms.gradients, state.terms.gradients),
        )
        z = torch.where(accepted.unsqueeze(-1), proposal, z)
        state = MALAState(z, kept, size, state.accepted + accepted, state.failed + failed)
        return state, MALAInfo(accepted, probability, failed)

    def moved(self, density: Tempered, state: MALAState) -> MALAState:
        return state._replace(step_size=self._sizes(density, state.z))  # the terms do not depend on the temperature

    def tempered(self, density: Tempered, state: MALAState) -> Tensor:
        return state.terms.values[0]

    def exchanged(self, state: MALAState, take: Callable[[Tensor], Tensor]) -> MALAState:
        values, gradients = state.terms
        terms = Terms(torch.stack([take(v) for v in values]), torch.stack([take(g) for g in gradients]))
        return state._replace(z=take(state.z), terms=terms)

    def rates(self, state: MALAState, num_steps: int) -> dict[str, Tensor]:
        return {"acceptance": state.accepted / num_steps, "not_finite": state.failed / num_steps}

    def _sizes(self, density: Any, z: Tensor) -> Tensor:
        """Step sizes (..., 1) of latents z (..., d)."""
        if self.adapted is not None and self.sizes is None:
            return self.adapted.log_size.exp().to(z).expand_as(z[..., :1])
        if self.sizes is None:
            return torch.full_like(z[..., :1], self.step_size)
        t = density.t if isinstance(density, Tempered) else z.new_ones(())
        return self.sizes.at(torch.as_tensor(t).to(z)).unsqueeze(-1).expand_as(z[..., :1])
